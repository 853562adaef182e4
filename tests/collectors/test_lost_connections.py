"""What happens to connections costs at most the scrape that it happens to, and mostly none."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
import psutil

from ains.db.embedded import EmbeddedPostgres, temporary_data_dir
from ains.db.migrations import upgrade
from collectors.agents import AgentCollector
from collectors.connection import pool_maker
from collectors.exporter import InfoCollector
from collectors.scrape import Scraper
from collectors.tasks import TaskCollector
from tests.support.databases import eventually
from tests.support.nat import Nat
from tests.support.scraping import ALL, client_of, locked, succeeded, waiting


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


async def test_killed_connection_costs_no_scrape(scraper: Scraper, db: asyncpg.Connection) -> None:
    await scraper.scrape()
    await db.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'ains metrics' AND datname = current_database()"
    )
    assert (await scraper.scrape()).up


async def test_database_that_goes_and_comes_back() -> None:
    """/metrics answers 200 in time all along, with what the process itself counts."""
    with temporary_data_dir() as directory:
        first = await EmbeddedPostgres.start(directory, fast=True)
        await upgrade(first.dsn)
        scraper = Scraper(
            pool_maker(first.dsn),
            [TaskCollector(), AgentCollector()],
            in_process=[InfoCollector("1.2.3", "test")],
        )
        async with client_of(scraper) as client:

            async def up() -> bool:
                response = await client.get("/metrics")
                assert response.status == 200
                text = await response.text()
                assert 'ains_application_info{environment="test"' in text
                is_up = "ains_up 1.0" in text
                assert ("ains_tasks_in_queue{" in text) == is_up
                return is_up

            assert await up()
            await first.stop()
            assert not await up()
            second = await EmbeddedPostgres.start(directory, fast=True, port=first.port)
            await eventually(up)
        await second.stop()
