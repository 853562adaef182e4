"""Dependencies end while others do, or while tasks that depend on them are created."""

import asyncio
from uuid import UUID

import asyncpg
import pytest

from ains.db.pool import Database
from tests.support.dependencies import assert_true, end, state, states, submit
from tests.support.rows import events
from tests.support.waiting import until_blocked


@pytest.mark.parametrize(
    ("status", "expected", "history"),
    [
        ("COMPLETED", "PENDING", ["created", "unblocked"]),
        ("FAILED", "FAILED", ["created", "failed"]),
    ],
)
async def test_two_dependencies_end_at_the_same_time(
    db: asyncpg.Connection,
    pool: Database,
    database_url: str,
    status: str,
    expected: str,
    history: list[str],
) -> None:
    """The one with ``status`` is not committed yet when the other completes."""
    first, second = await submit(pool), await submit(pool)
    task = await submit(pool, first, second)
    other = await asyncpg.connect(database_url)
    transaction = other.transaction()
    await transaction.start()
    await end(other, status, first)
    late = asyncio.create_task(end(db, "COMPLETED", second))
    async with pool.acquire() as watcher:
        await until_blocked(watcher)
    await transaction.commit()
    await late
    assert await state(db, task) == expected
    assert await events(db, task) == history
    await other.close()


@pytest.mark.parametrize(("status", "expected"), [("COMPLETED", "PENDING"), ("FAILED", "FAILED")])
async def test_task_is_created_while_its_dependency_ends(
    db: asyncpg.Connection, pool: Database, database_url: str, status: str, expected: str
) -> None:
    """The end is not committed yet: the creation waits for it and then sees it."""
    dependency = await submit(pool)
    transaction = db.transaction()
    await transaction.start()
    await end(db, status, dependency)
    creation = asyncio.create_task(submit(pool, dependency))
    async with pool.acquire() as watcher:
        await until_blocked(watcher)
    await transaction.commit()
    task = await creation
    assert await state(db, task) == expected
    await assert_true(db)


@pytest.mark.parametrize(("status", "expected"), [("COMPLETED", "PENDING"), ("FAILED", "FAILED")])
async def test_dependency_ends_while_its_task_is_created(
    db: asyncpg.Connection, pool: Database, database_url: str, status: str, expected: str
) -> None:
    """The creation is not committed yet: the end waits for it and then finds the task."""
    dependency = await submit(pool)
    async with pool.transaction() as transaction:
        task = await submit(transaction, dependency)
        ending = asyncio.create_task(end(db, status, dependency))
        async with pool.acquire() as watcher:
            await until_blocked(watcher)
    await ending
    assert await state(db, task) == expected
    await assert_true(db)


async def test_task_is_created_below_one_that_is_just_failing(
    db: asyncpg.Connection, pool: Database
) -> None:
    """Not by its own dependency's end, but by what that one depends on."""
    root = await submit(pool)
    child = await submit(pool, root)
    async with pool.transaction() as transaction:
        task = await submit(transaction, child)
        ending = asyncio.create_task(end(db, "FAILED", root))
        async with pool.acquire() as watcher:
            await until_blocked(watcher)
    await ending
    assert await states(db, [child, task]) == ["FAILED", "FAILED"]
    await assert_true(db)


async def test_crowd_that_creates_and_ends_leaves_nobody_behind(
    db: asyncpg.Connection, pool: Database
) -> None:
    """Eight clients build on each other's tasks while four others end those."""
    known: list[UUID] = [await submit(pool) for _ in range(8)]
    done = asyncio.Event()

    async def create(number: int) -> None:
        for turn in range(40):
            after = {known[-1 - (number * 3 + turn * k) % len(known)] for k in (1, 2)}
            known.append(await submit(pool, *after))

    async def finish(number: int) -> None:
        status = "CANCELLED" if number == 0 else "COMPLETED"
        while not done.is_set():
            async with pool.acquire() as connection:
                await connection.execute(
                    "UPDATE tasks SET status = $1 WHERE task_id ="
                    " (SELECT task_id FROM tasks WHERE status = 'PENDING' AND NOT is_blocked"
                    "   ORDER BY random() LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)",
                    status,
                )
            await asyncio.sleep(0.05 if number == 0 else 0.002)

    finishers = [asyncio.create_task(finish(number)) for number in range(4)]
    await asyncio.gather(*(create(number) for number in range(8)))
    done.set()
    await asyncio.gather(*finishers)
    await assert_true(db)
    doomed = await db.fetchval(
        "SELECT count(*) FROM task_dependencies AS d JOIN tasks AS u ON u.task_id = d.depends_on"
        " JOIN tasks AS t ON t.task_id = d.task_id"
        " WHERE u.status IN ('FAILED', 'CANCELLED') AND t.status NOT IN ('FAILED', 'CANCELLED')"
    )
    assert doomed == 0
