"""Processes wake each other by NOTIFY, and manage without."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from ains.db.pool import Database
from ains.db.upkeep import CHANNEL
from ains.workers.listener import Listener
from ains.workers.wakeup import Announcer
from tests.support.databases import eventually


@asynccontextmanager
async def running(thing: Listener | Announcer) -> AsyncIterator[None]:
    task = asyncio.create_task(thing.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def state_is(listener: Listener, state: str) -> None:
    async def reached() -> bool:
        return listener.state == state

    await eventually(reached, every=0.005)


async def called(calls: list[None], count: int) -> None:
    async def enough() -> bool:
        return len(calls) >= count

    await eventually(enough, every=0.005)


async def test_notification_wakes(database_url: str, db: asyncpg.Connection) -> None:
    calls: list[None] = []
    listener = Listener(database_url, lambda: calls.append(None))
    async with running(listener):
        await called(calls, 1)  # at the start, for what came before
        await db.execute(f"NOTIFY {CHANNEL}")
        await called(calls, 2)


async def test_listener_comes_back_when_its_connection_is_killed(
    database_url: str, db: asyncpg.Connection
) -> None:
    calls: list[None] = []
    listener = Listener(database_url, lambda: calls.append(None))
    async with running(listener):
        await called(calls, 1)
        await db.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'ains listener' AND datname = current_database()"
        )
        await called(calls, 2)
        await db.execute(f"NOTIFY {CHANNEL}")
        await called(calls, 3)


async def test_listener_waits_for_a_database_that_is_away() -> None:
    listener = Listener("postgresql://u@127.0.0.1:1/d", lambda: None)
    async with running(listener):
        await asyncio.sleep(0.2)
        assert listener.state == "connecting"


async def test_many_calls_make_few_notifications(database_url: str, db: asyncpg.Connection) -> None:
    heard: list[object] = []
    await db.add_listener(CHANNEL, lambda *_: heard.append(None))
    database = Database(database_url)
    announcer = Announcer(database, pause=0.2)
    async with running(announcer):
        for _ in range(100):
            announcer()
            await asyncio.sleep(0.003)

        async def twice() -> bool:
            return len(heard) >= 2

        announcer()
        await eventually(twice)
    assert len(heard) <= 4
    await database.close()


async def test_announcer_outlives_the_database(database_url: str, db: asyncpg.Connection) -> None:
    heard: list[object] = []
    await db.add_listener(CHANNEL, lambda *_: heard.append(None))
    database = Database(database_url, max_size=1, acquire_timeout=0.05)
    announcer = Announcer(database, pause=0.01)
    async with running(announcer):
        async with database.acquire() as connection:
            announcer()  # finds no free connection
            await connection.execute("SELECT pg_sleep(0.2)")

        async def once() -> bool:
            announcer()
            return bool(heard)

        await eventually(once)
    await database.close()
