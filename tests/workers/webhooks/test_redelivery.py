"""What is sent again by hand counts again, and outlives its subscription."""

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


async def test_redelivery_counts_again_and_stays_balanced(
    pool: Database, db: asyncpg.Connection, receiver: Receiver
) -> None:
    webhook = await subscribe(pool, receiver.url)
    await submit(db)
    async with worker(pool):
        await eventually(lambda: ended(db))
        delivery = await db.fetchval("SELECT delivery_id FROM webhook_deliveries")
        again = await webhooks.redeliver(pool, webhook, delivery)
        assert again["status"] == "pending"
        await eventually(lambda: ended(db))
    assert len(receiver.got) == 2
    assert await metric(db, "ains_webhook_deliveries_total", "success") == 2
    assert await metric(db, "ains_webhook_attempts_total", "success") == 2


@pytest.mark.parametrize("reason", ["deleted", "gone"])
async def test_redelivery_is_tried_although_the_subscription_has_ended(
    pool: Database, db: asyncpg.Connection, receiver: Receiver, reason: str
) -> None:
    webhook = await subscribe(pool, receiver.url)
    await submit(db, 3)
    if reason == "deleted":
        await webhooks.deactivate(pool, webhook, "a")
    receiver.status = 410
    async with worker(pool):
        await eventually(lambda: ended(db))
        assert await db.fetchval("SELECT inactive_reason FROM webhooks") == reason
        before = len(receiver.got)
        receiver.status = 500
        delivery = await db.fetchval("SELECT max(delivery_id::text)::uuid FROM webhook_deliveries")
        await webhooks.redeliver(pool, webhook, delivery)

        async def tried_again() -> bool:
            return len(receiver.got) >= before + 3

        await eventually(tried_again)
        receiver.status = 200
        await eventually(lambda: ended(db))
    assert await statuses(db)() == {"failed": 2, "success": 1}
    assert await balanced(db) == 1


async def test_end_of_a_subscription_leaves_what_was_redelivered_by_hand(
    pool: Database, db: asyncpg.Connection, receiver: Receiver
) -> None:
    webhook = await subscribe(pool, receiver.url)
    await submit(db, 3)
    first = await claim_one(pool)
    other = await db.fetchval(
        "SELECT delivery_id FROM webhook_deliveries WHERE delivery_id <> $1 LIMIT 1",
        first.delivery_id,
    )
    await webhooks.redeliver(pool, webhook, other)
    assert await webhooks.finish(pool, first, webhooks.Attempt("http_error", 1, 410), 60)
    assert await statuses(db)() == {"failed": 2, "pending": 1}
    await webhooks.deactivate(pool, webhook, "a")
    assert await statuses(db)() == {"failed": 3}
    assert await balanced(db) == 0
