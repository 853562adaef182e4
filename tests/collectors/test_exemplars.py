"""Exemplars: a recent task of each bucket, from the ledger to OpenMetrics."""

from uuid import UUID

import asyncpg
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse

from collectors.exposition import all_metrics, render
from collectors.negotiation import OPENMETRICS, TEXT
from collectors.scrape import Scraper
from tests.support.rows import add_agent, add_task

Found = dict[tuple[str, str], tuple[str, float, float] | None]

_ASSIGN = """
    UPDATE tasks SET status = 'ASSIGNED', assigned_agent_id = 'a', last_agent_id = 'a',
                     assigned_at = queued_at + interval '3 ms'
     WHERE task_id = $1
"""
_FINISH = """
    UPDATE tasks SET status = 'COMPLETED',
                     started_at = now() - make_interval(secs => $2), completed_at = now()
     WHERE task_id = $1
"""


async def finished(db: asyncpg.Connection, seconds: float) -> UUID:
    task = await add_task(db)
    await db.execute(_ASSIGN, task)
    await db.execute(_FINISH, task, seconds)
    return task


async def exemplars(scraper: Scraper, family: str) -> Found:
    """Task, seconds and time of each bucket's exemplar, by the bucket's task_type and le."""
    body = render(all_metrics(scraper, await scraper.scrape(), OPENMETRICS), OPENMETRICS)
    return {
        (sample.labels["task_type"], sample.labels["le"]): sample.exemplar
        and (
            sample.exemplar.labels["task_id"],
            sample.exemplar.value,
            float(sample.exemplar.timestamp),
        )
        for metric in parse(body.decode())  # type: ignore[no-untyped-call]  # not annotated
        for sample in metric.samples
        if sample.name == f"{family}_bucket"
    }


def shown(found: Found) -> dict[str, tuple[str, float]]:
    return {le: exemplar[:2] for (_, le), exemplar in found.items() if exemplar is not None}


async def test_bucket_shows_the_latest_task_that_was_folded(
    db: asyncpg.Connection, scraper: Scraper
) -> None:
    await add_agent(db)
    first, slow = await finished(db, 0.25), await finished(db, 7)
    await db.execute("SELECT metrics.fold()")
    before = await exemplars(scraper, "ains_task_duration_seconds")
    assert shown(before) == {"1.0": (str(first), 0.25), "10.0": (str(slow), 7.0)}
    ended = await db.fetchval("SELECT max(at) FROM task_events WHERE task_id = $1", slow)
    assert before["t", "10.0"] == (str(slow), 7.0, ended.timestamp())

    second = await finished(db, 0.5)
    assert await exemplars(scraper, "ains_task_duration_seconds") == before
    await db.execute("SELECT metrics.fold()")
    expected = {"1.0": (str(second), 0.5), "10.0": (str(slow), 7.0)}
    assert shown(await exemplars(scraper, "ains_task_duration_seconds")) == expected
    queued = shown(await exemplars(scraper, "ains_task_queue_seconds"))
    assert queued == {"0.005": (str(second), 0.003)}


async def test_exemplar_lies_in_its_bucket(db: asyncpg.Connection, scraper: Scraper) -> None:
    await add_agent(db)
    for seconds in (0, 1, 1.000001, 5, 5.000001, 3600, 3600.000001):
        await finished(db, seconds)
    await db.execute("SELECT metrics.fold()")
    found = await exemplars(scraper, "ains_task_duration_seconds")
    below = float("-inf")
    for (_, le), exemplar in found.items():
        if exemplar is not None:
            assert below < exemplar[1] <= float(le)
        below = float(le)
    assert len(shown(found)) == 5


async def test_text_has_none(db: asyncpg.Connection, scraper: Scraper) -> None:
    await add_agent(db)
    task = await finished(db, 1)
    await db.execute("SELECT metrics.fold()")
    body = render(all_metrics(scraper, await scraper.scrape(), TEXT), TEXT)
    assert b'ains_task_duration_seconds_bucket{le="1.0"' in body
    assert str(task).encode() not in body
