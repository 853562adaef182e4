"""The families as SQL over the state tables: what anybody would write without a ledger.

No counter here survives the deletion of its rows, and retries and reopenings leave no trace to be
counted at all, so the benchmark's past has none.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["AGENT_TTL_SECONDS", "QUERIES", "Query"]

AGENT_TTL_SECONDS: Final = 60


@dataclass(frozen=True)
class Query:
    """One family; ``sql`` has a column for each label and ``value``.

    That of a histogram has ``seconds`` instead of ``value``, one row for each observation.
    """

    family: str
    kind: str
    labels: tuple[str, ...]
    sql: str
    bounds: tuple[float, ...] = ()

    @property
    def les(self) -> list[str]:
        """The values of the label ``le``."""
        return [*map(str, map(float, self.bounds)), "+Inf"]

    @property
    def grouped(self) -> str:
        """The histogram in one pass: its labels, ``sum``, ``count`` and a column for each le."""
        columns = [*self.labels, "sum(seconds) AS sum", "count(*) AS count", *self._counts()]
        keys = ", ".join(self.labels)
        return f"SELECT {', '.join(columns)} FROM ({self.sql}) AS o GROUP BY {keys}"

    def _counts(self) -> Iterator[str]:
        for bound in map(float, self.bounds):
            yield f'count(*) FILTER (WHERE seconds <= {bound}) AS "{bound}"'
        yield 'count(*) AS "+Inf"'


def _ended(family: str, labels: tuple[str, ...], condition: str) -> Query:
    keys = ", ".join(labels)
    # A column may have another name than the label.
    columns = keys.replace("agent_id", "assigned_agent_id AS agent_id")
    sql = f"SELECT {columns}, count(*) AS value FROM tasks WHERE {condition} GROUP BY {keys}"
    return Query(family, "counter", labels, sql)


QUERIES: Final = (
    _ended("ains_tasks_created_total", ("task_type", "client_id"), "true"),
    _ended("ains_tasks_completed_total", ("task_type", "agent_id"), "status = 'COMPLETED'"),
    _ended("ains_tasks_failed_total", ("task_type", "failure_reason"), "status = 'FAILED'"),
    _ended("ains_tasks_cancelled_total", ("task_type",), "status = 'CANCELLED'"),
    _ended(
        "ains_task_timeouts_total",
        ("task_type",),
        "status = 'FAILED' AND failure_reason = 'timeout'",
    ),
    _ended("ains_agent_tasks_completed_total", ("agent_id",), "status = 'COMPLETED'"),
    _ended("ains_agent_tasks_failed_total", ("agent_id",), "status = 'FAILED'"),
    Query(
        "ains_task_duration_seconds",
        "histogram",
        ("task_type", "status"),
        "SELECT task_type, status, extract(epoch FROM completed_at - started_at)::float8 AS seconds"
        " FROM tasks WHERE status IN ('COMPLETED', 'FAILED')",
        (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600),
    ),
    Query(
        "ains_task_queue_seconds",
        "histogram",
        ("task_type",),
        "SELECT task_type, extract(epoch FROM assigned_at - queued_at)::float8 AS seconds"
        " FROM tasks WHERE assigned_at IS NOT NULL",
        (0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300),
    ),
    Query(
        "ains_tasks_in_queue",
        "gauge",
        ("priority",),
        "SELECT p::text AS priority, count(t.task_id) AS value FROM generate_series(1, 10) AS p"
        " LEFT JOIN tasks AS t ON t.priority = p AND t.status = 'PENDING' GROUP BY p",
    ),
    Query(
        "ains_tasks_in_flight",
        "gauge",
        ("status",),
        "SELECT s AS status, count(t.task_id) AS value"
        " FROM unnest('{ASSIGNED,ACTIVE}'::text[]) AS s"
        " LEFT JOIN tasks AS t ON t.status = s GROUP BY s",
    ),
    Query(
        "ains_tasks_blocked",
        "gauge",
        (),
        "SELECT count(*) AS value FROM tasks WHERE status = 'PENDING' AND is_blocked",
    ),
    Query(
        "ains_task_oldest_pending_timestamp_seconds",
        "gauge",
        (),
        "SELECT extract(epoch FROM min(created_at))::float8 AS value"
        " FROM tasks WHERE status = 'PENDING' AND NOT is_blocked",
    ),
    Query("ains_agents_total", "gauge", (), "SELECT count(*) AS value FROM agents"),
    Query(
        "ains_agents_active",
        "gauge",
        (),
        "SELECT count(*) AS value FROM agents WHERE status IN ('AVAILABLE', 'BUSY')"
        f" AND last_heartbeat > now() - interval '{AGENT_TTL_SECONDS} seconds'",
    ),
    Query(
        "ains_agents_by_status",
        "gauge",
        ("status",),
        "SELECT s AS status, count(a.agent_id) AS value"
        " FROM unnest('{REGISTERED,AVAILABLE,BUSY,INACTIVE,SUSPENDED}'::text[]) AS s"
        " LEFT JOIN agents AS a ON a.status = s GROUP BY s",
    ),
    Query(
        "ains_agent_trust_score",
        "gauge",
        ("agent_id", "display_name"),
        "SELECT agent_id, display_name, trust_score AS value FROM agents",
    ),
)
