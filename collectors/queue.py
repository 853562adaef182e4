"""The queue: how long its oldest task has waited.

Apart from `collectors.tasks`, since it reads a table that changes all the time: beside a
transaction that has been open for hours, the way to the first task that still waits leads past all
that waited since. When that takes too long, the counters are served nevertheless.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from collectors.base import Built, DatabaseCollector, Family

if TYPE_CHECKING:
    from collectors.reader import Reader

__all__ = ["QueueCollector"]

_OLDEST: Final = "SELECT value FROM metrics.ains_task_oldest_pending_timestamp_seconds"
_OLDEST_PENDING: Final = Family(
    "ains_task_oldest_pending_timestamp_seconds",
    "gauge",
    "When the oldest task that could run now was created",
)


class QueueCollector(DatabaseCollector[float | None]):
    """The family that needs the queue itself."""

    name = "queue"
    families = (_OLDEST_PENDING,)

    async def fetch(self, reader: Reader) -> float | None:
        """Read the Unix time of the oldest task that could run."""
        row = await reader.fetchrow(_OLDEST)
        return None if row is None else row["value"]

    def build(self, data: float | None) -> Built:
        """One row, or none when nothing waits."""
        return {} if data is None else {_OLDEST_PENDING.name: [[((), data, None)]]}
