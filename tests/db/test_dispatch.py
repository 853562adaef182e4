"""Claiming and assigning runnable tasks."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from ains.db import dispatch
from ains.db.pool import Database
from ains.db.sql import load
from tests.support.rows import add_agent, add_task, events, status

TTL = timedelta(seconds=60)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url, max_size=8)
    yield opened
    await opened.close()


async def test_most_urgent_then_oldest_go_first(db: asyncpg.Connection, database: Database) -> None:
    await add_agent(db)
    low = await add_task(db, priority=1, in_created_at=-100)
    new = await add_task(db, priority=9)
    old = await add_task(db, priority=9, in_created_at=-10)
    for task in (old, new, low):
        assert await dispatch.assign(database, "x", 1, TTL) == (1, 1)
        assert await status(db, task) == "ASSIGNED"
    assert await dispatch.assign(database, "x", 1, TTL) == (0, 0)


async def test_assignment_writes_what_the_attempt_needs(
    db: asyncpg.Connection, database: Database
) -> None:
    await add_agent(db, "a")
    task = await add_task(db, timeout_seconds=30, last_agent_id="former")
    await dispatch.assign(database, "X", 10, TTL)
    row = await db.fetchrow("SELECT * FROM tasks WHERE task_id = $1", task)
    assert row is not None
    assert row["assigned_agent_id"] == row["last_agent_id"] == "a"
    assert row["deadline_at"] - row["assigned_at"] == timedelta(seconds=30)
    assert row["updated_at"] == row["assigned_at"]
    assert await events(db, task) == ["created", "assigned"]


async def test_failing_a_repeated_attempt_in_psql_counts_no_second_timeout(
    db: asyncpg.Connection, database: Database
) -> None:
    await add_agent(db, "a")
    task = await add_task(db, retry_count=1, failure_reason="timeout")
    await dispatch.assign(database, "x", 1, TTL)
    await db.execute("UPDATE tasks SET status = 'FAILED' WHERE task_id = $1", task)
    failed = await db.fetch("SELECT failure_reason, value FROM metrics.ains_tasks_failed_total")
    assert [tuple(row) for row in failed] == [("unknown", 1)]
    assert await db.fetchval("SELECT sum(value) FROM metrics.ains_task_timeouts_total") is None


@pytest.mark.parametrize(
    "columns",
    [
        {"is_blocked": True},
        {"in_next_retry_at": -5},
        {"in_next_retry_at": 5},
        {"in_expires_at": -5},
        {"capability_required": "y"},
        {"status": "CANCELLED"},
    ],
    ids=repr,
)
async def test_task_that_may_not_run_is_left_alone(
    db: asyncpg.Connection, database: Database, columns: dict[str, object]
) -> None:
    await add_agent(db)
    task = await add_task(db, **columns)
    before = await status(db, task)
    assert await dispatch.assign(database, "x", 10, TTL) == (0, 0)
    assert await status(db, task) == before


async def test_tasks_without_an_agent_stay_pending(
    db: asyncpg.Connection, database: Database
) -> None:
    await add_agent(db, silent=61)
    await add_task(db)
    assert await dispatch.assign(database, "x", 10, TTL) == (1, 0)
    assert await db.fetchval("SELECT status FROM tasks") == "PENDING"


async def test_each_task_is_routed_by_its_own_strategy(
    db: asyncpg.Connection, database: Database
) -> None:
    await add_agent(db, "fast", avg_completion_time_seconds=1.0, trust_score=0.1)
    await add_agent(db, "slow", avg_completion_time_seconds=9.0, trust_score=0.9)
    fast = [await add_task(db, routing_strategy="fastest_response") for _ in range(3)]
    trusted = [await add_task(db, routing_strategy="trust_weighted") for _ in range(3)]
    fair = [await add_task(db) for _ in range(2)]
    assert await dispatch.assign(database, "x", 100, TTL) == (8, 8)
    rows = await db.fetch("SELECT task_id, assigned_agent_id AS agent FROM tasks")
    agent = {row["task_id"]: row["agent"] for row in rows}
    assert {agent[task] for task in fast} == {"fast"}
    assert {agent[task] for task in trusted} == {"slow"}
    assert {agent[task] for task in fair} == {"fast", "slow"}


@pytest.mark.parametrize("strategy", ["round_robin", "least_loaded"])
async def test_batch_is_dealt_evenly(
    db: asyncpg.Connection, database: Database, strategy: str
) -> None:
    for number in range(7):
        await add_agent(db, f"a{number}")
    for _ in range(50):
        await add_task(db, routing_strategy=strategy)
    assert (await dispatch.assign(database, "x", 30, TTL)).assigned == 30
    assert (await dispatch.assign(database, "x", 30, TTL)).assigned == 20
    rows = await db.fetch("SELECT assigned_agent_id FROM tasks")
    assert set(Counter(row[0] for row in rows).values()) == {7, 8}


async def test_dispatchers_at_once_assign_each_task_once(
    db: asyncpg.Connection, database: Database
) -> None:
    for number in range(3):
        await add_agent(db, f"a{number}")
    for _ in range(200):
        await add_task(db)

    async def run() -> int:
        total = 0
        while (done := await dispatch.assign(database, "x", 7, TTL)).claimed:
            total += done.assigned
        return total

    assert sum(await asyncio.gather(*(run() for _ in range(6)))) == 200
    twice = await db.fetch(
        "SELECT task_id FROM task_events WHERE event = 'assigned' GROUP BY 1 HAVING count(*) > 1"
    )
    assert twice == []
    assert await db.fetchval("SELECT count(*) FROM tasks WHERE status = 'ASSIGNED'") == 200


async def test_work_is_what_is_both_wanted_and_offered(
    db: asyncpg.Connection, database: Database
) -> None:
    offered = ["B", "d", "É", "same", "zz", "blocked", "later"]
    await add_agent(db, "a", tags=offered)
    await add_agent(db, "b", tags=["c", "same"])
    await add_agent(db, "off", tags=["offline"], status="INACTIVE")
    for capability in ("a", "b", "B", "é", "same", "SAME", "z", "zzz", "offline"):
        await add_task(db, capability_required=capability)
    await add_task(db, capability_required="blocked", is_blocked=True)
    await add_task(db, capability_required="later", in_next_retry_at=5)
    assert sorted(await dispatch.work(database)) == sorted(["b", "é", "same"])


@pytest.mark.parametrize(("wanted", "offered"), [(0, 0), (0, 5), (5, 0), (1, 1), (40, 3), (3, 40)])
async def test_work_agrees_with_a_plain_join(
    db: asyncpg.Connection, database: Database, wanted: int, offered: int
) -> None:
    await add_agent(db, tags=[f"k{n * 7 % 50}" for n in range(offered)])
    for n in range(wanted):
        await add_task(db, capability_required=f"K{n * 3 % 50}")
    rows = await db.fetch(
        "SELECT DISTINCT r.capability FROM agent_routes AS r"
        " JOIN tasks AS t ON lower(t.capability_required) = r.capability"
    )
    assert sorted(await dispatch.work(database)) == sorted(row[0] for row in rows)


@pytest.mark.parametrize("crowd", ["tasks of one kind", "tasks of many kinds", "capabilities"])
async def test_work_leaps_over_the_crowd(db: asyncpg.Connection, crowd: str) -> None:
    """Ten thousand of what doesn't matter are not read one by one."""
    await add_agent(db, "a", tags=["m1", "m2"])
    for capability in ("m1", "m2"):
        await add_task(db, capability_required=capability)
    if crowd == "capabilities":
        await add_agent(db, "b", tags=[f"k{n}" for n in range(10_000)])
    else:
        kind = "'m0'" if crowd == "tasks of one kind" else "'n' || g"
        await db.execute(
            "INSERT INTO tasks (client_id, task_type, capability_required)"
            f" SELECT 'c', 't', {kind} FROM generate_series(1, 10000) AS g"
        )
    await db.execute("ANALYZE tasks; ANALYZE agent_routes")
    query = load("dispatch")["work"].text
    plan = await db.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}")
    blocks = int(str(plan).split('"Shared Hit Blocks": ')[1].split(",")[0])
    assert blocks < 100, plan
