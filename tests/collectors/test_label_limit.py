"""An open label shows no more values than it may, and those it has shown for ever."""

import asyncio
from time import perf_counter

import asyncpg
import pytest
from structlog.testing import capture_logs

from ains.db.pool import Database
from ains.metrics import database_collectors
from ains.workers.maintenance import LabelWatch
from collectors.scrape import Scraper
from collectors.verify import verify
from tests.support.rows import add_agent, add_task
from tests.support.scraped import Values, assert_monotone, scrape, total

CREATED = "ains_tasks_created_total"


async def limit(db: asyncpg.Connection, values: int | None) -> None:
    await db.execute("UPDATE metrics.settings SET label_limit = $1", values)


async def fold(db: asyncpg.Connection) -> None:
    await db.execute("SELECT metrics.fold()")


async def due(db: asyncpg.Connection) -> None:
    """The pause before the next try to close a label is over."""
    await db.execute("UPDATE metrics.label_guards SET retry_at = '-infinity'")


def types(found: Values) -> dict[str, float]:
    """Tasks created by type."""
    return {dict(labels)["task_type"]: n for (name, labels), n in found.items() if name == CREATED}


def merged(found: Values, label: str) -> float:
    return found["ains_scrape_merged_label_values", (("label", label),)]


async def test_values_beyond_the_limit_count_under_other(
    db: asyncpg.Connection, scraper: Scraper
) -> None:
    await limit(db, 2)
    for kind in ("a", "b"):
        await add_task(db, task_type=kind)
    await fold(db)  # notes a and b
    await fold(db)  # sees that they are two
    for kind in ("a", "c", "d", "d"):
        await add_task(db, task_type=kind)
    expected = {"a": 2, "b": 1, "other": 3}
    assert types(await scrape(scraper)) == expected
    await fold(db)
    found = await scrape(scraper)
    assert types(found) == expected
    assert merged(found, "task_type") == 2
    assert merged(found, "client_id") == 0


async def test_what_was_shown_before_the_label_closed_stays_shown(
    db: asyncpg.Connection, scraper: Scraper
) -> None:
    await limit(db, 2)
    for kind in ("a", "b"):
        await add_task(db, task_type=kind)
    await fold(db)
    await add_task(db, task_type="late")  # open, and shown, when the label closes
    assert types(await scrape(scraper)) == {"a": 1, "b": 1, "late": 1}
    await fold(db)
    await add_task(db, task_type="too late")
    await add_task(db, task_type="late")
    expected = {"a": 1, "b": 1, "late": 2, "other": 1}
    assert types(await scrape(scraper)) == expected
    await fold(db)
    assert types(await scrape(scraper)) == expected


async def test_values_are_counted_as_they_come(db: asyncpg.Connection) -> None:
    counted = """
        SELECT g.label, g.met, count(v), count(v) FILTER (WHERE NOT v.shown) = g.merged
          FROM metrics.label_guards AS g LEFT JOIN metrics.label_values AS v USING (label)
         WHERE g.label IN ('task_type', 'client_id') GROUP BY g.label ORDER BY g.label
    """
    await limit(db, 3)
    for first, met in ((1, 2), (2, 3), (9, 5), (11, 7)):
        for number in (first, first + 1, first):
            await add_task(db, task_type=f"type {number}")
        await fold(db)
        rows = await db.fetch(counted)
        assert [*map(tuple, rows)] == [("client_id", 1, 1, True), ("task_type", met, met, True)]


async def test_writer_in_the_way_closes_the_label_later(
    database_url: str, db: asyncpg.Connection, scraper: Scraper
) -> None:
    await limit(db, 1)
    await add_task(db, task_type="a")
    await fold(db)
    writer = await asyncpg.connect(database_url)
    async with writer.transaction():
        await add_task(writer, task_type="b")
        await fold(db)
        assert not await db.fetchval("SELECT bool_or(closed) FROM metrics.label_guards")
    await writer.close()
    assert types(await scrape(scraper)) == {"a": 1, "b": 1}
    await fold(db)  # too soon for another try
    assert not await db.fetchval("SELECT bool_or(closed) FROM metrics.label_guards")
    await due(db)
    await fold(db)
    await add_task(db, task_type="c")
    assert types(await scrape(scraper)) == {"a": 1, "b": 1, "other": 1}


async def test_writer_who_stays_does_not_slow_down_folds_and_other_writers(
    database_url: str, db: asyncpg.Connection
) -> None:
    await limit(db, 1)
    await add_task(db, task_type="a")
    await fold(db)
    writer = await asyncpg.connect(database_url)
    async with writer.transaction():
        await add_task(writer, task_type="b")
        started = perf_counter()
        for _ in range(30):
            await fold(db)
        assert perf_counter() - started < 2
        pauses = []
        for _ in range(8):
            await due(db)
            await fold(db)
            pauses.append(
                await db.fetchval(
                    "SELECT date_part('epoch', retry_at - clock_timestamp())"
                    " FROM metrics.label_guards WHERE label = 'task_type'"
                )
            )
    assert [round(pause) for pause in pauses] == [2, 4, 8, 16, 32, 60, 60, 60]
    await writer.close()


@pytest.mark.parametrize("later", [None, 100])
async def test_merged_values_stay_merged_whatever_the_limit_becomes(
    db: asyncpg.Connection, scraper: Scraper, later: int | None
) -> None:
    await limit(db, 1)
    await add_task(db, task_type="a")
    await fold(db)
    await fold(db)
    await add_task(db, task_type="b")
    await limit(db, later)
    await fold(db)
    await add_task(db, task_type="b")
    assert types(await scrape(scraper)) == {"a": 1, "other": 2}


async def test_agents_beyond_the_limit_share_their_mean_trust(
    db: asyncpg.Connection, scraper: Scraper
) -> None:
    await limit(db, 2)
    for name in ("a", "b"):
        await add_agent(db, name)
    await fold(db)
    await add_agent(db, "c", trust_score=0.2)
    await add_agent(db, "d", trust_score=0.4)
    await add_task(db, status="COMPLETED", assigned_agent_id="c")
    found = await scrape(scraper)
    trust = {
        dict(labels)["agent_id"]: value
        for (name, labels), value in found.items()
        if name == "ains_agent_trust_score"
    }
    assert trust.keys() == {"a", "b", "other"}
    # c earned 0.02 or more by its task.
    assert 0.3 < trust["other"] < 0.4
    assert found["ains_agent_tasks_completed_total", (("agent_id", "other"),)] == 1


async def test_sums_and_verification_hold(
    database_url: str, db: asyncpg.Connection, scraper: Scraper
) -> None:
    await limit(db, 3)
    for number in range(12):
        await add_agent(db, f"agent {number}")
        await add_task(
            db,
            task_type=f"type {number}",
            client_id=f"client {number}",
            assigned_agent_id=f"agent {number}",
            status=("COMPLETED", "FAILED", "ACTIVE")[number % 3],
            failure_reason=f"reason_{number}" if number % 3 == 1 else None,
        )
        if number % 2:
            await fold(db)
    found = await scrape(scraper)
    assert total(found, CREATED) == 12
    assert total(found, "ains_tasks_completed_total") == 4
    assert total(found, "ains_agent_tasks_completed_total") == 4
    assert len(types(found)) == 7
    assert "other" in types(found)
    report = await verify(db, database_collectors())
    assert report.differences == []


async def test_log_names_label_and_families_once(database_url: str, db: asyncpg.Connection) -> None:
    database = Database(database_url)
    watch = LabelWatch(database)
    await limit(db, 1)
    await add_task(db)
    await fold(db)
    with capture_logs() as logs:
        await watch.step()
        assert logs == []
        await fold(db)
        await watch.step()
        await watch.step()
    await database.close()
    said = {entry["label"]: entry for entry in logs}
    assert len(logs) == len(said) == 2  # task_type and client_id
    assert said["task_type"]["log_level"] == "warning"
    assert {CREATED, "ains_task_duration_seconds"} <= set(said["task_type"]["families"])
    assert said["client_id"]["families"] == [CREATED]


async def test_no_counter_goes_down_while_labels_close_beside_writers(
    database_url: str, db: asyncpg.Connection, scraper: Scraper
) -> None:
    await limit(db, 20)
    stopping = False

    async def write(name: str) -> int:
        connection, written = await asyncpg.connect(database_url), 0
        while not stopping:
            kind = f"{name}-{written}"
            await add_task(connection, task_type=kind, client_id=kind)
            written += 1
        await connection.close()
        return written

    writers = [asyncio.create_task(write(name)) for name in ("a", "b")]
    before: Values = {}
    shown: list[int] = []
    async with asyncio.timeout(30):
        while len(shown) < 20:
            await due(db)
            await fold(db)
            found = await scrape(scraper)
            assert_monotone(before, found)
            before = found
            if merged(found, "task_type"):
                shown.append(len(types(found)))
    stopping = True
    written = sum(await asyncio.gather(*writers))
    found = await scrape(scraper)
    assert total(found, CREATED) == written
    assert len(types(found)) == shown[0] == shown[-1] >= 20
    assert (await verify(db, database_collectors())).differences == []
