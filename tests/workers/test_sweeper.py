"""What is overdue ends, when it is due."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from ains.db import sweeps
from ains.db.pool import Database
from ains.workers.runner import Worker, Workers
from ains.workers.sweeper import Sweeper
from tests.support.databases import eventually
from tests.support.rows import add_agent, add_task, events, status

TTL = timedelta(seconds=60)


@pytest.fixture
async def database(service_url: str) -> AsyncIterator[Database]:
    made = Database(service_url)
    yield made
    await made.close()


@pytest.fixture
def woken() -> list[None]:
    return []


@pytest.fixture
def sweeper(database: Database, woken: list[None]) -> Sweeper:
    return Sweeper(database, TTL, 30, lambda: woken.append(None))


@pytest.mark.parametrize(
    "task",
    [
        {"in_expires_at": -1},
        {"status": "ACTIVE", "assigned_agent_id": "a", "in_deadline_at": -1},
        {"status": "ACTIVE", "assigned_agent_id": "a", "retry_count": 0, "max_retries": 0},
    ],
    ids=["expired", "timed out", "of a lost agent"],
)
async def test_says_when_something_has_ended(
    database: Database, db: asyncpg.Connection, task: dict[str, Any]
) -> None:
    told: list[None] = []
    sweeper = Sweeper(database, TTL, 30, lambda: None, lambda: told.append(None))
    await sweeper.step()
    assert not told
    await add_agent(db, "a", silent=200)
    await add_task(db, **task)
    sweeper = Sweeper(database, TTL, 30, lambda: None, lambda: told.append(None))
    await sweeper.step()
    assert told


async def test_nothing_due_means_sleep(sweeper: Sweeper) -> None:
    assert await sweeper.step() == 30


async def test_sleeps_until_the_next_is_due(sweeper: Sweeper, db: asyncpg.Connection) -> None:
    await add_task(db, in_expires_at=20)
    assert 19 < await sweeper.step() <= 20
    await add_task(db, in_next_retry_at=10, retry_count=1)
    assert 9 < await sweeper.step() <= 10
    await add_task(db, status="ACTIVE", assigned_agent_id=await add_agent(db), in_deadline_at=5)
    assert 4 < await sweeper.step() <= 5


async def test_due_retry_becomes_runnable_and_wakes_the_dispatcher(
    sweeper: Sweeper, woken: list[None], db: asyncpg.Connection
) -> None:
    task = await add_task(db, in_next_retry_at=-1, retry_count=1)
    await sweeper.step()
    assert await db.fetchval("SELECT next_retry_at FROM tasks WHERE task_id = $1", task) is None
    assert woken


async def test_overdue_attempt_times_out(sweeper: Sweeper, db: asyncpg.Connection) -> None:
    agent = await add_agent(db)
    overdue = {"status": "ACTIVE", "assigned_agent_id": agent, "in_deadline_at": -1}
    retried = await add_task(db, **overdue)
    failed = await add_task(db, **overdue, max_retries=0)
    assert await sweeper.step() <= 2, "the retry is due in two seconds"
    assert await status(db, retried) == "PENDING"
    assert await status(db, failed) == "FAILED"
    assert await db.fetchval("SELECT value FROM metrics.ains_task_timeouts_total") == 2


async def test_expired_task_fails(sweeper: Sweeper, db: asyncpg.Connection) -> None:
    task = await add_task(db, in_expires_at=-1)
    await sweeper.step()
    row = await db.fetchrow("SELECT status, failure_reason FROM tasks WHERE task_id = $1", task)
    assert row is not None
    assert tuple(row) == ("FAILED", "expired")


async def test_lost_agent_loses_its_tasks(
    sweeper: Sweeper, woken: list[None], db: asyncpg.Connection
) -> None:
    agent = await add_agent(db, silent=61)
    waiting = await add_task(db, status="ASSIGNED", assigned_agent_id=agent)
    running = await add_task(db, status="ACTIVE", assigned_agent_id=agent)
    await sweeper.step()
    assert await db.fetchval("SELECT status FROM agents") == "INACTIVE"
    assert (await events(db, waiting))[-1] == "requeued"
    assert (await events(db, running))[-1] == "retried"
    assert woken


async def test_agents_are_looked_at_less_often_than_deadlines(
    database: Database, db: asyncpg.Connection
) -> None:
    now = 0.0
    sweeper = Sweeper(database, TTL, 1, lambda: None, clock=lambda: now)
    await sweeper.step()
    await add_agent(db, silent=61)
    await sweeper.step()
    assert await db.fetchval("SELECT status FROM agents") == "AVAILABLE"
    now = 2.1
    await sweeper.step()
    assert await db.fetchval("SELECT status FROM agents") == "INACTIVE"


async def test_row_that_somebody_has_locked_is_not_hammered(
    sweeper: Sweeper, db: asyncpg.Connection
) -> None:
    await add_task(db, in_expires_at=-10)
    async with db.transaction():
        await db.execute("SELECT FROM tasks FOR UPDATE")
        assert await sweeper.step() == 0.1
    assert await sweeper.step() == 30


async def test_full_batch_is_followed_by_another(sweeper: Sweeper, db: asyncpg.Connection) -> None:
    await db.execute(
        "INSERT INTO tasks (client_id, task_type, capability_required, expires_at)"
        " SELECT 'c', 't', 'x', now() - interval '1 s' FROM generate_series(1, 501)"
    )
    assert await sweeper.step() == 0
    assert await sweeper.step() == 30


async def test_deadline_is_kept_to_the_moment_though_the_interval_is_long(
    database: Database, db: asyncpg.Connection
) -> None:
    agent = await add_agent(db)
    task = await add_task(
        db, status="ACTIVE", assigned_agent_id=agent, in_deadline_at=0.3, max_retries=0
    )
    sweeper = Sweeper(database, TTL, 60, lambda: None)
    workers = Workers([Worker("sweeper", sweeper.step)])
    workers.start()

    async def failed() -> bool:
        return await status(db, task) == "FAILED"

    await eventually(failed, seconds=10)
    await workers.stop(5)
    late = "SELECT extract(epoch FROM completed_at - created_at) - 0.3 FROM tasks"
    assert 0 <= await db.fetchval(late) < 0.25


@pytest.mark.parametrize(("end", "then"), [("COMPLETED", "PENDING"), ("FAILED", "FAILED")])
async def test_task_that_a_stricter_transaction_overlooked_is_settled(
    sweeper: Sweeper,
    woken: list[None],
    database: Database,
    db: asyncpg.Connection,
    service_url: str,
    end: str,
    then: str,
) -> None:
    first = await add_task(db)
    other = await asyncpg.connect(service_url)
    async with other.transaction(isolation="repeatable_read"):
        await other.fetch("SELECT FROM tasks")  # its snapshot
        waiting = await add_task(db)
        await db.execute("INSERT INTO task_dependencies VALUES ($1, $2)", waiting, first)
        await other.execute("UPDATE tasks SET status = $2 WHERE task_id = $1", first, end)
    await other.close()
    state = "SELECT status, is_blocked FROM tasks WHERE task_id = $1"
    assert [tuple(row) for row in await db.fetch(state, waiting)] == [("PENDING", True)]
    await sweeper.step()
    assert [tuple(row) for row in await db.fetch(state, waiting)] == [(then, False)]
    assert woken


async def test_blocked_tasks_are_walked_through_in_batches_once_a_minute(
    database: Database, db: asyncpg.Connection
) -> None:
    first = await add_task(db)
    await db.execute(
        "WITH made AS (INSERT INTO tasks (client_id, task_type, capability_required)"
        "              SELECT 'c', 't', 'x' FROM generate_series(1, 1200) RETURNING task_id)"
        " INSERT INTO task_dependencies SELECT task_id, $1 FROM made",
        first,
    )
    now = 0.0
    sweeper = Sweeper(database, TTL, 30, lambda: None, clock=lambda: now)
    place, looked = sweeps.Place(), 0
    while next_place := (await sweeps.settle(database, place)).place:
        place, looked = next_place, looked + 1
    assert looked == 2  # of 500 each, and a third that is not full
    assert await db.fetchval("SELECT count(*) FROM tasks WHERE is_blocked") == 1200

    # What a trigger would have noticed, and the walk has to find: the last one waits for nothing.
    await db.execute("SET session_replication_role = replica")
    await db.execute(
        "DELETE FROM task_dependencies WHERE task_id = (SELECT task_id FROM tasks"
        " WHERE is_blocked ORDER BY created_at DESC, task_id DESC LIMIT 1)"
    )
    await db.execute("SET session_replication_role = origin")
    blocked = "SELECT count(*) FROM tasks WHERE is_blocked"
    found = []
    for now in (0.0, 0.5, 1.0, 2.0):  # noqa: B007 - the sweeper's clock
        await sweeper.step()
        found.append(await db.fetchval(blocked))
    assert found == [1200, 1200, 1200, 1199]


async def test_sweepers_side_by_side_end_each_attempt_once(
    database: Database, db: asyncpg.Connection
) -> None:
    agent = await add_agent(db)
    await db.execute(
        "INSERT INTO tasks (client_id, task_type, capability_required, status, assigned_agent_id,"
        " deadline_at) SELECT 'c', 't', 'x', 'ACTIVE', $1, now() FROM generate_series(1, 2000)",
        agent,
    )
    sweepers = [Sweeper(database, TTL, 60, lambda: None) for _ in range(4)]
    for _ in range(4):
        await asyncio.gather(*(sweeper.step() for sweeper in sweepers))
    assert await db.fetchval("SELECT value FROM metrics.ains_task_timeouts_total") == 2000
    assert await db.fetchval("SELECT max(retry_count) FROM tasks") == 1
