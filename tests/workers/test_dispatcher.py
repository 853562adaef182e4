"""Runnable tasks get to agents, each to one."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from ains.db.pool import Database
from ains.workers.dispatcher import Dispatcher
from tests.support.rows import add_agent, add_task, status

TTL = timedelta(seconds=60)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    made = Database(database_url, max_size=8)
    yield made
    await made.close()


async def test_assigns_every_capability_and_then_sleeps(
    database: Database, db: asyncpg.Connection
) -> None:
    await add_agent(db, "a", tags=["x", "Y"])
    tasks = [await add_task(db, capability_required=name) for name in ("x", "y", "x")]
    assert await Dispatcher(database, TTL, interval=7).step() == 7
    assert [await status(db, task) for task in tasks] == ["ASSIGNED"] * 3


async def test_leaves_what_nobody_can_take(database: Database, db: asyncpg.Connection) -> None:
    await add_agent(db, "busy", status="BUSY")
    await add_agent(db, "silent", silent=61)
    await add_agent(db, "other", tags=["y"])
    task = await add_task(db)
    assert await Dispatcher(database, TTL, interval=7).step() == 7
    assert await status(db, task) == "PENDING"


async def test_full_batch_is_followed_by_another(
    database: Database, db: asyncpg.Connection
) -> None:
    await add_agent(db)
    await db.execute(
        "INSERT INTO tasks (client_id, task_type, capability_required)"
        " SELECT 'c', 't', 'x' FROM generate_series(1, 501)"
    )
    dispatcher = Dispatcher(database, TTL, interval=7)
    assert await dispatcher.step() == 0
    assert await dispatcher.step() == 7
    assert await db.fetchval("SELECT count(*) FROM tasks WHERE status = 'ASSIGNED'") == 501


async def test_many_dispatchers_assign_each_task_once(
    database: Database, db: asyncpg.Connection
) -> None:
    for agent in "abcd":
        await add_agent(db, agent)
    await db.execute(
        "INSERT INTO tasks (client_id, task_type, capability_required, routing_strategy)"
        " SELECT 'c', 't', 'x', (ARRAY['round_robin', 'least_loaded', 'trust_weighted'])[1 + i % 3]"
        "   FROM generate_series(1, 3000) AS i"
    )

    async def work() -> None:
        dispatcher = Dispatcher(database, TTL, interval=1)
        while await db_pending() and await dispatcher.step() >= 0:
            pass

    async def db_pending() -> int:
        async with database.acquire() as connection:
            count: int = await connection.fetchval(
                "SELECT count(*) FROM tasks WHERE status = 'PENDING'"
            )
            return count

    async with asyncio.timeout(20):
        await asyncio.gather(*(work() for _ in range(4)))
    assigned = "SELECT count(*) AS n, count(DISTINCT task_id) AS tasks FROM task_events"
    row = await db.fetchrow(f"{assigned} WHERE event = 'assigned'")
    assert row is not None
    assert (row["n"], row["tasks"]) == (3000, 3000)
