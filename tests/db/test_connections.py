"""Connections are passed on in turn, and none is lost on the way."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from ains.db import connections
from ains.db.connections import Connections
from ains.db.pool import Database
from ains.db.sql import Query
from ains.errors import DatabaseUnavailable
from tests.support.waiting import gone

PID = Query("pid", "SELECT pg_backend_pid()", "SELECT", "none")
WRITE = Query("write", "UPDATE agents SET description = 'x'", "UPDATE", "agents")


async def opened(dsn: str, size: int, lifetime: float = 300) -> Connections:
    pool = await asyncpg.create_pool(
        dsn, min_size=0, max_size=size, max_inactive_connection_lifetime=lifetime
    )
    return Connections(pool, size)


@pytest.fixture
async def one(database_url: str) -> AsyncIterator[Connections]:
    """Room for a single connection."""
    made = await opened(database_url, 1)
    yield made
    await made.close(1)


async def settled() -> None:
    """Let all that can run do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_those_who_wait_have_their_turn_before_those_who_come_later(one: Connections) -> None:
    served: list[int] = []

    async def client(number: int) -> None:
        for _ in range(3):
            connection = await one.take(5)
            served.append(number)
            await asyncio.sleep(0)
            one.give(connection)

    await asyncio.gather(*(client(number) for number in range(4)))
    assert served == [0, 1, 2, 3] * 3


async def test_connection_is_used_again_without_being_returned(one: Connections) -> None:
    first = await one.take(1)
    assert (one.active, one.idle) == (1, 0)
    one.give(first)
    assert (one.active, one.idle) == (0, 1)
    assert await one.take(1) is first
    await one.give_back(first)
    assert (one.active, one.idle) == (0, 1)


async def test_who_has_waited_too_long_is_passed_over(one: Connections) -> None:
    connection = await one.take(1)
    impatient = asyncio.create_task(one.take(0.01))
    patient = asyncio.create_task(one.take(5))
    with pytest.raises(TimeoutError):
        await impatient
    one.give(connection)
    assert await patient is connection
    await one.give_back(connection)


@pytest.mark.parametrize("how", ["give", "give_back"])
async def test_connection_that_comes_as_its_taker_is_cancelled_goes_to_the_next(
    one: Connections, how: str
) -> None:
    connection = await one.take(1)
    cancelled = asyncio.create_task(one.take(5))
    following = asyncio.create_task(one.take(5))
    await settled()
    if how == "give":
        one.give(connection)
    else:
        await one.give_back(connection)
    cancelled.cancel()
    await one.give_back(await following)
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert (one.active, one.idle) == (0, 1)


async def test_connection_that_dies_on_its_way_is_replaced(
    one: Connections, db: asyncpg.Connection
) -> None:
    connection = await one.take(1)
    pid = connection.get_server_pid()
    next_one = asyncio.create_task(one.take(5))
    await settled()
    one.give(connection)
    connection.terminate()  # before the next one runs
    replacement = await next_one
    assert replacement.get_server_pid() != pid
    assert await replacement.fetchval("SELECT 1") == 1
    one.give(replacement)
    assert (one.active, one.idle) == (0, 1)


async def test_each_thousandth_goes_through_the_pool(
    one: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_PASSED_ON", 3)
    first = await one.take(1)
    one.give(first)
    assert await one.take(1) is first
    one.give(first)
    assert await one.take(1) is first
    one.give(first)
    renewed = await one.take(1)
    assert renewed is not first  # the pool lends it under another name
    one.give(renewed)


async def test_closing_while_it_finds_out_about_a_pooler_opens_nothing(
    database_url: str, db: asyncpg.Connection
) -> None:
    database = Database(database_url, pooler=None, application_name="closed early")
    statement = asyncio.create_task(database.fetchval(PID))
    await settled()
    await database.close()
    with pytest.raises(DatabaseUnavailable):
        await statement
    left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'closed early'"
    assert await db.fetchval(left) == 0


async def test_failed_attempts_to_connect_leave_room_for_the_next() -> None:
    absent = Database("postgresql://u:secret@127.0.0.1:1/nothing", max_size=1, acquire_timeout=1)
    for _ in range(3):
        found = await asyncio.gather(
            *(absent.fetchval(PID) for _ in range(3)), return_exceptions=True
        )
        for error in found:
            assert isinstance(error, DatabaseUnavailable)
            assert "No connection" not in str(error)
    assert absent.active == 0
    await absent.close()


async def test_connections_that_died_unused_cost_a_writer_nothing(
    database_url: str, db: asyncpg.Connection
) -> None:
    database = Database(database_url, max_size=7)  # one is the lane's
    pids = await asyncio.gather(*(database.fetchval(PID) for _ in range(6)))
    assert len(set(pids)) == 6
    for pid in pids:
        await db.execute("SELECT pg_terminate_backend($1)", pid)
    await gone(db, pids)
    assert await database.execute(WRITE) == 0
    await database.close()


async def test_unused_connections_are_closed_in_the_end(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_KEEP_SECONDS", 0.01)
    made = await opened(database_url, 2, lifetime=0.05)
    first, second = await made.take(1), await made.take(1)
    made.give(first)
    made.give(second)
    async with asyncio.timeout(5):
        while made.idle or made.active:
            await asyncio.sleep(0.01)
    made.give(await made.take(1))
    await made.close(1)


async def test_close_refuses_who_waits_and_lets_a_statement_end(database_url: str) -> None:
    database = Database(database_url, max_size=1)
    slow = Query("slow", "SELECT pg_sleep(0.2)::text", "SELECT", "none")
    running = asyncio.create_task(database.fetchval(slow))
    waiting = asyncio.create_task(database.fetchval(PID))
    await asyncio.sleep(0.1)
    await database.close()
    assert await running == ""
    with pytest.raises(DatabaseUnavailable):
        await asyncio.wait_for(waiting, 1)


async def test_close_cuts_off_what_does_not_end(one: Connections, db: asyncpg.Connection) -> None:
    connection = await one.take(1)
    pid = connection.get_server_pid()
    await one.close(0.05)
    await gone(db, [pid])
    one.give(connection)
    await settled()
    with pytest.raises(asyncpg.InterfaceError, match="closed"):
        await one.take(1)
