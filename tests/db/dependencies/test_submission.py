"""A new task finds out about what it depends on: how it ended, or that there is no such task."""

import asyncpg
import pytest

from ains.db.pool import Database
from ains.domain.ids import uuid7
from ains.errors import NotFound
from tests.support.dependencies import assert_true, end, state, submit
from tests.support.rows import events


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
