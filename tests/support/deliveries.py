"""Webhooks, their deliveries and who sends them, for tests."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from aiohttp.abc import AbstractResolver

from ains.db import webhooks
from ains.db.pool import Database
from ains.domain.addresses import parse_networks
from ains.domain.ids import uuid7
from ains.domain.webhooks import EVENTS, new_secret
from ains.workers.runner import Worker, Workers
from ains.workers.wakeup import Wakeup
from ains.workers.webhooks import DeliveryOptions, WebhookSender

SECRET = new_secret(bytes(24))
LOOPBACK = parse_networks(["127.0.0.0/8"])
FAST = DeliveryOptions(allowed=LOOPBACK, delays=(0.05,) * 30, timeout=1.0, poll_interval=0.05)
"""Tries again soon, and often enough for whatever a test puts in the way."""


async def subscribe(pool: Database, url: str, agent: str = "a", host: str = "127.0.0.1") -> Any:
    """A webhook for all events of the agent's tasks; returns its id."""
    row = await webhooks.register(
        pool, uuid7(), agent_id=agent, url=url, host=host, events=EVENTS, secret=SECRET
    )
    return row["webhook_id"]


async def submit(db: asyncpg.Connection, count: int = 1, agent: str = "a") -> None:
    """Tasks of the agent's, each of which is an event for its webhooks."""
    await db.execute(
        "INSERT INTO tasks (client_id, task_type, capability_required)"
        " SELECT $2, 't', 'x' FROM generate_series(1, $1)",
        count,
        agent,
    )


@asynccontextmanager
async def worker(
    pool: Database, options: DeliveryOptions = FAST, resolver: AbstractResolver | None = None
) -> AsyncIterator[None]:
    """A worker of its own that delivers, as each process has one."""
    wakeup = Wakeup()
    sender = WebhookSender(pool, options, wake=wakeup, resolver=resolver)
    workers = Workers([Worker("webhooks", sender.step, wakeup)])
    workers.start()
    try:
        yield
    finally:
        await workers.stop(1)
        await sender.close()


async def claim_one(pool: Database, lease: float = 60) -> webhooks.Claimed:
    """Take the next delivery as a worker does, without sending it."""
    [claimed] = await webhooks.claim(pool, lease=lease, per_host=1, busy={}, limit=1)
    return claimed


def statuses(db: asyncpg.Connection) -> Callable[[], Awaitable[Counter[str]]]:
    """Counts the deliveries of each status."""

    async def count() -> Counter[str]:
        rows = await db.fetch("SELECT status, count(*) AS n FROM webhook_deliveries GROUP BY 1")
        return Counter({row["status"]: row["n"] for row in rows})

    return count


async def ended(db: asyncpg.Connection) -> bool:
    """Whether no delivery is pending."""
    return not (await statuses(db)())["pending"]


def attempted(db: asyncpg.Connection, count: int = 1) -> Callable[[], Awaitable[bool]]:
    """Tells whether there have been that many attempts."""

    async def found() -> bool:
        return bool(await db.fetchval("SELECT count(*) >= $1 FROM webhook_attempts", count))

    return found


async def metric(db: asyncpg.Connection, family: str, label: str = "") -> int:
    """What a family has counted with this result or outcome, from the ledger."""
    value: int = await db.fetchval(
        "SELECT coalesce(sum(n), 0)::bigint FROM metrics.series WHERE family = $1 AND label_2 = $2",
        family,
        label,
    )
    return value


async def balanced(db: asyncpg.Connection) -> int:
    """Successes of attempts and deliveries, which are equally many."""
    attempts = await metric(db, "ains_webhook_attempts_total", "success")
    assert attempts == await metric(db, "ains_webhook_deliveries_total", "success")
    rows = await db.fetchval("SELECT count(*) FROM webhook_attempts WHERE outcome = 'success'")
    assert attempts == rows
    pending = await db.fetchval("SELECT count(*) FROM webhook_deliveries WHERE status = 'pending'")
    assert await metric(db, "ains_webhook_deliveries_pending") == pending
    return attempts
