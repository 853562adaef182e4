"""A scrape ends in time with all that can be had, and shares what it reads."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg
import psutil
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from ains.db.embedded import EmbeddedPostgres, temporary_data_dir
from ains.db.migrations import upgrade
from collectors.agents import AgentCollector
from collectors.chains import ChainCollector
from collectors.connection import pool_maker
from collectors.exporter import InfoCollector
from collectors.exposition import metrics_handler
from collectors.reader import Reader
from collectors.scrape import Scraper, Snapshot
from collectors.tasks import TaskCollector, TaskData
from tests.support.databases import eventually
from tests.support.nat import Nat
from tests.support.scraped import scrape, total

ALL = {"tasks", "agents", "chains", "webhooks"}


@asynccontextmanager
async def locked(database_url: str, table: str) -> AsyncIterator[None]:
    """Somebody holds a lock that even readers wait for."""
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


async def waiting(db: asyncpg.Connection) -> list[int]:
    """Process ids of scrapes that wait for a lock."""
    rows = await db.fetch(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'ains metrics'"
        " AND datname = current_database() AND wait_event_type = 'Lock'"
    )
    return [row["pid"] for row in rows]


def succeeded(snapshot: Snapshot) -> set[str]:
    return {outcome.name for outcome in snapshot.outcomes if outcome.error is None}


@pytest.mark.parametrize("table", ["agents", "tasks"])
async def test_locked_table_costs_its_collector_alone(
    scraper: Scraper, database_url: str, table: str
) -> None:
    await scraper.scrape()
    async with locked(database_url, table):
        started = time.perf_counter()
        snapshot = await scraper.scrape(2.0)
        assert time.perf_counter() - started < 1.5, "a lock costs half of the time"
    assert snapshot.up
    # Of the tasks themselves, only the age of the queue is read.
    assert succeeded(snapshot) == ALL - {table}


async def test_each_collector_has_its_share_of_the_time_that_is_left(database_url: str) -> None:
    class Slow(TaskCollector):
        async def fetch(self, reader: Reader) -> TaskData:
            await reader.fetch("SELECT pg_sleep(1.2)::text")
            return await super().fetch(reader)

    scraper = Scraper(pool_maker(database_url), [Slow(), AgentCollector(), ChainCollector()])
    try:
        await scraper.scrape(None, {"ains_chains_total"})
        async with locked(database_url, "agents"):
            assert succeeded(await scraper.scrape(2.0)) == {"tasks", "chains"}
    finally:
        await scraper.close()


async def test_whoever_has_more_time_gives_it_to_the_scrape_it_joins(
    scraper: Scraper, database_url: str
) -> None:
    await scraper.scrape()
    async with locked(database_url, "agents"):
        hasty = asyncio.create_task(scraper.scrape(0.4))
        patient = asyncio.create_task(scraper.scrape(30))
        so_far = await hasty
        assert so_far.up
        assert succeeded(so_far) == {"tasks"}, "what is read before agents"
        assert not patient.done()
    assert succeeded(await patient) == ALL
    assert succeeded(so_far) == {"tasks"}, "an answer does not change"


async def test_sharer_that_gives_up_cancels_nothing_for_the_others(
    scraper: Scraper, db: asyncpg.Connection, database_url: str
) -> None:
    await scraper.scrape()
    async with locked(database_url, "agents"):
        sharers = [asyncio.create_task(scraper.scrape(30)) for _ in range(3)]
        await eventually(lambda: waiting(db))
        sharers[0].cancel()
        await asyncio.wait(sharers[:1])
        assert len(await waiting(db)) == 1
    first, second, third = await asyncio.gather(*sharers, return_exceptions=True)
    assert isinstance(first, asyncio.CancelledError)
    assert second is third
    assert isinstance(third, Snapshot)
    assert third.up


async def test_scrape_after_an_abandoned_one_does_not_wait_for_it(
    scraper: Scraper, db: asyncpg.Connection, database_url: str
) -> None:
    await scraper.scrape()
    async with locked(database_url, "agents"):
        abandoned = asyncio.create_task(scraper.scrape(30))
        await eventually(lambda: waiting(db))
        abandoned.cancel()
        await asyncio.wait([abandoned])
        assert succeeded(await scraper.scrape(1.0)) == ALL - {"agents"}


async def test_connection_that_ends_in_the_middle_costs_no_scrape(
    scraper: Scraper, db: asyncpg.Connection, database_url: str
) -> None:
    await scraper.scrape()
    async with locked(database_url, "agents"):
        task = asyncio.create_task(scraper.scrape(30))
        await eventually(lambda: waiting(db))
        (pid,) = await waiting(db)
        await db.execute("SELECT pg_terminate_backend($1)", pid)

        async def again() -> bool:
            return bool(set(await waiting(db)) - {pid})

        await eventually(again)
    assert succeeded(await task) == ALL


async def test_connections_that_a_firewall_forgot_cost_no_scrape(database_url: str) -> None:
    nat = Nat(database_url)
    async with nat.running() as dsn:
        scraper = Scraper(pool_maker(dsn), [TaskCollector(), AgentCollector()])
        await asyncio.gather(scraper.scrape(), scraper.scrape(None, {"ains_agents_total"}))
        nat.forget()
        started = time.perf_counter()
        assert succeeded(await scraper.scrape(3.0)) == {"tasks", "agents"}
        assert time.perf_counter() - started > 0.9, "the connections were still there"
        await scraper.close()


async def test_names_run_only_the_collectors_that_they_need(scraper: Scraper) -> None:
    async def asked(*names: str) -> set[str]:
        return {outcome.name for outcome in (await scraper.scrape(None, names)).outcomes}

    assert await asked("ains_agents_total") == {"agents"}
    assert await asked("ains_task_duration_seconds_bucket", "ains_chains") == {"tasks", "chains"}
    assert await asked("ains_http_requests_total", "no_such_name") == set()
    assert await asked("ains_up") == ALL


async def test_first_scrapes_at_once_share_one_pool(database_url: str) -> None:
    pools = 0

    async def slowly() -> "asyncpg.pool.Pool[asyncpg.Record]":
        nonlocal pools
        pools += 1
        await asyncio.sleep(0.01)
        return await pool_maker(database_url)()

    scraper = Scraper(slowly, [TaskCollector(), AgentCollector()])
    snapshots = await asyncio.gather(
        scraper.scrape(), scraper.scrape(None, {"ains_agents_total"}), scraper.scrape()
    )
    assert [snapshot.up for snapshot in snapshots] == [True] * 3
    assert pools == 1
    await scraper.close()


@asynccontextmanager
async def client_of(scraper: Scraper) -> AsyncIterator[TestClient[Any, Any]]:
    app = web.Application()
    app.router.add_get("/metrics", metrics_handler(scraper))
    async with TestClient(TestServer(app)) as client:
        yield client
    await scraper.close()


async def test_names_of_the_process_need_no_database() -> None:
    async def nowhere() -> "asyncpg.pool.Pool[asyncpg.Record]":
        raise AssertionError("nobody asked for the database")

    scraper = Scraper(nowhere, [TaskCollector()], in_process=[InfoCollector("1", "test")])
    async with client_of(scraper) as client:
        response = await client.get("/metrics", params={"name[]": "ains_application_info"})
        assert len((await response.text()).splitlines()) == 3
        response = await client.get("/metrics", params={"name[]": "nothing"})
        assert await response.text() == ""


@contextmanager
def frozen(postmaster: int) -> Iterator[None]:
    """All processes of a server stand still, as behind a network that swallows everything."""
    server = psutil.Process(postmaster)
    processes = [server, *server.children(recursive=True)]
    for process in processes:
        os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in reversed(processes):
            os.kill(process.pid, signal.SIGCONT)


async def test_server_that_hangs_costs_no_more_than_the_time_limit() -> None:
    with temporary_data_dir() as directory:
        async with await EmbeddedPostgres.start(directory, fast=True) as server:
            await upgrade(server.dsn)
            scraper = Scraper(pool_maker(server.dsn), [TaskCollector(), AgentCollector()])
            limit = {"X-Prometheus-Scrape-Timeout-Seconds": "1"}
            async with client_of(scraper) as client:

                async def up() -> bool:
                    response = await client.get("/metrics", headers=limit)
                    assert response.status == 200
                    return "ains_up 1.0" in await response.text()

                assert await up()
                assert server.pid is not None
                with frozen(server.pid):
                    for _ in range(3):  # with a connection that hangs, and with none to be had
                        started = time.perf_counter()
                        assert not await up()
                        assert time.perf_counter() - started < 1.0
                await eventually(up)


async def test_failure_while_rendering_is_its_collectors_own(
    scraper: Scraper, db: asyncpg.Connection
) -> None:
    """Here a bucket that the collector does not know, as after a migration of the database only."""
    await db.execute(
        "INSERT INTO metrics.totals (family, label_1, bucket, n, first_at, generation)"
        " VALUES ('ains_task_queue_seconds', 't', 99, 1, now(), 0)"
    )
    async with client_of(scraper) as client:
        text = await (await client.get("/metrics")).text()
    assert 'ains_scrape_collector_success{collector="tasks"} 0.0' in text
    assert 'ains_scrape_collector_success{collector="agents"} 1.0' in text
    assert "ains_task_queue_seconds" not in text
    assert "ains_tasks_in_queue{" in text


async def test_mistake_of_a_collector_is_its_own(database_url: str) -> None:
    class Broken(AgentCollector):
        name = "broken"

        async def fetch(self, reader: Any) -> Any:
            await super().fetch(reader)
            raise RuntimeError("a mistake")

    reported: list[str] = []
    scraper = Scraper(
        pool_maker(database_url),
        [Broken(), TaskCollector()],
        report=lambda collector, _: reported.append(collector),
    )
    try:
        found = await scrape(scraper)
    finally:
        await scraper.close()
    assert total(found, "ains_scrape_collector_success", collector="tasks") == 1
    assert total(found, "ains_scrape_collector_success", collector="broken") == 0
    assert reported == ["broken"]


async def test_scrape_that_a_standby_cancels_is_tried_again(
    database_url: str, db: asyncpg.Connection
) -> None:
    await db.execute(
        "CREATE FUNCTION conflict() RETURNS void LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE 'canceling statement due to conflict with recovery' USING ERRCODE = '40001';"
        " END $$"
    )

    class OnStandby(TaskCollector):
        conflicts = 2

        async def fetch(self, reader: Reader) -> TaskData:
            if self.conflicts:
                self.conflicts -= 1
                await reader.fetch("SELECT conflict()")
            return await super().fetch(reader)

    reported: list[str] = []
    scraper = Scraper(
        pool_maker(database_url), [OnStandby()], report=lambda name, _: reported.append(name)
    )
    try:
        assert succeeded(await scraper.scrape()) == {"tasks"}
        assert reported == []
        scraper.collectors[0].conflicts = 1000  # type: ignore[attr-defined]  # ours, of above
        assert not (await scraper.scrape(0.5)).up
        assert reported == ["database"]
    finally:
        await scraper.close()
