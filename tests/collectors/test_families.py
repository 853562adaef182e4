"""What the collectors make of rows, without a database, and what they share with it."""

from collections.abc import Mapping
from itertools import chain
from typing import Any

import asyncpg
import pytest

from collectors.agents import AgentCollector, AgentData
from collectors.base import Built, DatabaseCollector, Family, Row, Scalar
from collectors.chains import ChainCollector
from collectors.database import DatabaseUseCollector, PoolState, QueryStats
from collectors.queue import QueueCollector
from collectors.rowmetric import RowMetric
from collectors.series import Families, Histograms, Scalars
from collectors.tasks import TaskCollector
from collectors.webhooks import WebhookCollector
from tests.support.scraped import values

COLLECTORS: tuple[DatabaseCollector[Any], ...] = (
    TaskCollector(),
    AgentCollector(),
    ChainCollector(),
    WebhookCollector(),
    QueueCollector(),
)
HISTOGRAMS = [f for collector in COLLECTORS for f in collector.families if f.kind == "histogram"]


def rows(built: Built) -> Mapping[str, list[Row]]:
    return {name: list(chain.from_iterable(portions)) for name, portions in built.items()}


def test_tasks_from_an_empty_ledger() -> None:
    found = rows(TaskCollector().build(Families()))
    assert found["ains_tasks_in_queue"] == [((str(p),), 0, None) for p in range(1, 11)]
    assert found["ains_tasks_in_flight"] == [(("ASSIGNED",), 0, None), (("ACTIVE",), 0, None)]
    assert found["ains_tasks_blocked"] == [((), 0, None)]
    assert found["ains_tasks_created_total"] == []


def test_oldest_task_is_shown_when_one_waits() -> None:
    assert rows(QueueCollector().build(None)) == {}
    found = rows(QueueCollector().build(4.5))
    assert found == {"ains_task_oldest_pending_timestamp_seconds": [((), 4.5, None)]}


def test_tasks_from_a_ledger() -> None:
    series = Families(
        {
            "ains_tasks_created_total": {("t", "c"): (("t", "c"), 7, 5.0)},
            "ains_task_timeouts_total": {("t", ""): (("t",), 1, 6.0)},
            "ains_tasks_in_queue": {("5", ""): (("5",), 3, 9.0)},
        },
        {
            "ains_task_duration_seconds": {
                ("t", "FAILED"): (
                    (2, 0, 1, *[0] * 8),
                    (500_000, 0, 7_000_000, *[0] * 8),
                    8.0,
                    (("a task", 0.25, 8.0), *[None] * 10),
                )
            }
        },
    )
    built = TaskCollector().build(series)
    found = rows(built)
    assert found["ains_tasks_created_total"] == [(("t", "c"), 7, 5.0)]
    assert found["ains_task_timeouts_total"] == [(("t",), 1, 6.0)]
    assert found["ains_task_duration_seconds"] == [
        (
            ("t", "FAILED"),
            (2, 0, 1, *[0] * 8),
            7.5,
            8.0,
            (("a task", 0.25, 8.0), *[None] * 10),
        )
    ]
    assert [row[1] for row in found["ains_tasks_in_queue"]] == [0, 0, 0, 0, 3, 0, 0, 0, 0, 0]
    assert rows(built) == found, "it may be rendered more than once"


def test_agents_are_counted_by_status() -> None:
    data = AgentData([("AVAILABLE", 2, 1), ("BUSY", 1, 1)], [(("a", "A"), 0.5, None)], Families())
    found = rows(AgentCollector().build(data))
    assert found["ains_agents_total"] == [((), 3, None)]
    assert found["ains_agents_active"] == [((), 2, None)]
    assert found["ains_agents_by_status"] == [(("AVAILABLE",), 2, None), (("BUSY",), 1, None)]
    assert found["ains_agent_trust_score"] == [(("a", "A"), 0.5, None)]


def test_every_family_that_is_built_is_declared_and_the_reverse() -> None:
    none = Families()
    empty: tuple[Any, ...] = (none, AgentData([], [], none), none, none, 1.0)
    for collector, data in zip(COLLECTORS, empty, strict=True):
        assert set(collector.build(data)) == {family.name for family in collector.families}


def test_no_step_of_rendering_is_long() -> None:
    """Between two steps others may run: with 100,000 series no step may take much of them."""
    many: Scalars = {("t", str(n)): (("t", str(n)), n, 1.0) for n in range(3000)}
    by_agent: Scalars = {(str(n), ""): ((str(n),), n, 1.0) for n in range(3000)}
    durations: Histograms = {
        (str(n), "FAILED"): ((n,) * 11, (0,) * 11, 1.0, ()) for n in range(3000)
    }
    tasks = Families({"ains_tasks_created_total": many}, {"ains_task_duration_seconds": durations})
    trust: list[Scalar] = [(("a", "A"), 0.5, None)] * 3000
    agents = AgentData([], trust, Families({"ains_agent_tasks_completed_total": by_agent}))
    for collector, data in zip(COLLECTORS, (tasks, agents), strict=False):
        built = collector.build(data)
        for family in collector.families:
            metric = RowMetric(family, built.get(family.name, ()), created=True)
            for step in metric.encode(openmetrics=True):
                assert step.count("\n") <= 2 + 500


@pytest.mark.parametrize("family", HISTOGRAMS, ids=lambda family: family.name)
async def test_database_has_the_same_buckets(db: asyncpg.Connection, family: Family) -> None:
    bounds = await db.fetchval("SELECT metrics.bounds($1)", family.name)
    assert [bound / 1_000_000 for bound in bounds] == list(family.bounds)


def test_statements_are_counted_by_verb_and_table() -> None:
    stats = QueryStats()
    found = values(DatabaseUseCollector(stats, lambda: PoolState(2, 3, 10)).collect())
    assert found["ains_db_query_duration_seconds_count", (("query_type", "DELETE"),)] == 0
    for seconds in (0.001, 0.0011, 2.0):
        stats.observe("SELECT", "tasks", seconds)
    stats.observe("MERGE", "agents", 0.5)
    found = values(DatabaseUseCollector(stats, lambda: PoolState(2, 3, 10)).collect())
    assert found["ains_db_queries_total", (("query_type", "SELECT"), ("table", "tasks"))] == 3
    assert found["ains_db_queries_total", (("query_type", "OTHER"), ("table", "agents"))] == 1
    bucket = "ains_db_query_duration_seconds_bucket"
    assert [
        found[bucket, (("le", le), ("query_type", "SELECT"))]
        for le in ("0.001", "0.005", "1.0", "+Inf")
    ] == [1, 2, 2, 3]
    total = found["ains_db_query_duration_seconds_sum", (("query_type", "SELECT"),)]
    assert total == pytest.approx(2.0021)
    assert found["ains_db_connections_active", ()] == 2
    assert found["ains_db_connections_idle", ()] == 3
    assert found["ains_db_connections_max", ()] == 10
