"""The series that the database's ledgers keep: totals, and what the open facts add to them.

The totals change only at a fold, so a process keeps them, and at a scrape reads just the rows that
were changed since. The generation that says so is read in the scrape's own snapshot, and counts
only for the very table it was read from: a standby that took over, or a backup that was put back,
may say less than what was read before.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

from collectors import replication
from collectors.base import Family, Histogram, Portions, Scalar

if TYPE_CHECKING:
    from collectors.reader import Reader, Row

__all__ = [
    "LEDGERS",
    "Families",
    "Labels",
    "Ledger",
    "LedgerState",
    "Series",
    "Totals",
    "batches",
    "histograms",
    "scalars",
]

LEDGERS: Final = ("task", "chain", "webhook")

_STATE: Final = """
SELECT generation, folded_at, open_task_events, open_chain_events, open_webhook_events,
       pg_is_in_recovery() AS replica,
       pg_postmaster_start_time() AS server,
       (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) AS database,
       pg_relation_filenode('metrics.totals') AS file
  FROM metrics.ledger_state
"""
_TOTALS: Final = """
SELECT family, label_1, label_2, bucket, n, sum_us, first_at
  FROM metrics.totals WHERE generation > $1
"""
_TAIL: Final = "SELECT family, label_1, label_2, bucket, n, sum_us, first_at FROM metrics.{}_tail"
_TAILS: Final = {ledger: _TAIL.format(ledger) for ledger in LEDGERS}
_BATCH: Final = 250

T = TypeVar("T")


# Plain tuples, which the garbage collector need not look at again and again.
Cell = tuple[tuple[int, ...], tuple[int, ...], float]
"""One series: counts and sums in microseconds by bucket, and the Unix time of its first fact. What
is no histogram has one bucket."""
_NEVER: Final = 0.0
_ZERO: Final[Cell] = ((0,), (0,), _NEVER)

Labels = tuple[str, str]
Series = Mapping[Labels, Cell]
"""The series of one family by their labels, a missing label is empty."""
Families = Mapping[str, Series]
Identity = tuple[object, ...]
"""Tells one table of totals from another."""


@dataclass(frozen=True, slots=True)
class LedgerState:
    """What a snapshot says of the ledgers as a whole."""

    generation: int
    folded_at: datetime
    open_events: int
    identity: Identity
    replication_lag: float | None = 0.0
    """Seconds, see `collectors.replication.lag`; 0 on a primary."""


@dataclass(frozen=True, slots=True)
class Totals:
    """The totals of one generation. Never changed, since scrapes may still be rendering them."""

    identity: Identity = ()
    generation: int = -1
    families: Families = field(default_factory=dict)


class Ledger:
    """The totals that this process has read."""

    def __init__(self) -> None:
        """Nothing has been read yet."""
        self._kept = Totals()

    async def state(self, reader: Reader) -> LedgerState:
        """Read the generation and the number of open facts.

        Raises:
            LookupError: the row is gone.
        """
        row = await reader.fetchrow(_STATE)
        if row is None:
            raise LookupError("metrics.fold_state has lost its row; restore it from a backup")
        return LedgerState(
            row["generation"],
            row["folded_at"],
            row["open_task_events"] + row["open_chain_events"] + row["open_webhook_events"],
            (row["server"], row["database"], row["file"]),
            await replication.lag(reader, row["folded_at"]) if row["replica"] else 0.0,
        )

    async def totals(self, reader: Reader, state: LedgerState) -> Totals:
        """The totals as of ``state``, and keep them for the next scrape."""
        base = self._kept
        if base.identity != state.identity or base.generation > state.generation:
            base = Totals(state.identity)
        if base.generation == state.generation:
            return base
        rows = reader.portions(_TOTALS, base.generation)
        families = await _merged(base.families, rows, replace=True)
        self._kept = Totals(state.identity, state.generation, families)
        return self._kept

    async def read(self, reader: Reader, ledger: str) -> Families:
        """Totals and open facts of one ledger together, by family."""
        totals = await reader.totals()
        rows = reader.portions(_TAILS[ledger])
        return await _merged(totals.families, rows, replace=False)


async def _merged(base: Families, rows: AsyncIterator[list[Row]], *, replace: bool) -> Families:
    """A copy of ``base`` in which these buckets were replaced, or added to."""
    touched: dict[str, dict[Labels, Cell]] = {}
    async for portion in rows:
        for family, label_1, label_2, bucket, n, sum_us, first_at in portion:
            series = touched.get(family)
            if series is None:
                series = touched[family] = dict(base.get(family, ()))
            labels = (label_1, label_2)
            cell, first = series.get(labels), first_at.timestamp()
            if cell is None and bucket == 0:
                series[labels] = ((n,), (sum_us,), first)
            else:
                series[labels] = _with_bucket(cell, bucket, n, sum_us, first, replace)
    return {**base, **touched}


def _with_bucket(
    cell: Cell | None, bucket: int, n: int, sum_us: int, first: float, replace: bool
) -> Cell:
    old_counts, old_sums, old_first = cell or ((), (), first)
    missing = (0,) * (bucket + 1 - len(old_counts))
    counts, sums = [*old_counts, *missing], [*old_sums, *missing]
    if replace:
        counts[bucket], sums[bucket] = 0, 0
    counts[bucket] += n
    sums[bucket] += sum_us
    return tuple(counts), tuple(sums), min(old_first, first)


def batches(items: Iterable[T]) -> Iterator[list[T]]:
    """Yield ``items`` in handy portions, between which others may run."""
    iterator = iter(items)
    while batch := list(islice(iterator, _BATCH)):
        yield batch


def scalars(family: Family, series: Series, closed: Sequence[Labels] = ()) -> Portions:
    """The rows of a counter or gauge; ``closed`` label values are present at zero too."""
    present = {**dict.fromkeys(closed, _ZERO), **series} if closed else series
    return Portions(_scalars, len(family.labels), present)


def _scalars(width: int, series: Series) -> Iterator[list[Scalar]]:
    for batch in batches(series.items()):
        yield [
            (labels[:width], counts[0], None if first == _NEVER else first)
            for labels, (counts, _, first) in batch
        ]


def histograms(family: Family, series: Series, closed: Sequence[Labels] = ()) -> Portions:
    """The rows of a histogram; ``closed`` label values are present at zero too.

    When the database has more buckets than ``family`` knows, they can't be rendered.
    """
    present = {**dict.fromkeys(closed, _ZERO), **series} if closed else series
    return Portions(_histograms, len(family.labels), len(family.bounds) + 1, present)


def _histograms(width: int, places: int, series: Series) -> Iterator[list[Histogram]]:
    for batch in batches(series.items()):
        yield [
            (
                labels[:width],
                counts + (0,) * (places - len(counts)),
                sum(sums) / 1_000_000,
                None if first == _NEVER else first,
            )
            for labels, (counts, sums, first) in batch
        ]
