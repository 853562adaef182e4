"""What is sent, what may come back or not, and when it is tried again."""

import socket

import asyncpg
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from standardwebhooks import Webhook

from ains.db.pool import Database
from ains.workers.webhooks import DeliveryOptions
from tests.support.databases import eventually
from tests.support.deliveries import (
    LOOPBACK,
    SECRET,
    attempted,
    ended,
    metric,
    statuses,
    submit,
    subscribe,
    worker,
)
from tests.support.receiver import Receiver


async def test_every_delivery_verifies_and_keeps_the_bytes(
    pool: Database, db: asyncpg.Connection, receiver: Receiver
) -> None:
    await subscribe(pool, receiver.url)
    await db.execute(
        "INSERT INTO tasks (client_id, task_type, capability_required) VALUES ('a', $1, 'x')",
        'Käse "\n\\ 🧀',
    )
    async with worker(pool):
        await eventually(lambda: ended(db))
    headers, body = receiver.got[0]
    event = Webhook(SECRET).verify(body, headers)
    assert event["type"] == "task.created"
    assert event["data"]["task_type"] == 'Käse "\n\\ 🧀'
    assert await metric(db, "ains_webhook_deliveries_total", "success") == 1
    assert await metric(db, "ains_webhook_attempts_total", "success") == 1
    assert await metric(db, "ains_webhook_deliveries_pending") == 0
    kept = await db.fetchval("SELECT response_body FROM webhook_attempts")
    assert kept == "x" * 1024


async def test_receiver_that_dies_and_comes_back_gets_everything(
    pool: Database, db: asyncpg.Connection, receiver: Receiver
) -> None:
    await subscribe(pool, receiver.url)
    await submit(db, 30)
    await receiver.stop()

    async def refused() -> bool:
        return await metric(db, "ains_webhook_attempts_total", "connect_error") > 0

    async with worker(pool):
        await eventually(refused)
        await receiver.start(receiver.port)
        await eventually(lambda: ended(db))
    assert await statuses(db)() == {"success": 30}
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 30
    assert await metric(db, "ains_webhook_deliveries_total", "success") == 30
    assert await metric(db, "ains_webhook_attempts_total", "success") == 30


async def test_retries_are_used_up_and_counted(
    pool: Database, db: asyncpg.Connection, receiver: Receiver
) -> None:
    receiver.status = 500
    await subscribe(pool, receiver.url)
    await submit(db)
    options = DeliveryOptions(allowed=LOOPBACK, delays=(0.01, 0.01), poll_interval=0.02)
    async with worker(pool, options):
        await eventually(lambda: ended(db))
    assert await statuses(db)() == {"failed": 1}
    assert await metric(db, "ains_webhook_attempts_total", "http_error") == len(receiver.got) == 3
    assert await metric(db, "ains_webhook_deliveries_total", "failed") == 1


async def test_redirect_is_not_followed(
    pool: Database, db: asyncpg.Connection, receiver: Receiver
) -> None:
    receiver.status, receiver.headers = 307, {"Location": receiver.url}
    await subscribe(pool, receiver.url)
    await submit(db)
    async with worker(pool, DeliveryOptions(allowed=LOOPBACK, delays=(), poll_interval=0.02)):
        await eventually(lambda: ended(db))
    assert len(receiver.got) == 1
    assert await statuses(db)() == {"failed": 1}


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [
        ("3600", 3500, 3600),
        ("-5", 0, 0.1),
        ("9" * 400, 86_300, 86_400),
        ("9" * 5000, 0, 0.1),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 86_300, 86_400),
        ("Mon, 01 Jan 2024 00:00:00 GMT", 0, 0.1),
        ("Mon, 01 Jan 2024 00:00:00 +999999999999999", 0, 0.1),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 0, 0.1),
        ("Fri, 31 Dec 99999999999999999999 00:00:00 GMT", 0, 0.1),
        ("soon", 0, 0.1),
        ("", 0, 0.1),
    ],
)
async def test_retry_after_is_honoured_as_far_as_it_makes_sense(
    pool: Database,
    db: asyncpg.Connection,
    receiver: Receiver,
    asked: str,
    least: float,
    most: float,
) -> None:
    receiver.status, receiver.headers = 429, {"Retry-After": asked}
    await subscribe(pool, receiver.url)
    await submit(db)
    async with worker(pool, DeliveryOptions(allowed=LOOPBACK, delays=(0.05,), poll_interval=0.02)):
        await eventually(attempted(db))
    wait = await db.fetchval(
        "SELECT extract(epoch FROM coalesce(d.next_attempt_at, a.attempted_at) - a.attempted_at"
        " - a.duration_us * interval '1 us')::float"
        "  FROM webhook_deliveries AS d JOIN webhook_attempts AS a USING (delivery_id)"
        " ORDER BY a.attempt_id LIMIT 1"
    )
    # The attempt is dated by the worker's clock, the next one by the database's.
    assert least - 0.1 <= wait <= most + 1


class Broken(AbstractResolver):
    """Fails as nobody has foreseen."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        raise ZeroDivisionError(f"{host} \0 \ud800")

    async def close(self) -> None:
        pass


async def test_unforeseen_trouble_is_a_failed_attempt(
    pool: Database, db: asyncpg.Connection
) -> None:
    await subscribe(pool, "http://broken.example/hook", host="broken.example")
    await submit(db)
    options = DeliveryOptions(delays=(0.01,), poll_interval=0.02)
    async with worker(pool, options, Broken()):
        await eventually(lambda: ended(db))
    assert await statuses(db)() == {"failed": 1}
    assert await metric(db, "ains_webhook_attempts_total", "connect_error") == 2
    error = await db.fetchval("SELECT last_error FROM webhook_deliveries")
    assert error.startswith("ZeroDivisionError: broken.example")


async def test_no_answer_in_time_is_a_timeout(
    pool: Database, db: asyncpg.Connection, receiver: Receiver
) -> None:
    assert DeliveryOptions().timeout == 15
    receiver.hang = True
    await subscribe(pool, receiver.url)
    await submit(db)
    options = DeliveryOptions(allowed=LOOPBACK, delays=(), timeout=0.3, poll_interval=0.02)
    async with worker(pool, options):
        await eventually(lambda: ended(db))
    row = await db.fetchrow("SELECT outcome, duration_us, error FROM webhook_attempts")
    assert row is not None
    assert (row["outcome"], row["error"]) == ("timeout", "no answer within 0.3 s")
    assert 300_000 <= row["duration_us"] < 1_500_000
    assert await metric(db, "ains_webhook_attempts_total", "timeout") == 1
