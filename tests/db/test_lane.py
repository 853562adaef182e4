"""Writes that come at the same time go together, and none suffers from another."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from ains.db import lane
from ains.db.pool import Database
from ains.db.sql import Query
from ains.errors import Conflict, DatabaseUnavailable, InvalidInput
from tests.support.waiting import gone

WRITE = Query(
    "write",
    "INSERT INTO notes (key, place) VALUES ($1, $2)"
    " RETURNING key, place, nr, pg_current_xact_id()::text AS transaction",
    "INSERT",
    "notes",
    together=2,
)
CHANGE = Query(
    "change",
    "UPDATE notes SET changes = changes + 1 WHERE key = $1"
    " RETURNING key, changes, pg_backend_pid()",
    "UPDATE",
    "notes",
    together=1,
)
SLOW = Query(
    "slow",
    "UPDATE notes SET changes = changes + 1 FROM pg_sleep($2::float8) WHERE key = $1 RETURNING key",
    "UPDATE",
    "notes",
    together=1,
)


@pytest.fixture
async def observed() -> Counter[str]:
    return Counter()


@pytest.fixture
async def pool(
    database_url: str, db: asyncpg.Connection, observed: Counter[str]
) -> AsyncIterator[Database]:
    await db.execute(
        "CREATE TABLE notes"
        " (key text PRIMARY KEY, place integer, nr serial, changes integer DEFAULT 0)"
    )
    await db.execute("INSERT INTO notes (key) VALUES ('a'), ('b'), ('c'), ('d'), ('e')")
    database = Database(
        database_url,
        max_size=4,
        min_size=2,
        observe=lambda verb, _table, _seconds: observed.update([verb]),
    )
    await database.warm()
    yield database
    await database.close()


async def write(pool: Database, key: str, place: int) -> asyncpg.Record:
    row = await pool.fetchrow(WRITE, key, place)
    assert row is not None
    return row


async def changed(pool: Database, key: str) -> asyncpg.Record | None:
    return await pool.fetchrow(CHANGE, key)


async def lane_pid(pool: Database) -> int:
    """The process id of the lane's connection."""
    rows = await asyncio.gather(*(changed(pool, key) for key in "abcd"))
    [pid] = {row["pg_backend_pid"] for row in rows[1:] if row}
    return int(pid)


async def test_what_comes_during_a_statement_shares_a_transaction(
    pool: Database, observed: Counter[str]
) -> None:
    rows = await asyncio.gather(*(write(pool, f"k{n}", n) for n in range(9)))
    assert [row["key"] for row in rows] == [f"k{n}" for n in range(9)]
    # The first goes at once, by itself. Of the others half, while the rest waits for those.
    transactions = [row["transaction"] for row in rows]
    assert sorted(Counter(transactions).values()) == [1, 4, 4]
    assert len(set(transactions[1:5])) == 1
    assert observed == {"INSERT": 9}


async def test_group_is_sent_in_the_order_of_its_parameter(pool: Database) -> None:
    rows = await asyncio.gather(*(write(pool, f"k{n}", -n) for n in range(5)))
    assert [row["key"] for row in sorted(rows, key=lambda row: row["nr"])] == [
        "k0", "k4", "k3", "k2", "k1",
    ]  # fmt: skip


async def test_row_that_is_not_found_is_none_for_that_one(pool: Database) -> None:
    rows = await asyncio.gather(*(changed(pool, key) for key in ("a", "b", "nobody", "c")))
    assert [row and row["key"] for row in rows] == ["a", "b", None, "c"]


async def test_error_of_one_is_not_that_of_the_others(
    pool: Database, db: asyncpg.Connection
) -> None:
    first, good, twice, bad, last = await asyncio.gather(
        *(write(pool, key, 1) for key in ("k0", "k1", "a", "\0", "k2")), return_exceptions=True
    )
    assert isinstance(twice, Conflict)
    assert isinstance(bad, InvalidInput)
    assert [row["key"] for row in (first, good, last) if isinstance(row, asyncpg.Record)] == [
        "k0", "k1", "k2",
    ]  # fmt: skip
    assert await db.fetchval("SELECT count(*) FROM notes WHERE key LIKE 'k%'") == 3


async def test_two_with_the_same_key_are_both_carried_out(pool: Database) -> None:
    rows = await asyncio.gather(*(changed(pool, key) for key in ("a", "b", "b", "b")))
    assert sorted(row["changes"] for row in rows[1:] if row) == [1, 2, 3]


async def test_lock_that_one_waits_for_is_not_waited_for_by_the_others(
    pool: Database, db: asyncpg.Connection
) -> None:
    async with db.transaction():
        await db.execute("SELECT FROM notes WHERE key = 'b' FOR UPDATE")
        first, locked, *others = (asyncio.create_task(changed(pool, key)) for key in "abcd")
        async with asyncio.timeout(5):
            await asyncio.gather(first, *others)
        assert not locked.done()
    row = await locked
    assert row is not None
    assert row["changes"] == 1


async def test_slow_group_is_overtaken(pool: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "_PATIENCE_SECONDS", 0.01)
    first = asyncio.create_task(changed(pool, "a"))
    slow = [asyncio.create_task(pool.fetchrow(SLOW, key, 0.5)) for key in "bc"]
    await first
    async with asyncio.timeout(5):
        await asyncio.gather(changed(pool, "d"), changed(pool, "e"))
        await changed(pool, "d")
    assert not any(task.done() for task in slow)
    assert [row and row["key"] for row in await asyncio.gather(*slow)] == ["b", "c"]


async def test_slow_statement_by_itself_holds_up_no_group(
    pool: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "_PATIENCE_SECONDS", 0.01)
    slow = asyncio.create_task(pool.fetchrow(SLOW, "a", 0.5))
    async with asyncio.timeout(5):
        rows = await asyncio.gather(*(changed(pool, key) for key in "bcde"))
        pid = await lane_pid(pool)
    assert {row["pg_backend_pid"] for row in rows if row} == {pid}
    assert not slow.done()
    await slow
    await changed(pool, "a")


async def test_each_of_a_group_is_told_when_its_connection_breaks(
    pool: Database, db: asyncpg.Connection
) -> None:
    pid = await lane_pid(pool)
    first = asyncio.create_task(changed(pool, "a"))
    group = [asyncio.create_task(pool.fetchrow(SLOW, key, 30)) for key in "bc"]
    await first
    active = "SELECT FROM pg_stat_activity WHERE pid = $1 AND state = 'active'"
    async with asyncio.timeout(5):
        while not await db.fetch(active, pid):
            await asyncio.sleep(0.01)
    await db.execute("SELECT pg_terminate_backend($1)", pid)
    async with asyncio.timeout(5):  # so that nobody has sent it again
        results = await asyncio.gather(*group, return_exceptions=True)
    assert [type(told) for told in results] == [DatabaseUnavailable] * 2
    row = await changed(pool, "b")
    assert row is not None
    assert row["changes"] == 2  # by lane_pid() and now


async def test_connection_that_died_unused_costs_a_group_nothing(
    pool: Database, db: asyncpg.Connection
) -> None:
    pid = await lane_pid(pool)
    await db.execute("SELECT pg_terminate_backend($1)", pid)
    await gone(db, [pid])
    assert await lane_pid(pool) != pid


async def test_waiting_group_is_refused_at_the_end(pool: Database) -> None:
    first = asyncio.create_task(pool.fetchrow(SLOW, "a", 0.2))
    waiting = [asyncio.create_task(changed(pool, key)) for key in "bc"]
    await asyncio.sleep(0)
    closing = asyncio.create_task(pool.close())
    for told in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(told, DatabaseUnavailable)
    await first
    await closing


@pytest.mark.parametrize("options", [{"max_size": 2}, {"pooler": True}])
async def test_without_room_or_session_each_goes_by_itself(
    database_url: str, pool: Database, options: dict[str, Any]
) -> None:
    database = Database(database_url, **options)
    rows = await asyncio.gather(*(write(database, f"k{n}", n) for n in range(6)))
    assert len({row["transaction"] for row in rows}) == 6
    await database.close()


async def test_pool_never_has_more_connections_than_it_may(
    pool: Database, db: asyncpg.Connection
) -> None:
    pids = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ains'"
    most = 0
    tasks = [
        asyncio.create_task(pool.fetchrow(query, key, *more))
        for query, more in ((SLOW, (0.02,)), (CHANGE, ()))
        for key in "abcde" * 4
    ]
    while not all(task.done() for task in tasks):
        most = max(most, await db.fetchval(pids))
        assert pool.active + pool.idle <= pool.max_size
        await asyncio.sleep(0.005)
    await asyncio.gather(*tasks)
    assert 2 <= most <= pool.max_size
    assert await db.fetchval("SELECT sum(changes) FROM notes") == 40
