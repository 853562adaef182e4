"""Tasks are true to their dependencies, whoever ends those and whenever."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from time import perf_counter
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from ains.db import tasks
from ains.db.pool import Database, Statements
from ains.domain.ids import uuid7
from ains.domain.tasks import SubmitTask
from ains.errors import NotFound
from tests.support.rows import add_task, events
from tests.support.waiting import until_blocked

_TTL = timedelta(seconds=60)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


async def submit(db: Statements, *after: UUID) -> UUID:
    """A task that depends on others, by the statement of the service."""
    task = SubmitTask.model_validate(
        {
            "client_id": "c", "task_type": "t", "capability_required": "x", "input_data": {},
            "depends_on": [str(task) for task in after],
        }
    )  # fmt: skip
    return (await tasks.submit(db, uuid7(), task, _TTL))["task_id"]


async def end(db: asyncpg.Connection, status: str, *ended: UUID, **values: Any) -> None:
    row = {"status": status} | values
    assignments = ", ".join(f"{name} = ${i + 2}" for i, name in enumerate(row))
    await db.execute(
        f"UPDATE tasks SET {assignments} WHERE task_id = ANY ($1)", ended, *row.values()
    )


async def state(db: asyncpg.Connection, task: UUID) -> str:
    """The status, or "blocked" while it is PENDING and waits."""
    found: str = await db.fetchval(
        "SELECT CASE WHEN status = 'PENDING' AND is_blocked THEN 'blocked' ELSE status END"
        " FROM tasks WHERE task_id = $1",
        task,
    )
    return found


async def states(db: asyncpg.Connection, tasks: Sequence[UUID]) -> list[str]:
    return [await state(db, task) for task in tasks]


async def counted(db: asyncpg.Connection) -> Mapping[str, int]:
    """Sums of the families that have to balance."""
    rows = await db.fetch("SELECT family, sum(n)::bigint AS n FROM metrics.series GROUP BY 1")
    return {row["family"]: row["n"] for row in rows}


async def assert_true(db: asyncpg.Connection) -> None:
    """No task waits for nothing or runs too early, and the ledger says the same as the state."""
    wrong = await db.fetch(
        "SELECT t.task_id FROM tasks AS t WHERE t.status = 'PENDING' AND t.is_blocked <> EXISTS ("
        " SELECT FROM task_dependencies AS d JOIN tasks AS u ON u.task_id = d.depends_on"
        "  WHERE d.task_id = t.task_id AND u.status <> 'COMPLETED')"
    )
    assert wrong == []
    blocked = await db.fetchval(
        "SELECT count(*) FROM tasks WHERE status = 'PENDING' AND is_blocked"
    )
    assert await db.fetchval("SELECT value FROM metrics.ains_tasks_blocked") == blocked


async def chain_of(db: asyncpg.Connection, length: int) -> list[UUID]:
    """Tasks that each depend on the one before, written in one go."""
    ids = [uuid7() for _ in range(length)]
    async with db.transaction():
        await db.execute(
            "INSERT INTO tasks (task_id, client_id, task_type, capability_required)"
            " SELECT id, 'c', 't', 'x' FROM unnest($1::uuid[]) AS id",
            ids,
        )
        await db.execute(
            "INSERT INTO task_dependencies (task_id, depends_on)"
            " SELECT * FROM unnest($1::uuid[], $2::uuid[])",
            ids[1:],
            ids[:-1],
        )
    return ids


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


async def test_new_task_finds_how_its_dependencies_ended(
    db: asyncpg.Connection, pool: Database
) -> None:
    completed, failed, waiting = [await submit(pool) for _ in range(3)]
    await end(db, "COMPLETED", completed)
    await end(db, "CANCELLED", failed)
    assert await state(db, await submit(pool, completed)) == "PENDING"
    assert await state(db, await submit(pool, completed, waiting)) == "blocked"
    doomed = await submit(pool, completed, waiting, failed)
    assert await state(db, doomed) == "FAILED"
    assert await events(db, doomed) == ["created", "failed"]
    assert await state(db, await submit(pool, doomed)) == "FAILED"
    await assert_true(db)


async def test_unknown_dependency_is_named_and_nothing_is_created(
    db: asyncpg.Connection, pool: Database
) -> None:
    known, unknown = await submit(pool), uuid7()
    with pytest.raises(NotFound, match=str(unknown)):
        await submit(pool, known, unknown)
    assert await db.fetchval("SELECT count(*) FROM tasks") == 1


async def test_nobody_is_chosen_for_a_task_that_waits(
    db: asyncpg.Connection, pool: Database
) -> None:
    await db.execute(
        "INSERT INTO agents (agent_id, display_name, endpoint, public_key, signature, tags, status,"
        " last_heartbeat) VALUES ('a', 'A', 'http://a', '00', '00', '{x}', 'AVAILABLE', now())"
    )
    last = "SELECT last_assigned_at FROM agents"
    dependency = await submit(pool)
    assert await state(db, dependency) == "ASSIGNED"
    chosen = await db.fetchval(last)
    assert await state(db, await submit(pool, dependency)) == "blocked"
    assert await db.fetchval(last) == chosen
    await end(db, "COMPLETED", dependency)
    assert await state(db, await submit(pool, dependency)) == "ASSIGNED"


async def test_two_dependencies_that_end_at_the_same_time_free_their_task(
    db: asyncpg.Connection, pool: Database, database_url: str
) -> None:
    first, second = await submit(pool), await submit(pool)
    task = await submit(pool, first, second)
    other = await asyncpg.connect(database_url)
    transaction = other.transaction()
    await transaction.start()
    await end(other, "COMPLETED", first)
    late = asyncio.create_task(end(db, "COMPLETED", second))
    async with pool.acquire() as watcher:
        await until_blocked(watcher)
    await transaction.commit()
    await late
    assert await state(db, task) == "PENDING"
    assert await events(db, task) == ["created", "unblocked"]
    await other.close()


async def test_one_dependency_completes_while_the_other_fails(
    db: asyncpg.Connection, pool: Database, database_url: str
) -> None:
    first, second = await submit(pool), await submit(pool)
    task = await submit(pool, first, second)
    other = await asyncpg.connect(database_url)
    transaction = other.transaction()
    await transaction.start()
    await end(other, "FAILED", first)
    late = asyncio.create_task(end(db, "COMPLETED", second))
    async with pool.acquire() as watcher:
        await until_blocked(watcher)
    await transaction.commit()
    await late
    assert await state(db, task) == "FAILED"
    assert await events(db, task) == ["created", "failed"]
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


@pytest.mark.parametrize(
    ("status", "expected"), [("COMPLETED", "PENDING"), ("CANCELLED", "FAILED")]
)
async def test_ten_thousand_dependents_of_one_task_in_one_statement(
    db: asyncpg.Connection, pool: Database, status: str, expected: str
) -> None:
    root = await submit(pool)
    await db.execute(
        "WITH made AS (INSERT INTO tasks (client_id, task_type, capability_required)"
        " SELECT 'c', 't', 'x' FROM generate_series(1, 10000) RETURNING task_id)"
        " INSERT INTO task_dependencies (task_id, depends_on) SELECT task_id, $1 FROM made",
        root,
    )
    assert (await counted(db))["ains_tasks_blocked"] == 10_000

    async def seconds(statement: str, *arguments: object) -> float:
        started = perf_counter()
        await db.execute(statement, *arguments)
        return perf_counter() - started

    change = "UPDATE tasks SET status = $2 WHERE task_id = $1"
    taken = await seconds(change, root, status)
    found = await db.fetch(
        "SELECT status, is_blocked, count(*) AS n FROM tasks WHERE task_id <> $1 GROUP BY 1, 2",
        root,
    )
    assert [tuple(row) for row in found] == [(expected, False, 10_000)]
    assert (await counted(db))["ains_tasks_blocked"] == 0
    # The machine may be busy: as many transitions, each of its own, are the measure.
    plain = await seconds("UPDATE tasks SET status = 'CANCELLED' WHERE task_id <> $1", root)
    assert taken < max(2, 3 * plain)


async def test_failure_runs_down_five_thousand_levels(
    db: asyncpg.Connection, pool: Database
) -> None:
    line = await chain_of(db, 5000)
    await end(db, "FAILED", line[0])
    assert await db.fetchval("SELECT count(*) FROM tasks WHERE status = 'FAILED'") == 5000
    await assert_true(db)


async def test_end_of_a_task_nobody_waits_for_does_not_look_at_those_who_wait(
    db: asyncpg.Connection, pool: Database
) -> None:
    """A hundred thousand tasks wait for one; the planner then thinks that everybody is waited for.

    The lookup has to use its index nevertheless, also by a plan that was made before.
    """
    root, *others = [await submit(pool) for _ in range(12)]
    await end(db, "COMPLETED", others.pop())
    await db.execute("SET session_replication_role = replica")  # quickly, without triggers
    await db.execute(
        "INSERT INTO task_dependencies (task_id, depends_on)"
        " SELECT gen_random_uuid(), $1 FROM generate_series(1, 100000)",
        root,
    )
    await db.execute("SET session_replication_role = origin")
    reads = "SELECT seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'task_dependencies'"
    for analyzed in (False, True):
        if analyzed:
            await db.execute("ANALYZE task_dependencies")
        async with db.transaction():
            for _ in range(5):
                await end(db, "COMPLETED", others.pop())
            assert await db.fetchval(reads) == 0


async def test_dependencies_that_come_at_once_are_not_looked_for_in_whole_indexes(
    db: asyncpg.Connection,
) -> None:
    """A plan that was made when the table was known to be empty has to do for ten thousand rows."""
    await db.execute("ANALYZE")
    for _ in range(10):
        await add_task(db)
    await db.execute(
        "WITH made AS (INSERT INTO tasks (client_id, task_type, capability_required, is_blocked)"
        " SELECT 'c', 't', 'x', true FROM generate_series(0, 10000) RETURNING task_id),"
        " root AS (SELECT task_id FROM made LIMIT 1)"
        " INSERT INTO task_dependencies (task_id, depends_on)"
        " SELECT m.task_id, r.task_id FROM made AS m, root AS r WHERE m.task_id <> r.task_id"
    )
    await db.execute("SELECT pg_stat_force_next_flush()")
    for table, lookups in (("task_dependencies", 4), ("tasks", 20)):
        blocks = await db.fetchval(
            "SELECT idx_blks_hit + idx_blks_read FROM pg_statio_user_tables WHERE relname = $1",
            table,
        )
        assert blocks < 10_000 * 3 * lookups, table


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
