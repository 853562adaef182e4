"""The events of one task arrive in the order in which they happened."""

import json

import asyncpg
import pytest
from standardwebhooks import Webhook

from ains.db import webhooks
from ains.db.pool import Database
from tests.support.databases import eventually
from tests.support.deliveries import SECRET, attempted, ended, submit, subscribe, worker
from tests.support.receiver import Receiver


async def test_events_of_one_task_arrive_in_order(
    pool: Database, db: asyncpg.Connection, receiver: Receiver
) -> None:
    await subscribe(pool, receiver.url)
    await submit(db, 20)
    await db.execute("UPDATE tasks SET status = 'ASSIGNED', assigned_agent_id = 'b'")
    await db.execute("UPDATE tasks SET status = 'ACTIVE', started_at = now()")
    await db.execute("UPDATE tasks SET status = 'COMPLETED'")
    async with worker(pool), worker(pool):
        await eventually(lambda: ended(db))
    verify = Webhook(SECRET).verify
    seen: dict[str, list[str]] = {}
    for headers, body in receiver.got:
        event = verify(body, headers)
        seen.setdefault(event["data"]["task_id"], []).append(event["type"])
    order = ["task.created", "task.assigned", "task.started", "task.completed"]
    assert list(seen.values()) == [order] * 20


async def test_events_wait_for_the_first_one_that_is_being_retried(
    pool: Database, db: asyncpg.Connection, receiver: Receiver
) -> None:
    receiver.status = 500
    await subscribe(pool, receiver.url)
    await submit(db)
    await db.execute("UPDATE tasks SET status = 'ASSIGNED', assigned_agent_id = 'b'")
    await db.execute("UPDATE tasks SET status = 'ACTIVE', started_at = now()")
    async with worker(pool):
        await eventually(attempted(db, 3))
        receiver.status = 200
        await eventually(lambda: ended(db))
    types = [json.loads(body)["type"] for _, body in receiver.got]
    assert types[:-2] == ["task.created"] * (len(types) - 2)
    assert types[-2:] == ["task.assigned", "task.started"]
    assert len(types) >= 6


async def test_events_that_wait_behind_another_are_not_in_the_way(
    pool: Database, db: asyncpg.Connection, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a claim looks at; when the first of them has arrived the others follow at once."""
    monkeypatch.setattr(webhooks, "_LOOKED_AT", 5)
    await subscribe(pool, receiver.url)
    await submit(db)
    await db.execute(
        "INSERT INTO webhook_deliveries (webhook_id, host, event_type, subject_id, payload)"
        " SELECT webhook_id, host, event_type, subject_id, i::text"
        "   FROM webhook_deliveries, generate_series(1, 23) AS i"
    )
    await db.execute(
        "UPDATE webhook_deliveries SET next_attempt_at = now() + interval '1 hour'"
        " WHERE sequence = (SELECT min(sequence) FROM webhook_deliveries)"
    )
    await submit(db)
    async with worker(pool):

        async def delivered() -> bool:
            return len(receiver.got) == 1

        await eventually(delivered)
        due = "SELECT count(*) FROM webhook_deliveries WHERE next_attempt_at <= now()"
        assert await db.fetchval(due) <= 5
        await db.execute(
            "UPDATE webhook_deliveries SET next_attempt_at = now()"
            " WHERE next_attempt_at > now() + interval '59 minutes'"
        )
        await eventually(lambda: ended(db))
    assert [body for _, body in receiver.got[2:]] == [b"%d" % i for i in range(1, 24)]
