"""Each delivery is one worker's at a time, and every attempt counts, also a late one."""

import asyncio

import asyncpg
import pytest

from ains.db import webhooks
from ains.db.pool import Database
from ains.domain.webhooks import Outcome
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


async def test_lease_of_a_dead_worker_runs_out(
    pool: Database, db: asyncpg.Connection, receiver: Receiver
) -> None:
    await subscribe(pool, receiver.url)
    await submit(db)
    claimed = await webhooks.claim(pool, lease=0.3, per_host=9, busy={}, limit=9)
    assert len(claimed) == 1
    assert await webhooks.claim(pool, lease=0.3, per_host=9, busy={}, limit=9) == []
    async with worker(pool):
        await eventually(lambda: ended(db))
    assert len(receiver.got) == 1
    # The dead one comes back and reports: it counts for nothing.
    late = await webhooks.finish(pool, claimed[0], webhooks.Attempt("success", 1), 60)
    assert not late
    assert await metric(db, "ains_webhook_attempts_total", "success") == 1


async def test_two_workers_send_nothing_twice(
    pool: Database, db: asyncpg.Connection, receiver: Receiver
) -> None:
    await subscribe(pool, receiver.url)
    await submit(db, 200)
    async with worker(pool), worker(pool), worker(pool):
        await eventually(lambda: ended(db))
    assert len(receiver.got) == 200
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 200


async def test_failures_of_one_webhook_and_its_successes_do_not_deadlock(
    pool: Database, db: asyncpg.Connection, receiver: Receiver
) -> None:
    await subscribe(pool, receiver.url)
    await submit(db, 200)
    ok, bad = webhooks.Attempt("success", 1, 200), webhooks.Attempt("timeout", 1, retry_in=60)
    for _ in range(8):
        claimed = await webhooks.claim(pool, lease=60, per_host=24, busy={}, limit=99)
        results = [ok if number % 3 else bad for number in range(len(claimed))]
        async with asyncio.timeout(5):
            finished = await asyncio.gather(
                *[
                    webhooks.finish(pool, each, result, 999)
                    for each, result in zip(claimed, results, strict=True)
                ]
            )
        assert all(finished)
    assert await balanced(db) == 8 * 16


@pytest.mark.parametrize("meanwhile", ["redelivered", "deleted", "leased by another"])
@pytest.mark.parametrize("outcome", ["success", "timeout"])
async def test_attempt_that_lost_its_lease_counts(
    pool: Database, db: asyncpg.Connection, receiver: Receiver, meanwhile: str, outcome: Outcome
) -> None:
    webhook = await subscribe(pool, receiver.url)
    await submit(db)
    claimed = await claim_one(pool, lease=0.01)
    other: webhooks.Claimed | None = None
    if meanwhile == "redelivered":
        await webhooks.redeliver(pool, webhook, claimed.delivery_id)
    elif meanwhile == "deleted":
        await webhooks.deactivate(pool, webhook, "a")
    else:
        await asyncio.sleep(0.02)
        other = await claim_one(pool)
    attempt = webhooks.Attempt(outcome, 1, retry_in=None if outcome == "success" else 60)
    assert not await webhooks.finish(pool, claimed, attempt, 60)
    assert await metric(db, "ains_webhook_attempts_total", outcome) == 1
    await balanced(db)
    if other is not None:
        held = await webhooks.finish(pool, other, webhooks.Attempt("success", 1), 60)
        assert held == (outcome == "timeout")
    if outcome == "success" or other is not None:
        assert await statuses(db)() == {"success": 1}
        assert await balanced(db) == 1
    else:
        expected = "failed" if meanwhile == "deleted" else "pending"
        assert await statuses(db)() == {expected: 1}
