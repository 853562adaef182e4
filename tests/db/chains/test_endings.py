"""Chains end with their tasks, by hand and by cancellation, and stay ended."""

import asyncpg
import pytest

from ains.db import chains
from ains.db.pool import Database
from tests.support.chains import (
    ENDED,
    assert_whole,
    complete,
    counted,
    move,
    story,
    submit,
    task_of,
)


@pytest.mark.parametrize(
    ("statement", "status", "step", "message"),
    [
        (
            "UPDATE tasks SET status = 'FAILED', failure_reason = 'expired'",
            "FAILED", "FAILED", "Step 1 failed: expired",
        ),
        (
            "UPDATE tasks SET status = 'CANCELLED', cancel_reason = 'no use'",
            "CANCELLED", "CANCELLED", "Step 1 was cancelled: no use",
        ),
        ("DELETE FROM tasks", "CANCELLED", "CANCELLED", "Step 1 was cancelled: deleted"),
        ("TRUNCATE tasks CASCADE", "CANCELLED", "CANCELLED", "Step 1 was cancelled: deleted"),
    ],
)  # fmt: skip
async def test_chain_ends_with_its_step_s_task(
    db: asyncpg.Connection, pool: Database, statement: str, status: str, step: str, message: str
) -> None:
    chain = await submit(pool)
    await complete(db, chain, 0)
    where = "" if "TRUNCATE" in statement else " WHERE status = 'PENDING'"
    await db.execute(statement + where)
    assert await story(pool, chain) == (status, ["COMPLETED", step, "CANCELLED"])
    shown = await chains.get(pool, chain)
    assert shown["error_message"] == message
    assert [result["step_index"] for result in shown["step_results"]] == [0, 1]
    await assert_whole(db)


async def test_results_outlive_their_tasks(db: asyncpg.Connection, pool: Database) -> None:
    chain = await submit(pool, 2)
    await complete(db, chain, 0, '{"x" : 1}')
    await complete(db, chain, 1, "2")
    await db.execute("DELETE FROM tasks")
    results = (await chains.get(pool, chain))["step_results"]
    assert [result["result_data"] for result in results] != [None, None]
    texts = await db.fetch("SELECT result_data FROM chain_steps ORDER BY step_index")
    assert [row[0] for row in texts] == ['{"x" : 1}', "2"]
    await assert_whole(db)


async def test_ended_chain_stays_ended(db: asyncpg.Connection, pool: Database) -> None:
    """Its task may be retried, as any task, but the chain does not go on."""
    chain = await submit(pool)
    task = await task_of(db, chain, 0)
    await move(db, task, "FAILED")
    await move(db, task, "PENDING")
    await move(db, task, "COMPLETED")
    assert await story(pool, chain) == ("FAILED", ["FAILED", "CANCELLED", "CANCELLED"])
    assert await db.fetchval("SELECT count(*) FROM tasks") == 1
    with pytest.raises(asyncpg.CheckViolationError, match="stays ended"):
        await db.execute("UPDATE task_chains SET status = 'RUNNING'")


async def test_running_chain_can_t_be_pending_again(db: asyncpg.Connection, pool: Database) -> None:
    """It would count as created once more."""
    chain = await submit(pool)
    await move(db, await task_of(db, chain, 0), "ACTIVE")
    assert (await story(pool, chain))[0] == "RUNNING"
    with pytest.raises(asyncpg.CheckViolationError, match="can't be PENDING again"):
        await db.execute("UPDATE task_chains SET status = 'PENDING'")
    await assert_whole(db)


async def test_chain_that_is_ended_by_hand_takes_its_task_along(
    db: asyncpg.Connection, pool: Database
) -> None:
    chain = await submit(pool)
    await move(db, await task_of(db, chain, 0), "ACTIVE")
    await db.execute("UPDATE task_chains SET status = 'CANCELLED'")
    assert await story(pool, chain) == ("CANCELLED", ["CANCELLED"] * 3)
    assert await db.fetchval("SELECT status FROM tasks") == "CANCELLED"
    await assert_whole(db)


@pytest.mark.parametrize(
    "statement", ["DELETE FROM task_chains", "TRUNCATE task_chains CASCADE", "TRUNCATE chain_steps"]
)
async def test_live_chain_that_is_deleted_counts_as_cancelled(
    db: asyncpg.Connection, pool: Database, statement: str
) -> None:
    running, ended = await submit(pool), await submit(pool, 1)
    await move(db, await task_of(db, running, 0), "ACTIVE")
    await complete(db, ended, 0)
    await db.execute(statement)
    assert await db.fetchval("SELECT count(*) FROM tasks WHERE status = 'CANCELLED'") == 1
    assert await counted(db) == {
        "PENDING": 2, "RUNNING": 2, "COMPLETED": 1, "CANCELLED": 1,
        "running": 2, "completed": 1, "cancelled": 3,
    }  # fmt: skip
    assert await db.fetchval("SELECT value FROM metrics.ains_chains_active") == 0


async def test_deleting_ended_chains_changes_no_counter(
    db: asyncpg.Connection, pool: Database
) -> None:
    for status in ENDED:
        await move(db, await task_of(db, await submit(pool), 0), "ACTIVE")
        await db.execute("UPDATE tasks SET status = $1 WHERE status = 'ACTIVE'", status)
    await db.execute("UPDATE tasks SET status = 'CANCELLED' WHERE status = 'PENDING'")
    before = await counted(db)
    await db.execute("DELETE FROM task_chains")
    assert await counted(db) == before
    await db.execute("SELECT metrics.fold()")
    assert await counted(db) == before
    assert await db.fetchval("SELECT count(*) FROM chain_steps") == 0


async def test_step_can_t_be_deleted_without_its_chain(
    db: asyncpg.Connection, pool: Database
) -> None:
    await submit(pool)
    with pytest.raises(asyncpg.RestrictViolationError, match="cannot be deleted alone"):
        await db.execute("DELETE FROM chain_steps WHERE step_index = 2")


async def test_duration_is_observed_by_final_status(db: asyncpg.Connection, pool: Database) -> None:
    """Of those that started; of a completed one always."""
    for status in ENDED:
        chain = await submit(pool, 1)
        await move(db, await task_of(db, chain, 0), "ACTIVE")
        await db.execute(
            "UPDATE task_chains SET started_at = now() - interval '45 seconds' WHERE chain_id = $1",
            chain,
        )
        await move(db, await task_of(db, chain, 0), status)
    await chains.cancel(pool, await submit(pool))
    await db.execute("SELECT metrics.fold()")
    buckets = await db.fetch(
        "SELECT chain_status, value FROM metrics.ains_chain_duration_seconds WHERE le = '30.0'"
        " UNION ALL"
        " SELECT chain_status, value FROM metrics.ains_chain_duration_seconds WHERE le = '60.0'"
    )
    assert sorted(map(tuple, buckets)) == sorted((status, n) for status in ENDED for n in (0, 1))
