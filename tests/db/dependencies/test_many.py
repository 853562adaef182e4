"""Thousands that wait, for one task or for each other, cost no more than they must."""

from collections.abc import Mapping
from time import perf_counter
from uuid import UUID

import asyncpg
import pytest

from ains.db.pool import Database
from ains.domain.ids import uuid7
from tests.support.dependencies import assert_true, end, submit
from tests.support.rows import add_task


async def counted(db: asyncpg.Connection) -> Mapping[str, int]:
    """Sums of the families that have to balance."""
    rows = await db.fetch("SELECT family, sum(n)::bigint AS n FROM metrics.series GROUP BY 1")
    return {row["family"]: row["n"] for row in rows}


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
