"""Upkeep of the ledger: folding open facts into the totals, and clearing what they leave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ains.db import upkeep
from ains.logs import get_logger

if TYPE_CHECKING:
    from ains.db.pool import Database

__all__ = ["Compactor", "Folder", "LabelWatch"]

_BATCH: Final = 5000
_FEW: Final = 500
_MANY: Final = 2000
_FASTEST: Final = 0.05

_ROOMY: Final = 2 * 1024 * 1024
_BLOATED: Final = 8 * 1024 * 1024
_LOOK: Final = 5.0
_LONGEST_LOOK: Final = 60.0

log = get_logger(__name__)


class Folder:
    """Folds every ``interval`` seconds, and more often the more facts each fold finds.

    A scrape costs 1 µs for each open fact, a fold a fixed amount and then 8 µs for each. So it
    folds as seldom as it may while some thousand facts stay open at most. One process folds at a
    time: metrics.fold() returns at once when another does.
    """

    def __init__(self, database: Database, interval: float) -> None:
        self._database = database
        self._longest = interval
        self._pause = interval

    async def step(self) -> float:
        """Fold one batch; the result is the pause until the next, see `runner.Step`."""
        moved = await upkeep.fold(self._database, _BATCH)
        if moved is None:
            return self._longest
        if moved >= _BATCH:
            return 0
        if moved > _MANY:
            self._pause = max(self._pause / 2, min(_FASTEST, self._longest))
        elif moved < _FEW:
            self._pause = min(self._pause * 1.5, self._longest)
        return self._pause


class Compactor:
    """Keeps the open parts of the ledgers small: every fold and scrape reads them whole.

    Folds leave dead rows, at thousands of facts a second more in a minute than autovacuum, which
    looks once a minute, should find. VACUUM clears them, unless a transaction that began earlier is
    still open. Then the open parts get new files, which needs a moment without writers: 100 ms
    for each ledger at most, and not again soon when it can't be had.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pause = _LOOK

    async def step(self) -> float:
        """Look once; the result is the pause until the next, see `runner.Step`."""
        if await upkeep.open_bytes(self._database) < _ROOMY:
            self._pause = _LOOK
            return self._pause
        await upkeep.vacuum_open(self._database)
        small = await upkeep.open_bytes(self._database) < _BLOATED
        if small or await upkeep.rotate_open(self._database):
            self._pause = _LOOK
        else:
            self._pause = min(2 * self._pause, _LONGEST_LOOK)
        return self._pause


class LabelWatch:
    """Says once of each label that it has reached its limit, see metrics.close_labels()."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._said: set[str] = set()

    async def step(self) -> float:
        """Look once; the result is the pause until the next, see `runner.Step`."""
        for closed in await upkeep.closed_labels(self._database):
            if closed.label not in self._said:
                self._said.add(closed.label)
                log.warning(
                    "label has too many values: further ones count under other",
                    label=closed.label,
                    shown=closed.shown,
                    families=closed.families,
                    setting="AINS_METRICS_LABEL_LIMIT",
                )
        return _LOOK
