"""Ends that are taken back or turned into others, and dependencies that are changed by hand."""

import asyncpg

from ains.db.pool import Database
from tests.support.dependencies import assert_true, end, state, states, submit
from tests.support.rows import events


async def test_dependents_of_a_task_that_completed_don_t_fail_with_what_came_before(
    db: asyncpg.Connection, pool: Database
) -> None:
    """Somebody turns a success into a failure when others have built on it."""
    root, other = await submit(pool), await submit(pool)
    first = await submit(pool, root)
    second = await submit(pool, first)
    third = await submit(pool, second, other)
    for task in (root, first, second):
        await end(db, "COMPLETED", task)
    await end(db, "PENDING", root)
    await end(db, "PENDING", first)
    await end(db, "FAILED", root)
    assert await states(db, [first, second, third]) == ["FAILED", "COMPLETED", "blocked"]
    await end(db, "CANCELLED", first)
    assert await state(db, third) == "blocked"
    await end(db, "COMPLETED", other)
    assert await state(db, third) == "PENDING"


async def test_free_task_fails_when_its_success_was_none(
    db: asyncpg.Connection, pool: Database
) -> None:
    dependency = await submit(pool)
    task = await submit(pool, dependency)
    running = await submit(pool, dependency)
    await end(db, "COMPLETED", dependency)
    await end(db, "ASSIGNED", running, assigned_agent_id="a")
    await end(db, "FAILED", dependency)
    assert await states(db, [task, running]) == ["FAILED", "ASSIGNED"]
    await assert_true(db)


async def test_reopened_dependency_blocks_again(db: asyncpg.Connection, pool: Database) -> None:
    dependency = await submit(pool)
    task = await submit(pool, dependency)
    await end(db, "COMPLETED", dependency)
    await end(db, "PENDING", dependency)
    assert await state(db, task) == "blocked"
    await end(db, "COMPLETED", dependency)
    assert await state(db, task) == "PENDING"
    assert await events(db, task) == ["created", "unblocked", "blocked", "unblocked"]
    await assert_true(db)


async def test_reopened_task_waits_for_what_it_depends_on(
    db: asyncpg.Connection, pool: Database
) -> None:
    dependency = await submit(pool)
    task = await submit(pool, dependency)
    await end(db, "FAILED", dependency)
    await end(db, "PENDING", dependency)
    await end(db, "PENDING", task)
    assert await state(db, task) == "blocked"
    await end(db, "COMPLETED", dependency)
    assert await state(db, task) == "PENDING"
    await assert_true(db)


async def test_task_reopened_over_a_failed_dependency_fails_again(
    db: asyncpg.Connection, pool: Database
) -> None:
    dependency = await submit(pool)
    task = await submit(pool, dependency)
    below = await submit(pool, task)
    await end(db, "FAILED", dependency)
    await end(db, "PENDING", task, below)
    assert await states(db, [task, below]) == ["FAILED", "FAILED"]
    assert await events(db, task) == ["created", "failed", "reopened", "failed"]
    await assert_true(db)


async def test_rolled_back_end_frees_nobody(db: asyncpg.Connection, pool: Database) -> None:
    dependency = await submit(pool)
    task = await submit(pool, dependency)
    transaction = db.transaction()
    await transaction.start()
    await end(db, "COMPLETED", dependency)
    assert await state(db, task) == "PENDING"
    await transaction.rollback()
    assert await states(db, [dependency, task]) == ["PENDING", "blocked"]
    await assert_true(db)


async def test_dependencies_changed_by_hand_are_obeyed(
    db: asyncpg.Connection, pool: Database
) -> None:
    dependency, failed, task = [await submit(pool) for _ in range(3)]
    await end(db, "FAILED", failed)
    insert = "INSERT INTO task_dependencies (task_id, depends_on) VALUES ($1, $2)"
    await db.execute(insert, task, dependency)
    assert await state(db, task) == "blocked"
    await db.execute("DELETE FROM task_dependencies")
    assert await state(db, task) == "PENDING"
    await db.execute(insert, task, dependency)
    await db.execute("TRUNCATE task_dependencies")
    assert await state(db, task) == "PENDING"
    await db.execute(insert, task, dependency)
    await db.execute("UPDATE task_dependencies SET depends_on = $1", failed)
    assert await state(db, task) == "FAILED"
    await assert_true(db)
