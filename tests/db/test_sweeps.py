"""Due retries, timeouts, expiry, lost agents."""

from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from ains.db import sweeps
from ains.db.pool import Database
from tests.support.rows import add_agent, add_task, events, status

TTL = timedelta(seconds=60)


async def attempt(db: asyncpg.Connection, state: str = "ASSIGNED", **columns: object) -> UUID:
    """A task that agent ``a`` has."""
    times = {"in_assigned_at": -10} | ({"in_started_at": -5} if state == "ACTIVE" else {})
    return await add_task(db, status=state, assigned_agent_id="a", **(times | columns))


async def test_only_due_retries_are_released(db: asyncpg.Connection, pool: Database) -> None:
    due = await add_task(db, in_next_retry_at=-1)
    later = await add_task(db, in_next_retry_at=60)
    assert await sweeps.release_retries(pool) == 1
    waiting = await db.fetch("SELECT task_id FROM tasks WHERE next_retry_at IS NOT NULL")
    assert [row[0] for row in waiting] == [later]
    assert await events(db, due) == ["created"]
    assert await sweeps.release_retries(pool) == 0


@pytest.mark.parametrize("state", ["ASSIGNED", "ACTIVE"])
async def test_overdue_attempt_is_retried_and_then_fails(
    db: asyncpg.Connection, pool: Database, state: str
) -> None:
    await add_agent(db, "a")
    again = await attempt(db, state, in_deadline_at=-1, max_retries=1)
    last = await attempt(db, state, in_deadline_at=-1, max_retries=0)
    running = await attempt(db, state, in_deadline_at=60)
    assert await sweeps.time_out(pool) == (2, 1)
    rows = {row["task_id"]: row for row in await db.fetch("SELECT * FROM tasks")}
    assert rows[running]["status"] == state
    assert rows[again]["status"] == "PENDING"
    assert rows[again]["last_agent_id"] == "a"
    assert rows[again]["next_retry_at"] - rows[again]["updated_at"] == timedelta(seconds=2)
    assert (rows[last]["status"], rows[last]["assigned_agent_id"]) == ("FAILED", "a")
    assert {rows[again]["failure_reason"], rows[last]["failure_reason"]} == {"timeout"}
    assert rows[last]["error_message"]
    timeouts = await db.fetchval("SELECT value FROM metrics.ains_task_timeouts_total")
    assert timeouts == 2
    assert await db.fetchval("SELECT trust_score FROM agents") == 0.45


async def test_everything_overdue_is_ended_batch_by_batch(
    db: asyncpg.Connection, pool: Database
) -> None:
    for _ in range(5):
        await attempt(db, in_deadline_at=-1)
    assert await sweeps.time_out(pool, batch=2) == (2, 2)
    assert await sweeps.time_out_all(pool, batch=1) == 3
    assert await sweeps.time_out_all(pool) == 0


@pytest.mark.parametrize("columns", [{}, {"is_blocked": True}, {"in_next_retry_at": 60}])
async def test_task_that_nobody_took_in_time_expires(
    db: asyncpg.Connection, pool: Database, columns: dict[str, object]
) -> None:
    await add_agent(db, "a")
    late = await add_task(db, in_expires_at=-1, last_agent_id="a", **columns)
    await add_task(db, in_expires_at=60)
    taken = await attempt(db, in_expires_at=-1)
    assert await sweeps.expire(pool) == 1
    row = await db.fetchrow("SELECT * FROM tasks WHERE task_id = $1", late)
    assert row is not None
    assert (row["status"], row["failure_reason"]) == ("FAILED", "expired")
    assert row["completed_at"] is not None
    assert row["next_retry_at"] is None
    assert await status(db, taken) == "ASSIGNED"
    assert await db.fetchval("SELECT trust_score FROM agents") == 0.5
    failed = await db.fetchval(
        "SELECT value FROM metrics.ains_tasks_failed_total WHERE failure_reason = 'expired'"
    )
    assert failed == 1


@pytest.mark.parametrize("before", ["AVAILABLE", "BUSY", "REGISTERED", "INACTIVE", "SUSPENDED"])
async def test_only_agents_at_work_are_lost(
    db: asyncpg.Connection, pool: Database, before: str
) -> None:
    await add_agent(db, "silent", status=before, silent=61)
    await add_agent(db, "alive", status=before, silent=59)
    lost = await sweeps.lose_agents(pool, TTL)
    assert lost == (["silent"] if before in ("AVAILABLE", "BUSY") else [])
    rows = await db.fetch("SELECT agent_id, status FROM agents")
    assert {row["agent_id"]: row["status"] for row in rows} == {
        "silent": "INACTIVE" if lost else before,
        "alive": before,
    }
    assert await sweeps.lose_agents(pool, TTL) == []
    assert await db.fetchval("SELECT count(*) FROM agent_routes WHERE agent_id = 'silent'") == 0


async def test_agents_are_lost_in_batches(db: asyncpg.Connection, pool: Database) -> None:
    for number in range(5):
        await add_agent(db, f"a{number}", silent=61)
    assert await sweeps.lose_agents(pool, TTL, batch=3) == ["a0", "a1", "a2"]
    assert await sweeps.lose_agents(pool, TTL, batch=3) == ["a3", "a4"]


@pytest.mark.parametrize("agent", ["silent", "never alive", "gone"])
async def test_tasks_of_a_lost_agent_are_taken_back(
    db: asyncpg.Connection, pool: Database, agent: str
) -> None:
    if agent != "gone":
        await add_agent(db, "a", status="INACTIVE", silent=61)
    if agent == "never alive":
        await db.execute("UPDATE agents SET last_heartbeat = NULL")
    waiting = await attempt(db, "ASSIGNED", in_deadline_at=60, retry_count=1)
    running = await attempt(db, "ACTIVE", in_deadline_at=60)
    last = await attempt(db, "ACTIVE", in_deadline_at=60, max_retries=0)
    assert await sweeps.recover_tasks(pool, TTL) == (1, 2)
    rows = {row["task_id"]: row for row in await db.fetch("SELECT * FROM tasks")}
    row = rows[waiting]
    assert (row["status"], row["retry_count"], row["next_retry_at"]) == ("PENDING", 1, None)
    assert (row["assigned_agent_id"], row["last_agent_id"]) == (None, "a")
    assert (row["assigned_at"], row["deadline_at"]) == (None, None)
    assert row["queued_at"] == row["updated_at"]
    assert (rows[running]["status"], rows[running]["retry_count"]) == ("PENDING", 1)
    assert rows[running]["failure_reason"] == rows[last]["failure_reason"] == "agent_lost"
    assert rows[last]["status"] == "FAILED"
    assert (await events(db, waiting))[-1] == "requeued"
    assert await sweeps.recover_tasks(pool, TTL) == (0, 0)


async def test_tasks_of_living_agents_are_left_alone(
    db: asyncpg.Connection, pool: Database
) -> None:
    for number, state in enumerate(("AVAILABLE", "BUSY", "INACTIVE", "SUSPENDED")):
        await add_agent(db, f"b{number}", status=state, silent=59)
        await add_task(db, status="ACTIVE", assigned_agent_id=f"b{number}", in_started_at=-5)
    await add_agent(db, "c", status="INACTIVE", silent=61)
    await add_task(db, status="COMPLETED", assigned_agent_id="c", in_started_at=-5)
    assert await sweeps.recover_tasks(pool, TTL) == (0, 0)


async def test_tasks_are_taken_back_in_batches(db: asyncpg.Connection, pool: Database) -> None:
    for number in range(5):
        await add_task(db, status="ASSIGNED", assigned_agent_id=f"gone{number % 2}")
    assert (await sweeps.recover_tasks(pool, TTL, batch=3)).requeued == 3
    assert (await sweeps.recover_tasks(pool, TTL, batch=3)).requeued == 2


async def test_next_due_is_the_soonest_of_each_kind(db: asyncpg.Connection, pool: Database) -> None:
    assert await sweeps.next_due(pool) == (None, None, None)
    for seconds in (30, 10, 20):
        await add_task(db, in_next_retry_at=seconds)
        await attempt(db, in_deadline_at=seconds + 100)
        await add_task(db, in_expires_at=seconds - 50)
        await add_task(db, status="CANCELLED", in_expires_at=-1000, in_next_retry_at=-1000)
    due = await sweeps.next_due(pool)
    assert due.retry == pytest.approx(10, abs=5)
    assert due.deadline == pytest.approx(110, abs=5)
    assert due.expiry == pytest.approx(-40, abs=5)


async def test_what_somebody_has_locked_is_passed_over(
    db: asyncpg.Connection, pool: Database
) -> None:
    await add_agent(db, "a", silent=61)
    await attempt(db, in_deadline_at=-1)
    await add_task(db, in_expires_at=-1)
    await add_task(db, in_next_retry_at=-1)
    async with db.transaction():
        await db.execute("SELECT FROM tasks FOR UPDATE")
        await db.execute("SELECT FROM agents FOR UPDATE")
        assert await sweeps.time_out(pool) == (0, 0)
        assert await sweeps.expire(pool) == 0
        assert await sweeps.release_retries(pool) == 0
        assert await sweeps.recover_tasks(pool, TTL) == (0, 0)
        assert await sweeps.lose_agents(pool, TTL) == []
    assert (await sweeps.time_out(pool)).ended == 1
    assert await sweeps.expire(pool) == 1
    assert await sweeps.release_retries(pool) == 1
