"""Runnable tasks get to agents, each to one."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from ains.db import dispatch
from ains.db.dispatch import Assigned
from ains.db.pool import Database
from ains.db.statements import Statements
from ains.workers.dispatcher import Dispatcher
from tests.support.rows import add_agent, add_task, status

TTL = timedelta(seconds=60)


@pytest.fixture
async def database(service_url: str) -> AsyncIterator[Database]:
    made = Database(service_url, max_size=8)
    yield made
    await made.close()


async def test_assigns_every_capability_and_then_sleeps(
    database: Database, db: asyncpg.Connection
) -> None:
    await add_agent(db, "a", tags=["x", "Y"])
    tasks = [await add_task(db, capability_required=name) for name in ("x", "y", "x")]
    assert await Dispatcher(database, TTL, interval=7).step() == 7
    assert [await status(db, task) for task in tasks] == ["ASSIGNED"] * 3


async def test_says_when_it_has_assigned_something(
    database: Database, db: asyncpg.Connection
) -> None:
    told: list[None] = []
    dispatcher = Dispatcher(database, TTL, 7, lambda: told.append(None))
    await add_task(db)
    await dispatcher.step()
    assert not told
    await add_agent(db)
    await dispatcher.step()
    assert len(told) == 1
    await dispatcher.step()
    assert len(told) == 1


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


async def test_tasks_that_nobody_is_trusted_with_are_in_nobodys_way(
    database: Database, db: asyncpg.Connection
) -> None:
    await add_agent(db, trust_score=0.2)
    await db.execute(
        "INSERT INTO tasks (client_id, task_type, capability_required, routing_strategy, priority)"
        " SELECT 'c', 't', 'x', 'trust_weighted', 10 FROM generate_series(1, 600)"
    )
    task = await add_task(db, priority=1)
    await Dispatcher(database, TTL, interval=7).step()
    assert await status(db, task) == "ASSIGNED"
    assert await db.fetchval("SELECT count(*) FROM tasks WHERE status = 'ASSIGNED'") == 1


async def test_many_dispatchers_assign_each_task_once(
    database: Database, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    assigned: list[int] = []
    real = dispatch.assign

    async def assign(statements: Statements, capability: str, _: int, ttl: timedelta) -> Assigned:
        done = await real(statements, capability, 50, ttl)
        assigned.append(done.assigned)
        return done

    monkeypatch.setattr(dispatch, "assign", assign)
    for agent in "abcd":
        await add_agent(db, agent)
    await db.execute(
        "INSERT INTO tasks (client_id, task_type, capability_required, routing_strategy)"
        " SELECT 'c', 't', 'x', (ARRAY['round_robin', 'least_loaded', 'trust_weighted'])[1 + i % 3]"
        "   FROM generate_series(1, 3000) AS i"
    )

    async def work() -> None:
        dispatcher = Dispatcher(database, TTL, interval=1)
        for _ in range(40):
            await dispatcher.step()

    async with asyncio.timeout(20):
        await asyncio.gather(*(work() for _ in range(4)))
    # Assigned anew is no fact of the ledger, so the statements' own answers are counted.
    assert sum(assigned) == 3000
    assert await db.fetchval("SELECT count(*) FROM tasks WHERE status = 'ASSIGNED'") == 3000
