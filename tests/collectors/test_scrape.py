"""One snapshot, one answer, in time, whatever the database does."""

import asyncio
import time
from collections.abc import Callable, Iterable

import asyncpg
import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from collectors.agents import AgentCollector
from collectors.connection import pool_maker
from collectors.reader import Reader
from collectors.scrape import Scraper
from collectors.series import Families
from collectors.tasks import TaskCollector
from tests.support.databases import eventually
from tests.support.rows import add_task
from tests.support.scraped import assert_invariants, scrape, total, values
from tests.support.scraping import client_of

AGENT = (
    "INSERT INTO agents (agent_id, display_name, endpoint, public_key, signature)"
    " VALUES ($1::text, $1, $1, '00', '00')"
)
Parse = Callable[[str], Iterable[Metric]]

TASK = "INSERT INTO tasks (client_id, task_type, capability_required) VALUES ('c', $1, 'x')"


async def test_scrape_agrees_with_the_views(scraper: Scraper, db: asyncpg.Connection) -> None:
    await db.execute(
        "INSERT INTO agents (agent_id, display_name, endpoint, public_key, signature, status,"
        " last_heartbeat) SELECT 'a' || g, 'Agent ' || g, 'http://a', '00', '00', 'AVAILABLE',"
        " now() FROM generate_series(1, 3) AS g"
    )
    await db.execute(
        "INSERT INTO tasks (client_id, task_type, capability_required, status, assigned_agent_id,"
        " started_at, completed_at, failure_reason, priority)"
        " SELECT 'c' || g % 2, 't' || g % 3, 'x',"
        " (ARRAY['PENDING', 'ASSIGNED', 'ACTIVE', 'COMPLETED', 'FAILED', 'CANCELLED'])[1 + g % 6],"
        " 'a' || 1 + g % 3, now() - g * interval '1 second', now(), 'timeout', 1 + g % 10"
        " FROM generate_series(1, 120) AS g"
    )
    await db.execute("SELECT metrics.fold(100)")
    found = await scrape(scraper)
    assert_invariants(found)
    views = await db.fetch(
        "SELECT table_name, array_agg(column_name::text ORDER BY ordinal_position) AS columns"
        " FROM information_schema.columns WHERE table_schema = 'metrics'"
        " AND table_name LIKE 'ains%' GROUP BY 1"
    )
    compared = 0
    for view in views:
        name, columns = view["table_name"], view["columns"]
        labels = [c for c in columns if c not in {"value", "count", "sum_seconds"}]
        for row in await db.fetch(f"SELECT * FROM metrics.{name}"):
            its = tuple(sorted((label, row[label]) for label in labels))
            if name.endswith("_sum_count"):
                family = name.removesuffix("_sum_count")
                expected = {"count": row["count"], "sum": float(row["sum_seconds"])}
            else:
                expected = {"bucket" if "le" in labels else "": row["value"]}
                family = name
            for suffix, value in expected.items():
                sample = f"{family}_{suffix}" if suffix else family
                assert found.get((sample, its), 0) == pytest.approx(value), (sample, its)
                compared += (sample, its) in found
    shown = [key for key in found if not key[0].startswith("ains_scrape") and key[0] != "ains_up"]
    assert compared == len(shown)


async def test_all_collectors_see_one_moment(database_url: str, db: asyncpg.Connection) -> None:
    class Meddler(TaskCollector):
        async def fetch(self, reader: Reader) -> Families:
            data = await super().fetch(reader)
            await db.execute(AGENT, "a")
            await db.execute(TASK, "t")
            await db.execute("SELECT metrics.fold()")
            return data

    class Tasks(TaskCollector):
        name = "again"

    scraper = Scraper(pool_maker(database_url), [Meddler(), Tasks(), AgentCollector()])
    try:
        snapshot = await scraper.scrape()
        first, again, agents = (snapshot.built[c.name] for c in scraper.collectors)
        for name in first:
            assert list(first[name]) == list(again[name])
        assert list(agents["ains_agents_total"]) == [[((), 0, None)]]
    finally:
        await scraper.close()


async def test_closed_label_sets_are_present_at_zero(scraper: Scraper) -> None:
    found = await scrape(scraper)
    assert [found["ains_tasks_in_queue", (("priority", str(p)),)] for p in range(1, 11)] == [0] * 10
    assert found["ains_tasks_in_flight", (("status", "ACTIVE"),)] == 0
    assert found["ains_tasks_blocked", ()] == 0
    assert found["ains_agents_by_status", (("status", "SUSPENDED"),)] == 0
    assert not any(name == "ains_task_oldest_pending_timestamp_seconds" for name, _ in found)


async def test_dead_agent_stops_being_active_although_nobody_wrote(
    scraper: Scraper, db: asyncpg.Connection
) -> None:
    await db.execute("UPDATE metrics.settings SET agent_ttl = '0.2 seconds'")
    await db.execute(
        "INSERT INTO agents (agent_id, display_name, endpoint, public_key, signature, status,"
        " last_heartbeat) VALUES ('a', 'A', 'http://a', '00', '00', 'BUSY', now())"
    )

    async def is_dead() -> bool:
        return total(await scrape(scraper), "ains_agents_active") == 0

    await eventually(is_dead)


async def test_kept_totals_follow_the_fold_and_a_restored_database(
    scraper: Scraper, db: asyncpg.Connection
) -> None:
    for n in range(1, 4):
        await db.execute(TASK, "t")
        for _ in range(2):  # what is added to the totals is not kept
            assert total(await scrape(scraper), "ains_tasks_created_total") == n
        await db.execute("SELECT metrics.fold()")
        assert total(await scrape(scraper), "ains_tasks_created_total") == n
    # An older backup, put back in place.
    await db.execute("UPDATE metrics.totals SET n = 1, generation = 1")
    await db.execute("UPDATE metrics.fold_state SET generation = 1")
    assert total(await scrape(scraper), "ains_tasks_created_total") == 1


async def test_created_is_when_the_first_fact_happened(
    scraper: Scraper, db: asyncpg.Connection
) -> None:
    completed = (
        "INSERT INTO tasks (client_id, task_type, capability_required, status, started_at)"
        " VALUES ('c', 't', 'x', 'COMPLETED', now() - $1 * interval '1 second')"
    )
    for seconds in (100, 0, 10):  # in buckets in any order, folded and open
        await db.execute(completed, seconds)
        if seconds:
            await db.execute("SELECT metrics.fold()")
    first = await db.fetchval("SELECT min(at) FROM task_events WHERE event = 'completed'")
    snapshot = await scraper.scrape()
    found = values(snapshot.metrics(created=True))
    assert total(found, "ains_task_duration_seconds_created") == first.timestamp()
    assert total(found, "ains_tasks_completed_created") == first.timestamp()
    created = {name for name, _ in found if name.endswith("_created")}
    assert not created & {"ains_tasks_in_queue_created", "ains_chains_created"}


HOSTILE = 'a "b" \\ c\nd {e="f"} # 🧀'


@pytest.mark.parametrize(
    ("accept", "parse"),
    [("text/plain", parse_text), ("application/openmetrics-text", parse_openmetrics)],
)
async def test_hostile_labels_reach_prometheus_whole(
    scraper: Scraper, db: asyncpg.Connection, accept: str, parse: Parse
) -> None:
    await db.execute(AGENT, HOSTILE)
    await db.execute(
        "INSERT INTO tasks (client_id, task_type, capability_required, status, assigned_agent_id,"
        " failure_reason) SELECT $1, $1, $1, s, $1, 'timeout'"
        " FROM unnest(ARRAY['PENDING', 'COMPLETED', 'FAILED']) AS s",
        HOSTILE,
    )
    async with client_of(scraper) as client:
        response = await client.get("/metrics", headers={"Accept": accept})
        parsed = values(parse(await response.text()))
    found = await scrape(scraper)
    parsed = {key: value for key, value in parsed.items() if not key[0].endswith("_created")}
    assert parsed.keys() == found.keys()
    assert total(parsed, "ains_tasks_completed_total", task_type=HOSTILE, agent_id=HOSTILE) == 1
    assert total(parsed, "ains_agent_trust_score", display_name=HOSTILE) > 0


async def test_what_psql_leaves_out_is_an_empty_label(
    scraper: Scraper, db: asyncpg.Connection
) -> None:
    """No NULL reaches the ledger, whoever writes: a NULL label would stop every later fold."""
    await db.execute(
        "INSERT INTO tasks (client_id, task_type, capability_required, status)"
        " SELECT 'c', 't', 'x', s FROM unnest(ARRAY['COMPLETED', 'FAILED']) AS s"
    )
    for _ in range(2):  # open, then folded
        found = await scrape(scraper)
        assert found["ains_tasks_completed_total", (("agent_id", ""), ("task_type", "t"))] == 1
        failed = (("failure_reason", "unknown"), ("task_type", "t"))
        assert found["ains_tasks_failed_total", failed] == 1
        assert not any(name.startswith("ains_agent_tasks_") for name, _ in found)
        await db.execute("SELECT metrics.fold()")


async def test_restored_table_of_totals_is_read_anew(
    scraper: Scraper, db: asyncpg.Connection
) -> None:
    """Also when its generation is not lower than what was read before."""
    await db.execute(TASK, "t")
    await db.execute("SELECT metrics.fold()")
    assert total(await scrape(scraper), "ains_tasks_created_total") == 1
    await db.execute("CREATE TEMPORARY TABLE backup AS SELECT * FROM metrics.totals")
    await db.execute("UPDATE backup SET n = 5")
    await db.execute("TRUNCATE metrics.totals")
    await db.execute("INSERT INTO metrics.totals SELECT * FROM backup")
    assert total(await scrape(scraper), "ains_tasks_created_total") == 5


async def test_one_failing_collector_leaves_the_others(
    scraper: Scraper, db: asyncpg.Connection
) -> None:
    await db.execute(TASK, "t")
    await db.execute("DROP VIEW metrics.ains_agent_trust_score")
    found = await scrape(scraper)
    assert found["ains_scrape_collector_success", (("collector", "agents"),)] == 0
    assert found["ains_scrape_collector_success", (("collector", "tasks"),)] == 1
    assert total(found, "ains_tasks_created_total") == 1
    assert not any(name.startswith("ains_agents") for name, _ in found)


async def test_scrapes_at_once_share_one_answer(scraper: Scraper, db: asyncpg.Connection) -> None:
    await scraper.scrape()
    async with db.transaction():
        await db.execute("LOCK TABLE metrics.fold_state IN ACCESS EXCLUSIVE MODE")
        sharers = [asyncio.create_task(scraper.scrape()) for _ in range(5)]
        await asyncio.sleep(0.05)
        impatient = asyncio.create_task(scraper.scrape(0.05))
        assert not (await impatient).up
    snapshots = await asyncio.gather(*sharers)
    assert snapshots[0].up
    assert all(snapshot is snapshots[0] for snapshot in snapshots)


async def test_locked_table_costs_no_more_than_the_time_limit(
    scraper: Scraper, db: asyncpg.Connection
) -> None:
    await scraper.scrape()
    async with db.transaction():
        await db.execute("LOCK TABLE metrics.fold_state IN ACCESS EXCLUSIVE MODE")
        started = time.perf_counter()
        snapshot = await scraper.scrape(0.5)
        assert time.perf_counter() - started < 2
        # The queue needs no ledger.
        assert {o.name for o in snapshot.outcomes if o.error is None} <= {"queue"}
    assert (await scraper.scrape()).up


async def test_abandoned_scrape_is_cancelled_in_the_server(
    scraper: Scraper, db: asyncpg.Connection, database_url: str
) -> None:
    await scraper.scrape()

    async def scraping() -> bool:
        return bool(
            await db.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ains metrics'"
                " AND datname = current_database() AND state = 'active'"
            )
        )

    async def idle() -> bool:
        return not await scraping()

    locker = await asyncpg.connect(database_url)
    try:
        async with locker.transaction():
            await locker.execute("LOCK TABLE metrics.fold_state IN ACCESS EXCLUSIVE MODE")
            task = asyncio.create_task(scraper.scrape(30))
            await eventually(scraping)
            task.cancel()
            await eventually(idle, 3)
    finally:
        await locker.close()
    assert (await scraper.scrape()).up


async def test_head_and_gzip(scraper: Scraper) -> None:
    async with client_of(scraper) as client:
        plain = await client.get("/metrics", headers={"Accept-Encoding": "identity"})
        packed = await client.get("/metrics", headers={"Accept-Encoding": "gzip"})
        assert "Content-Encoding" not in plain.headers
        assert packed.headers["Content-Encoding"] == "gzip"
        assert (await packed.text()).splitlines()[0] == (await plain.text()).splitlines()[0]
        head = await client.head("/metrics")
        assert head.status == 200
        one = await client.get("/metrics", params={"name[]": "ains_up"})
        assert (await one.text()).splitlines()[2:] == ["ains_up 1.0"]


def test_description_has_every_family() -> None:
    async def nowhere() -> "asyncpg.pool.Pool[asyncpg.Record]":
        raise OSError

    scraper = Scraper(nowhere, [TaskCollector(), AgentCollector()])
    names = {metric.name for metric in scraper.describe()}
    assert {"ains_tasks_created", "ains_task_duration_seconds", "ains_up"} <= names
    assert values(scraper.describe()) == {}


async def test_open_facts_are_counted_of_all_ledgers(
    scraper: Scraper, db: asyncpg.Connection
) -> None:
    name = ("ains_scrape_ledger_open_events", ())
    await db.execute("SELECT metrics.fold()")
    assert (await scrape(scraper))[name] == 0
    for _ in range(3):
        await add_task(db)
    await db.execute(
        "INSERT INTO task_chains (chain_id, name, client_id, total_steps)"
        " VALUES (gen_random_uuid(), 'n', 'c', 1)"
    )
    assert (await scrape(scraper))[name] == 4
    await db.execute("SELECT metrics.fold()")
    assert (await scrape(scraper))[name] == 0
