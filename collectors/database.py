"""This process's database connections and statements, counted in the process."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from prometheus_client import Metric
from prometheus_client.registry import Collector

from collectors.base import Family, Row
from collectors.notation import Memory
from collectors.rowmetric import RowMetric

__all__ = ["DatabaseUseCollector", "PoolState", "QueryStats"]

_BOUNDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_TYPES: Final = ("SELECT", "INSERT", "UPDATE", "DELETE", "OTHER")

_ACTIVE: Final = Family(
    "ains_db_connections_active", "gauge", "Connections of this process's pool that are in use"
)
_IDLE: Final = Family(
    "ains_db_connections_idle", "gauge", "Connections of this process's pool that are open and idle"
)
_MAX: Final = Family(
    "ains_db_connections_max", "gauge", "Connections that this process's pool may have"
)
_QUERIES: Final = Family(
    "ains_db_queries_total", "counter", "Statements this process sent", ("query_type", "table")
)
_DURATION: Final = Family(
    "ains_db_query_duration_seconds",
    "histogram",
    "Time from sending a statement to its answer",
    ("query_type",),
    _BOUNDS,
)


class PoolState(NamedTuple):
    """Numbers of connections."""

    active: int
    idle: int
    max: int


class QueryStats:
    """Counts statements; `observe` is on the path of every one of them."""

    def __init__(self) -> None:
        """Nothing has been sent yet."""
        self.queries: dict[tuple[str, str], int] = {}
        self.buckets = {kind: [0] * (len(_BOUNDS) + 1) for kind in _TYPES}
        self.seconds = dict.fromkeys(_TYPES, 0.0)

    def observe(self, query_type: str, table: str, seconds: float) -> None:
        """Count one statement of ``query_type``: SELECT, INSERT, UPDATE, DELETE, all else OTHER."""
        if query_type not in self.buckets:
            query_type = "OTHER"
        key = (query_type, table)
        self.queries[key] = self.queries.get(key, 0) + 1
        self.buckets[query_type][bisect_left(_BOUNDS, seconds)] += 1
        self.seconds[query_type] += seconds


class DatabaseUseCollector(Collector):
    """The ``ains_db_…`` families of this process."""

    def __init__(self, stats: QueryStats, pool: Callable[[], PoolState]) -> None:
        """Show ``stats`` and what ``pool`` says at the scrape."""
        self._stats = stats
        self._pool = pool
        self._written = Memory(_DURATION)

    def describe(self) -> Iterator[Metric]:
        """Yield the families without samples."""
        yield from map(RowMetric, (_ACTIVE, _IDLE, _MAX, _QUERIES, _DURATION))

    def collect(self) -> Iterator[Metric]:
        """Yield the families with the counts of this moment."""
        pool, stats = self._pool(), self._stats
        yield RowMetric(_ACTIVE, [[((), pool.active, None)]])
        yield RowMetric(_IDLE, [[((), pool.idle, None)]])
        yield RowMetric(_MAX, [[((), pool.max, None)]])
        yield RowMetric(_QUERIES, [[(key, n, None) for key, n in sorted(stats.queries.items())]])
        durations: list[Row] = [
            ((kind,), tuple(stats.buckets[kind]), stats.seconds[kind], None, ()) for kind in _TYPES
        ]
        yield RowMetric(_DURATION, [durations], memory=self._written)
