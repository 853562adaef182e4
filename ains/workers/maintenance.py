"""Upkeep of the ledger: folding open facts into the totals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ains.db import upkeep

if TYPE_CHECKING:
    from ains.db.pool import Database

__all__ = ["Folder"]

_BATCH: Final = 5000
_FEW: Final = 500
_MANY: Final = 2000
_FASTEST: Final = 0.05


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
