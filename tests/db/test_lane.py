"""Writes that come at the same time go together, and none suffers from another."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from ains.db import lane, tasks
from ains.db.pool import Database
from ains.db.sql import Query
from ains.domain.states import TaskStatus
from ains.domain.tasks import ReportStatus, SubmitTask
from ains.errors import Conflict, DatabaseUnavailable, InvalidInput
from tests.support.databases import eventually
from tests.support.rows import add_agent
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


@pytest.fixture
async def patient(
    database_url: str, pool: Database, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Database]:
    """Another pool, whose groups may take long."""
    monkeypatch.setitem(lane.SESSION, "statement_timeout", "30s")
    database = Database(database_url, max_size=3, min_size=2)
    await database.warm()
    yield database
    await database.close()


async def write(pool: Database, key: str, place: int) -> asyncpg.Record:
    row = await pool.fetchrow(WRITE, key, place)
    assert row is not None
    return row


async def changed(pool: Database, key: str) -> asyncpg.Record | None:
    return await pool.fetchrow(CHANGE, key)


async def changes(pool: Database, key: str) -> int:
    """Change it once more; returns how often that was done."""
    row = await changed(pool, key)
    assert row is not None
    return int(row["changes"])


async def lane_pid(pool: Database) -> int:
    """The process id of the lane's connection."""
    rows = await asyncio.gather(*(changed(pool, key) for key in "abc"))
    [pid] = {row["pg_backend_pid"] for row in rows if row}
    return int(pid)


async def test_what_comes_at_the_same_time_shares_a_transaction(
    pool: Database, observed: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "_PATIENCE_SECONDS", 5)
    rows = await asyncio.gather(*(write(pool, f"k{n}", n) for n in range(16)))
    assert [row["key"] for row in rows] == [f"k{n}" for n in range(16)]
    # Half of those who wait, and at least four.
    assert [*Counter(row["transaction"] for row in rows).values()] == [8, 4, 4]
    assert observed == {"INSERT": 16}


async def test_group_is_sent_in_the_order_of_its_parameter(pool: Database) -> None:
    rows = await asyncio.gather(*(write(pool, f"k{n}", -n) for n in range(4)))
    assert [row["key"] for row in sorted(rows, key=lambda row: row["nr"])] == [
        "k3", "k2", "k1", "k0",
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
    patient: Database, db: asyncpg.Connection
) -> None:
    async with db.transaction():
        await db.execute("SELECT FROM notes WHERE key = 'b' FOR UPDATE")
        locked, *others = (asyncio.create_task(changed(patient, key)) for key in "bcd")
        async with asyncio.timeout(5):
            await asyncio.gather(*others)
        assert not locked.done()
    assert await locked
    assert await changes(patient, "b") == 2


async def test_statement_that_takes_long_is_not_waited_for_by_the_others(pool: Database) -> None:
    slow, *others = (
        asyncio.create_task(pool.fetchrow(SLOW, key, seconds))
        for key, seconds in (("a", 1.5), ("b", 0), ("c", 0))
    )
    async with asyncio.timeout(1.4):
        await asyncio.gather(*others)
    assert not slow.done()
    assert await slow
    assert await changes(pool, "a") == 2


async def test_group_that_takes_long_is_overtaken(
    patient: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "_PATIENCE_SECONDS", 0.01)
    slow = [asyncio.create_task(patient.fetchrow(SLOW, key, 0.5)) for key in "abc"]
    await asyncio.sleep(0)
    await changed(patient, "d")  # when it has waited
    monkeypatch.setattr(lane, "_PATIENCE_SECONDS", 30)
    await asyncio.gather(changed(patient, "d"), changed(patient, "e"))  # at once
    assert not any(task.done() for task in slow)
    assert [row and row["key"] for row in await asyncio.gather(*slow)] == ["a", "b", "c"]


async def test_who_is_cancelled_while_waiting_has_done_nothing(pool: Database) -> None:
    slow = asyncio.create_task(pool.fetchrow(SLOW, "a", 0.05))
    await asyncio.sleep(0)
    cancelled, other = (asyncio.create_task(changed(pool, key)) for key in "bc")
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.gather(slow, other)
    assert cancelled.cancelled()
    assert await changes(pool, "b") == 1


async def test_without_its_connection_each_goes_by_itself(
    database_url: str, service_url: str, pool: Database, db: asyncpg.Connection
) -> None:
    await db.execute("GRANT ALL ON notes, notes_nr_seq TO PUBLIC")
    database = Database(service_url, max_size=4)
    async with database.acquire(), database.acquire(), database.acquire():
        pass
    await db.execute(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT %s', current_database(),"
        " (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database())); END $$"
    )
    rows = await asyncio.gather(*(write(database, f"k{n}", n) for n in range(12)))
    assert len({row["transaction"] for row in rows}) == 12
    await database.close()


async def test_each_of_a_group_is_told_when_its_connection_breaks(
    patient: Database, db: asyncpg.Connection
) -> None:
    group = [asyncio.create_task(patient.fetchrow(SLOW, key, 30)) for key in "bc"]
    running = "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query = $1"
    await eventually(lambda: db.fetchval(running, SLOW.text))
    await db.execute(f"SELECT pg_terminate_backend(pid) FROM ({running}) AS r", SLOW.text)
    async with asyncio.timeout(5):  # so that nobody has sent it again
        results = await asyncio.gather(*group, return_exceptions=True)
    assert [type(told) for told in results] == [DatabaseUnavailable] * 2
    assert await changes(patient, "b") == 1


async def test_connection_that_died_unused_costs_a_group_nothing(
    pool: Database, db: asyncpg.Connection
) -> None:
    pid = await lane_pid(pool)
    await db.execute("SELECT pg_terminate_backend($1)", pid)
    await gone(db, [pid])
    assert await lane_pid(pool) != pid


async def test_waiting_group_is_refused_at_the_end(pool: Database) -> None:
    under_way = asyncio.create_task(pool.fetchrow(SLOW, "a", 0.05))
    async with asyncio.timeout(5):
        while not pool.active:
            await asyncio.sleep(0)
    waiting = [asyncio.create_task(changed(pool, key)) for key in "bc"]
    await asyncio.sleep(0)
    close = asyncio.create_task(pool.close())
    for told in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(told, DatabaseUnavailable)
    assert await under_way
    await close


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


async def test_tasks_are_submitted_started_and_completed_together(
    database_url: str, db: asyncpg.Connection
) -> None:
    for number in range(3):
        await add_agent(db, f"agent-{number}")
    one, two = (Database(database_url, min_size=1, max_size=3) for _ in range(2))
    numbers = range(24)
    ids = [uuid4() for _ in numbers]
    task = SubmitTask.model_validate_json(
        '{"client_id": "c", "task_type": "t", "capability_required": "x", "input_data": {}}'
    )
    await asyncio.gather(one.warm(), two.warm())

    async def report(number: int, status: TaskStatus) -> None:
        database = (one, two)[number % 2]
        agent = submitted[number]["assigned_agent_id"]
        assert agent is not None
        said = ReportStatus(status=status, result_data=str(number))
        assert (await tasks.report(database, ids[number], agent, said)).answer["status"] == status

    submitted = await asyncio.gather(
        *(tasks.submit((one, two)[n % 2], ids[n], task, timedelta(60)) for n in numbers)
    )
    assert [answer["task_id"] for answer in submitted] == ids
    for status in (TaskStatus.ACTIVE, TaskStatus.COMPLETED):
        await asyncio.gather(*(report(number, status) for number in numbers))
    rows = await db.fetch("SELECT task_id, xmin::text, result_data FROM tasks")
    assert {row["task_id"]: row["result_data"] for row in rows} == {
        ids[number]: f'"{number}"' for number in numbers
    }
    assert len({row["xmin"] for row in rows}) < len(numbers)
    assert await db.fetchval("SELECT sum(total_tasks_completed) FROM agents") == len(numbers)
    await asyncio.gather(one.close(), two.close())
