"""Scrapes of a streaming replica: the same numbers, how old they are, and what replay cancels."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import asyncpg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ains.commands import doctor_scrapes
from ains.commands.database import Source
from ains.db.migrations import grant_roles, upgrade
from ains.metrics import database_collectors
from ains.settings import Settings
from collectors.agents import AgentCollector
from collectors.chains import ChainCollector
from collectors.connection import pool_maker
from collectors.queue import QueueCollector
from collectors.reader import Reader
from collectors.scrape import Scraper
from collectors.series import Families
from collectors.tasks import TaskCollector
from collectors.verify import verify
from collectors.webhooks import WebhookCollector
from tests.support.cluster import Cluster, cluster, standby_of
from tests.support.databases import eventually
from tests.support.history import add_history
from tests.support.rows import add_agent
from tests.support.scraped import Values, lasting, scrape, total, values
from tests.support.scraping import ALL, succeeded
from tests.support.serving import ains, serving

LAG = "ains_scrape_database_replication_lag_seconds"
SOME_TASKS = """
INSERT INTO tasks (client_id, task_type, capability_required, status, assigned_agent_id)
SELECT 'c', 't', 'x', status, 'a' FROM unnest(ARRAY['PENDING', 'COMPLETED', 'FAILED']) AS status
"""
A_DEAD_ROW = ("UPDATE metrics.settings SET agent_ttl = agent_ttl", "VACUUM metrics.settings")


@pytest.fixture(scope="module")
async def primary() -> AsyncIterator[Cluster]:
    async with cluster() as made:
        await upgrade(made.dsn)
        db = await asyncpg.connect(made.dsn)
        await add_agent(db)
        await db.close()
        yield made


@pytest.fixture(scope="module")
async def standby(primary: Cluster) -> AsyncIterator[Cluster]:
    """A replica that lets no query delay it."""
    async with standby_of(primary, max_standby_streaming_delay="0") as made:
        yield made


@asynccontextmanager
async def scraping(
    dsn: str,
    tasks: TaskCollector | None = None,
    report: Callable[[str, Exception], None] = lambda _collector, _error: None,
) -> AsyncIterator[Scraper]:
    scraper = Scraper(
        pool_maker(dsn),
        [
            tasks or TaskCollector(),
            AgentCollector(),
            ChainCollector(),
            WebhookCollector(),
            QueueCollector(),
        ],
        report=report,
    )
    try:
        yield scraper
    finally:
        await scraper.close()


async def contract(scraper: Scraper) -> Values:
    """What one scrape shows of the database, with the times at which its series began."""
    snapshot = await scraper.scrape()
    assert succeeded(snapshot) == ALL
    return lasting(values(snapshot.metrics(created=True)))


async def test_replica_shows_the_same_once_it_has_replayed(
    primary: Cluster, standby: Cluster
) -> None:
    async with scraping(primary.dsn) as there, scraping(standby.dsn) as here:
        for statement in (SOME_TASKS, "SELECT metrics.fold()", SOME_TASKS):
            await primary.execute(statement)
            await standby.wait_for_replay_of(primary)
            found = await contract(here)
            assert found == await contract(there)
            assert total(found, "ains_tasks_created_total") >= 3
        folded = "ains_scrape_ledger_folded_timestamp_seconds"
        assert (await scrape(here))[folded, ()] == (await scrape(there))[folded, ()]


async def test_lag_says_how_old_the_numbers_are(primary: Cluster, standby: Cluster) -> None:
    await standby.wait_for_replay_of(primary)
    async with scraping(primary.dsn) as there, scraping(standby.dsn) as here:
        assert (await scrape(there))[LAG, ()] == 0
        before = await scrape(here)
        assert before[LAG, ()] == 0
        await standby.execute("SELECT pg_wal_replay_pause()")
        since = time.time()
        await primary.execute(SOME_TASKS)

        async def grown() -> bool:
            found = await scrape(here)
            created = "ains_tasks_created_total"
            assert total(found, created) == total(before, created)
            if found[LAG, ()] == 0:  # what the primary wrote has not arrived yet
                return False
            assert found[LAG, ()] >= time.time() - since - 0.2, "the last replayed is older"
            return found[LAG, ()] > 1

        try:
            await eventually(grown)
        finally:
            await standby.execute("SELECT pg_wal_replay_resume()")
        await standby.wait_for_replay_of(primary)

        async def caught_up() -> bool:
            return (await scrape(here))[LAG, ()] == 0

        await eventually(caught_up)
        assert (await scrape(there))[LAG, ()] == 0


async def test_replica_without_its_primary_does_not_claim_to_be_current() -> None:
    """Nothing that was received waits for replay, and still it falls behind."""
    async with cluster() as primary:
        await upgrade(primary.dsn)
        await primary.execute("UPDATE metrics.fold_state SET folded_at = clock_timestamp()")
        async with standby_of(primary) as standby, scraping(standby.dsn) as scraper:
            await standby.wait_for_replay_of(primary)
            assert (await scrape(scraper))[LAG, ()] == 0
            await primary.kill()
            died = time.time()

            async def behind() -> bool:
                return (await scrape(scraper))[LAG, ()] > 1

            await eventually(behind)
            assert (await scrape(scraper))[LAG, ()] <= time.time() - died + 5
            # Even with nothing replayed since its start it knows when the ledger was folded.
            await standby.stop()
            await standby.start()
            assert 1 < (await scrape(scraper))[LAG, ()] <= time.time() - died + 5


class Held(TaskCollector):
    """Stays in the scrape's transaction, in the given way, until the test lets it go."""

    def __init__(self, stay: str = "") -> None:
        self._stay = stay
        self.inside = asyncio.Event()
        self.leave = asyncio.Event()
        self.times = 0

    async def fetch(self, reader: Reader) -> Families:
        await reader.ledger_state()
        await reader.fetch("SELECT FROM tasks LIMIT 1")
        self.times += 1
        self.inside.set()
        if self._stay:
            await reader.fetch(self._stay)
        else:
            await self.leave.wait()
        return await super().fetch(reader)


@pytest.mark.parametrize(
    "conflict",
    [A_DEAD_ROW, ("TRUNCATE tasks CASCADE",), ("SELECT metrics.fold()", "SELECT metrics.rotate()")],
    ids=["row", "lock", "rotation"],
)
@pytest.mark.parametrize("stay", ["", "SELECT pg_sleep(0.8)::text"], ids=["idle", "busy"])
async def test_scrape_that_replay_cancels_is_tried_again(
    primary: Cluster, standby: Cluster, stay: str, conflict: tuple[str, ...]
) -> None:
    await primary.execute(SOME_TASKS)
    await standby.wait_for_replay_of(primary)
    reported: list[str] = []
    held = Held(stay)
    async with (
        scraping(standby.dsn, held, lambda name, _: reported.append(name)) as here,
        scraping(primary.dsn) as there,
    ):
        running = asyncio.create_task(here.scrape(10))
        await held.inside.wait()
        await primary.execute(*conflict)
        await standby.wait_for_replay_of(primary)
        held.leave.set()
        snapshot = await running
        assert held.times > 1, "nothing was cancelled"
        assert (snapshot.up, succeeded(snapshot), reported) == (True, ALL, [])
        assert await contract(here) == await contract(there)


async def test_scrape_that_replay_cancels_again_and_again_is_down_in_time(
    primary: Cluster, standby: Cluster
) -> None:
    held = Held("SELECT pg_sleep(0.5)::text")
    reported: list[str] = []

    async def conflicts() -> None:
        while True:
            await primary.execute(*A_DEAD_ROW)
            await asyncio.sleep(0.02)

    async with scraping(standby.dsn, held, lambda name, _: reported.append(name)) as scraper:
        busy = asyncio.create_task(conflicts())
        try:
            started = time.perf_counter()
            snapshot = await scraper.scrape(2.0)
            assert time.perf_counter() - started <= 2.1
            assert held.times > 1
            assert (snapshot.up, succeeded(snapshot)) == (False, set())
            assert reported == ["database"]
        finally:
            busy.cancel()
            with suppress(asyncio.CancelledError):
                await busy
        assert (await scraper.scrape()).up


async def test_service_goes_on_without_the_replica_it_scrapes(primary: Cluster) -> None:
    async with (
        standby_of(primary) as standby,
        serving(database_url=primary.dsn, metrics_database_url=standby.dsn) as server,
    ):
        found = await server.scrape()
        assert total(found, "ains_tasks_created_total") >= 1
        await standby.stop()
        task = {"client_id": "c", "task_type": "later", "capability_required": "x"}
        async with server.http.post(
            f"{server.url}/ains/tasks", json=task | {"input_data": {}}
        ) as response:
            assert response.status == 200
        assert (await server.get("/health/ready"))[0] == 200
        status, _, text = await server.get("/metrics")
        down = values(text_string_to_metric_families(text))
        assert (status, down["ains_up", ()]) == (200, 0)
        assert "ains_tasks_created_total" not in text
        assert "ains_http_requests_total" in text
        await standby.start()

        async def later() -> bool:
            found = values(text_string_to_metric_families((await server.get("/metrics"))[2]))
            return total(found, "ains_tasks_created_total", task_type="later") == 1

        await eventually(later)


async def test_doctor_tells_of_the_replica_and_of_a_role_that_lacks_rights(
    primary: Cluster, standby: Cluster
) -> None:
    await grant_roles(primary.dsn)
    await primary.execute(
        "CREATE ROLE stranger LOGIN", "CREATE ROLE reader LOGIN IN ROLE ains_scraper"
    )
    await standby.wait_for_replay_of(primary)

    async def told(scrapes: str) -> tuple[str, str]:
        settings = Settings.load(database_url=primary.dsn, metrics_database_url=scrapes)
        finding = await doctor_scrapes.examine(Source(settings, primary.dsn, None))
        return finding.level, finding.text

    reader = standby.url("ains", "reader")
    assert await told(reader) == ("ok", f"Scrapes read {reader}")
    stranger = standby.url("ains", "stranger")
    level, text = await told(stranger)
    assert level == "problem"
    assert f"Scrapes of {stranger} miss tasks, agents, chains, webhooks, queue: permission" in text
    done = await asyncio.to_thread(
        ains, "doctor", database_url=primary.url("ains", "reader"), metrics_database_url=stranger
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "problem The role reader may not read the tables of AINS." in done.stdout
    assert "problem Scrapes of" in done.stdout
    await standby.stop()
    try:
        level, text = await told(reader)
        assert (level, f"{reader} miss everything: " in text) == ("problem", True)
    finally:
        await standby.start()


async def test_replica_verifies(primary: Cluster, standby: Cluster) -> None:
    db = await asyncpg.connect(primary.dsn)
    await add_history(db)
    await db.execute("SELECT metrics.fold()")
    await add_history(db)
    await db.close()
    await standby.wait_for_replay_of(primary)
    db = await asyncpg.connect(standby.dsn)
    report = await verify(db, database_collectors())
    await db.close()
    assert (report.standby, report.differences) == (True, [])
