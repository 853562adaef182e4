"""A process waits for its database, and gets it ready."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg
import pytest
from structlog.testing import capture_logs

from ains.db import upkeep
from ains.db.migrations import head
from ains.db.pool import Database
from ains.domain.service import ServiceState
from ains.errors import SchemaTooNew
from ains.workers.startup import Startup
from tests.support.databases import Databases, with_database

TTL = timedelta(seconds=7)


@asynccontextmanager
async def startup(dsn: str) -> AsyncIterator[tuple[Startup, ServiceState, list[str]]]:
    state, calls = ServiceState(), list[str]()
    state.on_started = lambda: calls.append("started")
    database = Database(dsn, acquire_timeout=1)
    settings = upkeep.MetricsSettings(TTL, None)
    made = Startup(dsn, database, settings, state, lambda: calls.append("workers"))
    yield made, state, calls
    await database.close()


async def test_migrates_tells_the_ttl_and_starts_the_workers(databases: Databases) -> None:
    async with databases.clone(empty=True) as dsn, startup(dsn) as (made, state, calls):
        await made.run()
        connection = await asyncpg.connect(dsn)
        assert await connection.fetchval("SELECT version_num FROM ains_schema_version") == head()
        assert await connection.fetchval("SELECT agent_ttl FROM metrics.settings") == TTL
        await connection.close()
    assert calls == ["workers", "started"]
    assert (state.started, state.waiting_for) == (True, None)


async def test_waits_for_a_database_that_appears_later(databases: Databases) -> None:
    async with databases.clone(empty=True) as dsn:
        name = f"{dsn.rpartition('/')[2]}_late"
        late = with_database(dsn, name)
        async with startup(late) as (made, state, calls):
            with capture_logs() as logs:
                task = asyncio.create_task(made.run())
                await made.first_try.wait()
                assert not state.started
                assert state.waiting_for is not None
                connection = await asyncpg.connect(dsn)
                await connection.execute(f"CREATE DATABASE {name}")
                async with asyncio.timeout(20):
                    await task
            assert [e["event"] for e in logs].count("waiting for the database") == 1
            assert name in logs[0]["reason"]
            assert calls == ["workers", "started"]
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await connection.close()


async def test_database_of_a_newer_ains_is_refused_for_good(
    database_url: str, db: asyncpg.Connection
) -> None:
    await db.execute("UPDATE ains_schema_version SET version_num = '9999'")
    async with startup(database_url) as (made, state, calls):
        with pytest.raises(SchemaTooNew, match="9999"):
            async with asyncio.timeout(5):
                await made.run()
    assert (state.started, calls) == (False, [])


async def test_absent_database_is_told_without_its_password() -> None:
    async with startup("postgresql://nobody:s3cret@127.0.0.1:1/d") as (made, state, _):
        with capture_logs() as logs:
            task = asyncio.create_task(made.run())
            await made.first_try.wait()
            task.cancel()
            await asyncio.wait([task])
    assert "s3cret" not in f"{logs}{state.waiting_for}"
