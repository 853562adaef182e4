"""The pool: every error is one of ours, and a lost connection is forgotten."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from ains.db.pool import Database
from ains.db.sql import Query
from ains.errors import Conflict, DatabaseUnavailable, InvalidInput, RetryLater

ONE = Query("one", "SELECT 1", "SELECT", "none")
PID = Query("pid", "SELECT pg_backend_pid()", "SELECT", "none")
INSERT = Query(
    "insert",
    "INSERT INTO tasks (client_id, task_type, capability_required, priority)"
    " VALUES ($1, 't', 'x', $2)",
    "INSERT",
    "tasks",
)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, max_size=4, acquire_timeout=1)  # one is the lane's
    yield database
    await database.close()


async def test_statement_is_observed_with_its_labels(database_url: str) -> None:
    seen: list[tuple[str, str]] = []
    database = Database(
        database_url, observe=lambda verb, table, seconds: seen.append((verb, table))
    )
    assert await database.execute(INSERT, "c", 5) == 1
    with pytest.raises(InvalidInput):
        await database.execute(INSERT, "\0", 5)
    await database.close()
    assert seen == [("INSERT", "tasks")] * 2


async def test_killed_connection_costs_a_reader_nothing(
    pool: Database, db: asyncpg.Connection
) -> None:
    pid = await pool.fetchval(PID)
    await db.execute("SELECT pg_terminate_backend($1)", pid)
    assert await pool.fetchval(PID) != pid


async def test_writer_is_told_when_its_connection_breaks(
    pool: Database, db: asyncpg.Connection
) -> None:
    slow = Query("slow", "UPDATE agents SET status = status || pg_sleep(30)", "UPDATE", "agents")
    await db.execute(
        "INSERT INTO agents (agent_id, display_name, endpoint, public_key, signature)"
        " VALUES ('a', 'A', 'http://a', '00', '00')"
    )
    writer = asyncio.create_task(pool.execute(slow))
    kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)'"
    async with asyncio.timeout(5):
        while not await db.fetch(kill):
            await asyncio.sleep(0.01)
    with pytest.raises(DatabaseUnavailable):
        await writer


async def test_absent_database_is_unavailable_without_its_password() -> None:
    database = Database("postgresql://u:secret@127.0.0.1:1/nothing", acquire_timeout=1)
    with pytest.raises(DatabaseUnavailable) as caught:
        await database.fetchval(ONE)
    assert "secret" not in str(caught.value)
    await database.close()


async def test_full_pool_is_unavailable_after_its_timeout(pool: Database) -> None:
    async with pool.acquire(), pool.acquire(), pool.acquire():
        assert pool.active == 3
        with pytest.raises(DatabaseUnavailable, match="No connection"):
            await pool.fetchval(ONE)
    assert pool.active == 0


@pytest.mark.parametrize(
    ("client", "priority", "error"),
    [("\0", 5, InvalidInput), ("c", 10**6, InvalidInput)],
    ids=["NUL", "out of range"],
)
async def test_value_that_cannot_be_stored_is_invalid_input(
    pool: Database, client: str, priority: int, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await pool.execute(INSERT, client, priority)


async def test_duplicate_key_is_a_conflict(pool: Database) -> None:
    query = Query(
        "twice",
        "INSERT INTO tasks (task_id, client_id, task_type, capability_required)"
        " VALUES ('00000000-0000-0000-0000-000000000001', 'c', 't', 'x')",
        "INSERT",
        "tasks",
    )
    await pool.execute(query)
    with pytest.raises(Conflict):
        await pool.execute(query)


async def test_mistake_of_our_own_stays_visible(pool: Database) -> None:
    with pytest.raises(asyncpg.PostgresSyntaxError):
        await pool.execute(Query("bad", "SELEKT", "OTHER", "none"))


async def test_statement_that_takes_too_long_is_cancelled(
    database_url: str, db: asyncpg.Connection
) -> None:
    database = Database(database_url, command_timeout=0.2)
    with pytest.raises(RetryLater):
        await database.fetchval(Query("sleep", "SELECT pg_sleep(30)", "OTHER", "none"))
    running = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE query = 'SELECT pg_sleep(30)' AND state = 'active'"
    )
    async with asyncio.timeout(5):
        while await db.fetchval(running):
            await asyncio.sleep(0.01)
    await database.close()


async def test_deadlock_is_tried_again(pool: Database, db: asyncpg.Connection) -> None:
    await db.execute(
        "INSERT INTO agents (agent_id, display_name, endpoint, public_key, signature)"
        " SELECT n, n, 'http://a', '00', '00' FROM unnest('{a,b}'::text[]) AS n"
    )
    # Each locks one row, waits a little, then wants the other's.
    text = (
        "WITH first AS MATERIALIZED (SELECT agent_id FROM agents WHERE agent_id = $1 FOR UPDATE),"
        " pause AS MATERIALIZED (SELECT pg_sleep(0.2) FROM first)"
        " UPDATE agents SET description = $1 FROM pause WHERE agent_id = $2"
    )
    query = Query("cross", text, "UPDATE", "agents")
    await asyncio.gather(pool.execute(query, "a", "b"), pool.execute(query, "b", "a"))
    assert await db.fetchval("SELECT count(*) FROM agents WHERE description IS NOT NULL") == 2


@pytest.mark.parametrize("pooler", [False, True])
async def test_statements_see_what_is_committed_whatever_the_database_s_default(
    db: asyncpg.Connection, database_url: str, pooler: bool
) -> None:
    name = await db.fetchval("SELECT current_database()")
    await db.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    level = Query("level", "SELECT current_setting('transaction_isolation')", "SELECT", "none")
    pool = Database(database_url, pooler=pooler)
    assert await pool.fetchval(level) == "read committed"
    async with pool.transaction() as transaction:
        assert await transaction.fetchval(level) == "read committed"
    await pool.close()
