"""Tasks: what happened to them, from the task ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from collectors.base import Built, DatabaseCollector, Family, Row
from collectors.series import Families, Labels, histograms, scalars

if TYPE_CHECKING:
    from collectors.reader import Reader

__all__ = ["TaskCollector"]

_COUNTERS: Final = (
    Family("ains_tasks_created_total", "counter", "Tasks accepted", ("task_type", "client_id")),
    Family(
        "ains_tasks_completed_total",
        "counter",
        "Tasks that reached COMPLETED",
        ("task_type", "agent_id"),
    ),
    Family(
        "ains_tasks_failed_total",
        "counter",
        "Tasks that reached FAILED for good",
        ("task_type", "failure_reason"),
    ),
    Family(
        "ains_task_retries_total",
        "counter",
        "Retries scheduled, by the ordinal of the retry",
        ("task_type", "retry_count"),
    ),
    Family(
        "ains_task_timeouts_total", "counter", "Attempts ended by their timeout", ("task_type",)
    ),
    Family("ains_tasks_cancelled_total", "counter", "Tasks that reached CANCELLED", ("task_type",)),
    Family(
        "ains_tasks_reopened_total",
        "counter",
        "Tasks taken from an end state back to PENDING",
        ("task_type",),
    ),
)
_HISTOGRAMS: Final = (
    Family(
        "ains_task_duration_seconds",
        "histogram",
        "Execution time of the final attempt of completed and failed tasks",
        ("task_type", "status"),
        (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600),
    ),
    Family(
        "ains_task_queue_seconds",
        "histogram",
        "Time from creation, or from being retryable, to assignment",
        ("task_type",),
        (0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300),
    ),
)
_IN_QUEUE: Final = Family("ains_tasks_in_queue", "gauge", "Tasks PENDING now", ("priority",))
_IN_FLIGHT: Final = Family(
    "ains_tasks_in_flight", "gauge", "Tasks ASSIGNED or ACTIVE now", ("status",)
)
_BLOCKED: Final = Family("ains_tasks_blocked", "gauge", "PENDING tasks that wait for a dependency")
_CLOSED: Final[Mapping[Family, tuple[Labels, ...]]] = {
    _IN_QUEUE: tuple((str(priority), "") for priority in range(1, 11)),
    _IN_FLIGHT: (("ASSIGNED", ""), ("ACTIVE", "")),
    _BLOCKED: (("", ""),),
}


class TaskCollector(DatabaseCollector[Families]):
    """The families of tasks."""

    name = "tasks"
    families = (*_COUNTERS, *_HISTOGRAMS, *_CLOSED)

    async def fetch(self, reader: Reader) -> Families:
        """Read the task ledger."""
        return await reader.ledger("task")

    def build(self, data: Families) -> Built:
        """Turn the ledger's series into the rows of each family."""
        built: dict[str, Iterable[Sequence[Row]]] = {}
        for family in _COUNTERS:
            built[family.name] = scalars(family, data)
        for family in _HISTOGRAMS:
            built[family.name] = histograms(family, data)
        for family, closed in _CLOSED.items():
            built[family.name] = scalars(family, data, closed)
        return built
