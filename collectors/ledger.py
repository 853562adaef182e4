"""The series that the database's ledgers keep: totals, and what the open facts add to them.

The totals change only at a fold, so a process keeps them, and at a scrape reads just the rows that
were changed since. The generation that says so is read in the scrape's own snapshot, and counts
only on the very server it was read from: one that took over from it may have lost commits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from collectors.base import Family, Histogram, Scalar

if TYPE_CHECKING:
    from collectors.reader import Reader

__all__ = ["LEDGERS", "Ledger", "LedgerState", "Series", "histograms", "scalars"]

LEDGERS: Final = ("task", "chain", "webhook")

_STATE: Final = """
SELECT generation, folded_at, open_task_events, open_chain_events, open_webhook_events,
       pg_postmaster_start_time() AS server
  FROM metrics.ledger_state
"""
_TOTALS: Final = """
SELECT family, label_1, label_2, bucket, n, sum_us, first_at
  FROM metrics.totals WHERE generation > $1
"""
_TAIL: Final = "SELECT family, label_1, label_2, bucket, n, sum_us, first_at FROM metrics.{}_tail"
_TAILS: Final = {ledger: _TAIL.format(ledger) for ledger in LEDGERS}

Key = tuple[str, str, int]
"""First label, second label, bucket."""
Cell = tuple[int, int, datetime]
"""Count, sum in microseconds, time of the first fact."""
Series = Mapping[Key, Cell]
"""Cells of one family."""
_EMPTY: Final[Series] = {}


@dataclass(frozen=True, slots=True)
class LedgerState:
    """What a snapshot says of the ledgers as a whole."""

    generation: int
    folded_at: datetime
    open_events: int
    server: datetime


@dataclass(slots=True)
class Ledger:
    """The totals that this process has read."""

    _server: datetime | None = None
    _generation: int = -1
    _totals: dict[str, dict[Key, Cell]] = field(default_factory=dict)

    async def state(self, reader: Reader) -> LedgerState:
        """Read the generation and the number of open facts."""
        row = await reader.fetchrow(_STATE)
        if row is None:
            raise LookupError("metrics.fold_state has lost its row; restore it from a backup")
        return LedgerState(
            row["generation"],
            row["folded_at"],
            row["open_task_events"] + row["open_chain_events"] + row["open_webhook_events"],
            row["server"],
        )

    async def totals(self, reader: Reader, state: LedgerState) -> None:
        """Bring the kept totals to ``state``."""
        if self._server != state.server or state.generation < self._generation:
            self._totals, self._generation = {}, -1
            self._server = state.server
        if state.generation == self._generation:
            return
        rows = await reader.fetch(_TOTALS, self._generation)
        await reader.pause()
        _merge(self._totals, rows, replace=True)
        self._generation = state.generation

    async def read(self, reader: Reader, ledger: str) -> Mapping[str, Series]:
        """Totals and open facts of one ledger together, by family."""
        await self.totals(reader, await reader.ledger_state())
        tail = await reader.fetch(_TAILS[ledger])
        touched: dict[str, dict[Key, Cell]] = {}
        for family in {row[0] for row in tail}:
            touched[family] = dict(self._totals.get(family, _EMPTY))
        _merge(touched, tail, replace=False)
        return {**self._totals, **touched}


def _merge(into: dict[str, dict[Key, Cell]], rows: Sequence[Any], *, replace: bool) -> None:
    for family, label_1, label_2, bucket, n, sum_us, first_at in rows:
        cells = into.get(family)
        if cells is None:
            cells = into[family] = {}
        key = (label_1, label_2, bucket)
        old = None if replace else cells.get(key)
        if old is None:
            cells[key] = (n, sum_us, first_at)
        else:
            cells[key] = (old[0] + n, old[1] + sum_us, min(old[2], first_at))


def _seconds(moment: datetime) -> float:
    return moment.astimezone(UTC).timestamp()


def scalars(family: Family, series: Series, closed: Iterable[tuple[str, ...]] = ()) -> list[Scalar]:
    """The series of a counter or gauge; ``closed`` label values are present at zero too."""
    width = len(family.labels)
    is_counter = family.kind == "counter"
    found = [
        Scalar((label_1, label_2)[:width], n, _seconds(first_at) if is_counter else None)
        for (label_1, label_2, _), (n, _, first_at) in series.items()
    ]
    known = {row.labels for row in found}
    return [*found, *(Scalar(labels, 0) for labels in closed if labels not in known)]


def histograms(family: Family, series: Series) -> list[Histogram]:
    """The series of a histogram."""
    width = len(family.labels)
    places = len(family.bounds) + 1
    counts: dict[tuple[str, ...], list[int]] = {}
    sums: dict[tuple[str, ...], int] = {}
    first: dict[tuple[str, ...], datetime] = {}
    for (label_1, label_2, bucket), (n, sum_us, first_at) in series.items():
        labels = (label_1, label_2)[:width]
        if labels not in counts:
            counts[labels], sums[labels], first[labels] = [0] * places, 0, first_at
        counts[labels][bucket] += n
        sums[labels] += sum_us
        first[labels] = min(first[labels], first_at)
    return [
        Histogram(labels, counts[labels], sums[labels] / 1_000_000, _seconds(first[labels]))
        for labels in counts
    ]
