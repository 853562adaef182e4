"""Subscriptions end, are given up or deleted, and what waited for them is pending no more."""

import asyncio

import asyncpg
import pytest

from ains.db import webhooks
from ains.db.pool import Database
from tests.support.databases import eventually
from tests.support.deliveries import (
    balanced,
    claim_one,
    ended,
    metric,
    statuses,
    submit,
    subscribe,
    worker,
)
from tests.support.receiver import Receiver


async def test_gone_ends_the_subscription_and_what_waits_for_it(
    pool: Database, db: asyncpg.Connection, receiver: Receiver
) -> None:
    receiver.status = 410
    webhook = await subscribe(pool, receiver.url)
    await submit(db, 40)
    async with worker(pool):
        await eventually(lambda: ended(db))
    assert not (await webhooks.show(pool, webhook))["active"]
    assert await statuses(db)() == {"failed": 40}
    assert len(receiver.got) < 40
    await submit(db)
    assert sum((await statuses(db)()).values()) == 40


async def test_endpoint_that_fails_for_days_is_given_up(
    pool: Database, db: asyncpg.Connection, receiver: Receiver
) -> None:
    receiver.status = 503
    webhook = await subscribe(pool, receiver.url)
    await db.execute("UPDATE webhooks SET failing_since = now() - interval '5 days 1 second'")
    await submit(db)
    async with worker(pool):
        await eventually(lambda: ended(db))
    assert not (await webhooks.show(pool, webhook))["active"]
    assert await db.fetchval("SELECT inactive_reason FROM webhooks") == "failing"


async def test_event_that_commits_after_the_end_of_its_subscription_is_not_sent(
    pool: Database, db: asyncpg.Connection, receiver: Receiver, database_url: str
) -> None:
    webhook = await subscribe(pool, receiver.url)
    late = await asyncpg.connect(database_url)
    try:
        async with late.transaction():
            await submit(late, 2)
            await webhooks.deactivate(pool, webhook, "a")
    finally:
        await late.close()
    assert await statuses(db)() == {"pending": 2}
    async with worker(pool):
        await eventually(lambda: ended(db))
    assert await statuses(db)() == {"failed": 2}
    assert await metric(db, "ains_webhook_deliveries_total", "failed") == 2
    assert receiver.got == []
    assert await balanced(db) == 0


async def test_endpoint_is_given_up_together_with_all_that_waits_for_it(
    pool: Database, db: asyncpg.Connection, receiver: Receiver
) -> None:
    """Also by several attempts at once, of which none waits for another for ever."""
    await subscribe(pool, receiver.url)
    await submit(db, 60)
    claimed = await webhooks.claim(pool, lease=60, per_host=8, busy={}, limit=99)
    gone = webhooks.Attempt("http_error", 1, 410)
    finished = await asyncio.gather(*[webhooks.finish(pool, each, gone, 60) for each in claimed])
    assert len(finished) == 8
    assert sum(finished) == 1
    assert await statuses(db)() == {"failed": 60}
    assert await metric(db, "ains_webhook_attempts_total", "http_error") == 8


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM webhook_deliveries",
        "DELETE FROM webhooks",
        "TRUNCATE webhook_deliveries CASCADE",
        "TRUNCATE webhooks CASCADE",
        "TRUNCATE agents CASCADE",
    ],
)
async def test_deliveries_that_are_taken_away_are_pending_no_more(
    pool: Database, db: asyncpg.Connection, receiver: Receiver, statement: str
) -> None:
    await subscribe(pool, receiver.url)
    await submit(db, 5)
    assert await webhooks.finish(pool, await claim_one(pool), webhooks.Attempt("success", 1), 60)
    assert await metric(db, "ains_webhook_deliveries_pending") == 4
    await db.execute(statement)
    assert await metric(db, "ains_webhook_deliveries_pending") == 0
    assert await metric(db, "ains_webhook_deliveries_total", "success") == 1
    assert await metric(db, "ains_webhook_deliveries_total", "failed") == 0
