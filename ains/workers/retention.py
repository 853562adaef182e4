"""Deletes what has been kept for long enough; has partitions ready for the next days' facts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from ains.db import retention
from ains.logs import get_logger

if TYPE_CHECKING:
    from ains.db.pool import Database
    from ains.domain.retention import Ages

__all__ = ["Retention"]

_INTERVAL: Final = 3600.0
_SHORTEST_PAUSE: Final = 0.1
# Of the time, four fifths belong to others.
_PAUSE_PER_WORK: Final = 4.0

log = get_logger(__name__)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Retention:
    """Once an hour, prunes what is older than ``ages`` allow, in small batches with long pauses.

    While another process prunes, it leaves that to it. Partitions of the ledger are made a week
    ahead, and dropped when they are empty.
    """

    def __init__(
        self, database: Database, ages: Ages, now: Callable[[], datetime] = _utc_now
    ) -> None:
        self._database = database
        self._ages = ages
        self._now = now
        self._batches: AsyncIterator[retention.Batch] | None = None
        self._deleted: Counter[str] = Counter()

    async def step(self) -> float:
        """Prune one batch; see `runner.Step`."""
        # An error ends the pass: the next step begins another.
        batches, self._batches = self._batches, None
        if batches is None:
            self._deleted.clear()
            await self._make_partitions()
            batches = retention.prune(self._database, self._ages, self._now(), give_way=True)
        started = time.monotonic()
        batch = await anext(batches, None)
        if batch is None:
            await self._finish()
            return _INTERVAL
        self._batches = batches
        self._deleted[batch.kind] += batch.deleted
        return max(_SHORTEST_PAUSE, _PAUSE_PER_WORK * (time.monotonic() - started))

    async def _make_partitions(self) -> None:
        made = await retention.make_partitions(self._database)
        if made:
            log.info("partitions made", count=len(made), last=made[-1])
        elif await retention.lacks_tomorrow(self._database):
            log.warning("the ledger has no partition for tomorrow; somebody keeps it locked")

    async def _finish(self) -> None:
        dropped = await retention.drop_partitions(self._database)
        if dropped:
            log.info("partitions dropped", partitions=dropped)
        if self._deleted:
            log.info("pruned", **self._deleted)
