"""Tasks are freed when all that they depend on completes, and fail when any of it fails."""

import asyncpg
import pytest

from ains.db.pool import Database
from tests.support.dependencies import assert_true, end, state, states, submit
from tests.support.rows import events


async def test_task_is_free_when_its_last_dependency_completes(
    db: asyncpg.Connection, pool: Database
) -> None:
    first, second = await submit(pool), await submit(pool)
    task = await submit(pool, first, second)
    assert await state(db, task) == "blocked"
    await end(db, "COMPLETED", first)
    assert await state(db, task) == "blocked"
    await end(db, "COMPLETED", second)
    assert await state(db, task) == "PENDING"
    assert await events(db, task) == ["created", "unblocked"]
    await assert_true(db)


async def test_dependencies_that_end_in_one_statement_free_it_once(
    db: asyncpg.Connection, pool: Database
) -> None:
    first, second = await submit(pool), await submit(pool)
    task = await submit(pool, first, second)
    await end(db, "COMPLETED", first, second)
    assert await events(db, task) == ["created", "unblocked"]


async def test_retried_attempt_of_a_dependency_changes_nothing(
    db: asyncpg.Connection, pool: Database
) -> None:
    dependency = await submit(pool)
    task = await submit(pool, dependency)
    await end(db, "ACTIVE", dependency, assigned_agent_id="a")
    await db.execute("SELECT end_attempts(ARRAY[$1::uuid], 'timeout')", dependency)
    assert await events(db, dependency) == ["created", "started", "retried"]
    assert await state(db, task) == "blocked"


@pytest.mark.parametrize("status", ["FAILED", "CANCELLED", "deleted"])
async def test_task_fails_with_its_dependency_all_the_way_down(
    db: asyncpg.Connection, pool: Database, status: str
) -> None:
    root, other = await submit(pool), await submit(pool)
    child = await submit(pool, root)
    left, right = await submit(pool, child), await submit(pool, child, other)
    bottom = await submit(pool, left, right)
    unrelated = await submit(pool, other)
    if status == "deleted":
        await db.execute("DELETE FROM tasks WHERE task_id = $1", root)
    else:
        await end(db, status, root)
    doomed = [child, left, right, bottom]
    assert await states(db, doomed) == ["FAILED"] * 4
    assert await states(db, [other, unrelated]) == ["PENDING", "blocked"]
    for task in doomed:
        assert await events(db, task) == ["created", "failed"]
    failed = await db.fetchval(
        "SELECT value FROM metrics.ains_tasks_failed_total"
        " WHERE failure_reason = 'dependency_failed'"
    )
    assert failed == 4
    ended = await db.fetch(
        "SELECT completed_at, error_message FROM tasks WHERE task_id = $1", bottom
    )
    assert ended[0]["completed_at"] is not None
    assert ended[0]["error_message"] == "A task it depends on failed or was cancelled."
    await assert_true(db)


async def test_pruned_dependency_counts_as_completed(
    db: asyncpg.Connection, pool: Database
) -> None:
    first, second = await submit(pool), await submit(pool)
    task = await submit(pool, first, second)
    await end(db, "COMPLETED", first)
    await db.execute("DELETE FROM tasks WHERE status = 'COMPLETED'")
    await end(db, "COMPLETED", second)
    assert await state(db, task) == "PENDING"
    await db.execute("DELETE FROM tasks")
    assert await db.fetchval("SELECT count(*) FROM task_dependencies") == 0
