"""A scrape ends in time with all that can be had, and shares what it reads."""

import asyncio
import time
from typing import Any

import asyncpg
import pytest

from collectors.agents import AgentCollector
from collectors.chains import ChainCollector
from collectors.connection import pool_maker
from collectors.exporter import InfoCollector
from collectors.reader import Reader
from collectors.scrape import Scraper, Snapshot
from collectors.series import Families
from collectors.tasks import TaskCollector
from tests.support.databases import eventually
from tests.support.scraped import scrape, total
from tests.support.scraping import ALL, client_of, locked, succeeded, waiting


# Of the tasks themselves, only the age of the queue is read.
@pytest.mark.parametrize(("table", "collector"), [("agents", "agents"), ("tasks", "queue")])
async def test_locked_table_costs_its_collector_alone(
    scraper: Scraper, database_url: str, table: str, collector: str
) -> None:
    await scraper.scrape()
    async with locked(database_url, table):
        started = time.perf_counter()
        snapshot = await scraper.scrape(2.0)
        assert time.perf_counter() - started < 1.5, "a lock costs half of the time"
    assert snapshot.up
    assert succeeded(snapshot) == ALL - {collector}


async def test_each_collector_has_its_share_of_the_time_that_is_left(database_url: str) -> None:
    class Slow(TaskCollector):
        async def fetch(self, reader: Reader) -> Families:
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


async def test_whoever_has_more_time_is_not_held_to_the_limits_of_the_hasty(
    scraper: Scraper, db: asyncpg.Connection, database_url: str
) -> None:
    await scraper.scrape()
    async with locked(database_url, "agents"):
        hasty = asyncio.create_task(scraper.scrape(1.0))
        await eventually(lambda: waiting(db))
        patient = asyncio.create_task(scraper.scrape(30))
        assert succeeded(await hasty) < ALL
        assert not patient.done()
    assert succeeded(await patient) == ALL


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


async def test_names_run_only_the_collectors_that_they_need(scraper: Scraper) -> None:
    async def asked(*names: str) -> set[str]:
        return {outcome.name for outcome in (await scraper.scrape(None, names)).outcomes}

    assert await asked("ains_agents_total") == {"agents"}
    assert await asked("ains_task_duration_seconds_bucket", "ains_chains") == {"tasks", "chains"}
    assert await asked("ains_http_requests_total", "no_such_name") == set()
    assert await asked("ains_up") == ALL


async def test_names_of_the_process_need_no_database() -> None:
    async def nowhere() -> "asyncpg.pool.Pool[asyncpg.Record]":
        raise AssertionError("nobody asked for the database")

    scraper = Scraper(nowhere, [TaskCollector()], in_process=[InfoCollector("1", "test")])
    async with client_of(scraper) as client:
        response = await client.get("/metrics", params={"name[]": "ains_application_info"})
        assert len((await response.text()).splitlines()) == 3
        response = await client.get("/metrics", params={"name[]": "nothing"})
        assert await response.text() == ""


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


async def test_ledger_is_read_once_for_all_collectors(database_url: str) -> None:
    read: list[object] = []

    class Reading(TaskCollector):
        async def fetch(self, reader: Reader) -> Families:
            read.append(await reader.ledger("task"))
            return await super().fetch(reader)

    scraper = Scraper(pool_maker(database_url), [Reading(), Reading()])
    try:
        await scraper.scrape()
    finally:
        await scraper.close()
    assert read[0] is read[1]


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

        async def fetch(self, reader: Reader) -> Families:
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
