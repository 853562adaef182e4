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
from collectors.base import Exemplar, Family, Histogram, Portions, Scalar

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
       ARRAY(SELECT g FROM metrics.label_guards AS g ORDER BY g.label) AS guards,
       pg_postmaster_start_time() AS server,
       (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) AS database,
       pg_relation_filenode('metrics.totals') AS file
  FROM metrics.ledger_state
"""
_BUCKETS: Final = """
SELECT family, label_1, label_2, bucket, n, sum_us, date_part('epoch', first_at),
       exemplar_id, exemplar_us / 1e6::double precision, date_part('epoch', exemplar_at)
  FROM metrics.{}
"""
_TOTALS: Final = _BUCKETS.format("totals") + " WHERE generation > $1"
_TAILS: Final = {ledger: _BUCKETS.format(f"{ledger}_tail") for ledger in LEDGERS}
_BATCH: Final = 250
_FEW: Final = 2000

T = TypeVar("T")


# Plain tuples, which the garbage collector need not look at again and again.
Exemplars = tuple[Exemplar | None, ...]
Cell = tuple[tuple[int, ...], tuple[int, ...], float, Exemplars]
"""One series: counts and sums in microseconds by bucket, the Unix time of its first fact, and an
exemplar of each bucket up to the last one that has any. What is no histogram has one bucket."""
_NEVER: Final = 0.0
_ZERO: Final[Cell] = ((0,), (0,), _NEVER, ())

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
    open: Mapping[str, int]
    """Facts that are not folded yet, by ledger."""
    identity: Identity
    replication_lag: float | None = 0.0
    """Seconds, see `collectors.replication.lag`; 0 on a primary."""
    merged: tuple[tuple[str, int], ...] = ()
    """How many values of each open label count under ``other``."""

    @property
    def open_events(self) -> int:
        """Facts of all ledgers that are not folded yet."""
        return sum(self.open.values())


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
            {ledger: row[f"open_{ledger}_events"] for ledger in LEDGERS},
            (row["server"], row["database"], row["file"]),
            await replication.lag(reader, row["folded_at"]) if row["replica"] else 0.0,
            tuple((guard["label"], guard["merged"]) for guard in row["guards"]),
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
        facts = (await reader.ledger_state()).open[ledger]
        if not facts:
            return totals.families
        rows = reader.portions(_TAILS[ledger], few=facts <= _FEW)
        return await _merged(totals.families, rows, replace=False)


async def _merged(base: Families, rows: AsyncIterator[list[Row]], *, replace: bool) -> Families:
    """A copy of ``base`` in which these buckets were replaced, or added to."""
    touched: dict[str, dict[Labels, Cell]] = {}
    opened: dict[tuple[str, Labels], _OpenCell] = {}
    async for portion in rows:
        for family, label_1, label_2, bucket, n, sum_us, first, task, seconds, at in portion:
            series = touched.get(family)
            if series is None:
                series = touched[family] = dict(base.get(family, ()))
            labels = (label_1, label_2)
            histogram = opened.get((family, labels))
            if histogram is None:
                cell = series.get(labels)
                if task is None and bucket == 0 and (cell is None or len(cell[0]) == 1):
                    series[labels] = _scalar(cell, n, sum_us, first, replace)
                    continue
                histogram = opened[family, labels] = _OpenCell(cell or ((), (), first, ()))
            exemplar = None if task is None else (str(task), seconds, at)
            histogram.put(bucket, n, sum_us, first, exemplar, replace)
    for (family, labels), histogram in opened.items():
        touched[family][labels] = histogram.closed()
    return {**base, **touched}


def _scalar(cell: Cell | None, n: int, sum_us: int, first: float, replace: bool) -> Cell:
    """What is no histogram, or not known to be one yet."""
    if cell is None:
        return (n,), (sum_us,), first, ()
    (count,), (total,), earliest, exemplars = cell
    if replace:
        return (n,), (sum_us,), min(earliest, first), exemplars
    return (n + count,), (total + sum_us,), min(earliest, first), exemplars


class _OpenCell:
    """A cell while buckets are put into it, one after the other."""

    __slots__ = ("counts", "exemplars", "first", "sums")

    def __init__(self, cell: Cell) -> None:
        counts, sums, self.first, exemplars = cell
        self.counts, self.sums, self.exemplars = [*counts], [*sums], [*exemplars]

    def put(
        self,
        bucket: int,
        n: int,
        sum_us: int,
        first: float,
        exemplar: Exemplar | None,
        replace: bool,
    ) -> None:
        counts, sums = self.counts, self.sums
        self.first = min(self.first, first)
        while len(counts) <= bucket:
            counts.append(0)
            sums.append(0)
        if replace:
            counts[bucket], sums[bucket] = n, sum_us
        else:
            counts[bucket] += n
            sums[bucket] += sum_us
        if exemplar is not None:
            exemplars = self.exemplars
            while len(exemplars) <= bucket:
                exemplars.append(None)
            exemplars[bucket] = exemplar

    def closed(self) -> Cell:
        return tuple(self.counts), tuple(self.sums), self.first, tuple(self.exemplars)


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
            (labels[:width], counts[0], first or None) for labels, (counts, _, first, _) in batch
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
                first or None,
                exemplars and exemplars + (None,) * (places - len(exemplars)),
            )
            for labels, (counts, sums, first, exemplars) in batch
        ]
