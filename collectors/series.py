"""Series of the ledgers: made of rows of totals and tails, and made into the rows of families."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from math import inf
from operator import itemgetter
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from collectors.base import Exemplar, Family, Histogram, Portions, Scalar

if TYPE_CHECKING:
    from collectors.reader import Row

    _Rows = Iterable[Row]

__all__ = [
    "MOST_US",
    "SUMS",
    "Adding",
    "Families",
    "Histograms",
    "Labels",
    "Merging",
    "Replacing",
    "Scalars",
    "batches",
    "histograms",
    "scalars",
]

SUMS: Final = {"ains_tasks_completed_total": "ains_agent_tasks_completed_total"}
"""Families whose sums over the first label are another family, so that the two can't disagree. What
is done without a second label, by hand and not by an agent, is in no sum."""

MOST_US: Final = 2**63 - 1
"""Where sums of microseconds end, in the database too: `metrics.saturated`."""

_BATCH: Final = 250

T = TypeVar("T")


# Plain tuples, which the garbage collector need not look at again and again.
Exemplars = tuple[Exemplar | None, ...]
Buckets = tuple[tuple[int, ...], tuple[int, ...], float, Exemplars]
"""One series of a histogram: counts and sums in microseconds by bucket, the Unix time of its first
fact, and an exemplar of each bucket, or none at all."""
_NO_BUCKETS: Final[Buckets] = (), (), inf, ()

Labels = tuple[str, str]
"""Both labels of a row of totals; one that its family doesn't have is empty."""
_Counts = dict[Labels, Scalar]
Scalars = Mapping[Labels, Scalar]
"""The series of a counter or gauge."""
Histograms = Mapping[Labels, Buckets]
"""The series of a histogram."""


class Families(NamedTuple):
    """The series of ledgers by the name of their family."""

    scalars: Mapping[str, Scalars] = {}
    histograms: Mapping[str, Histograms] = {}


class Merging(ABC):
    """Rows that are put into a copy of series."""

    def __init__(self, known: Mapping[str, Family], base: Families) -> None:
        self._known = known
        self._base = base
        self._scalars: dict[str, _Counts] = {}
        self._opened: dict[str, _Opened] = {}

    def put(self, rows: Sequence[Row]) -> None:
        """Rows of a family come one after the other, with interruptions at most."""
        for name, of_family in groupby(rows, itemgetter(0)):
            family = self._known.get(name)
            if family is None:
                continue  # of a newer schema, or of a collector that is left out
            if family.kind == "histogram":
                if name not in self._opened:
                    base = self._base.histograms.get(name, {})
                    self._opened[name] = _Opened(base, len(family.bounds) + 1)
                self._put_buckets(self._opened[name], of_family)
            else:
                sums = self._known.get(SUMS.get(name, ""))
                summed = None if sums is None else self._touched(sums.name)
                self._put_scalars(self._touched(name), summed, len(family.labels), of_family)

    @abstractmethod
    def _put_scalars(self, series: _Counts, sums: _Counts | None, width: int, rows: _Rows) -> None:
        """Put rows into the ``series`` of a family with ``width`` labels, and their `SUMS`."""

    @abstractmethod
    def _put_buckets(self, opened: _Opened, rows: _Rows) -> None:
        """Put rows into the series of a histogram."""

    def _touched(self, family: str) -> _Counts:
        if family not in self._scalars:
            self._scalars[family] = dict(self._base.scalars.get(family, ()))
        return self._scalars[family]

    def families(self) -> Families:
        """What has come of it."""
        base, histograms = self._base, {}
        for family, opened in self._opened.items():
            closed = {labels: buckets.closed() for labels, buckets in opened.items()}
            histograms[family] = {**base.histograms.get(family, {}), **closed}
        return Families({**base.scalars, **self._scalars}, {**base.histograms, **histograms})


class Replacing(Merging):
    """Rows of totals, which take the place of what was read of them before."""

    def _put_scalars(self, series: _Counts, sums: _Counts | None, width: int, rows: _Rows) -> None:
        for _, label_1, label_2, _, n, _, first, _, _, _ in rows:
            labels = label_1, label_2
            before = series[labels][1] if labels in series else 0
            _add(series, labels, labels[:width], n - before, first)
            if sums is not None and label_2:
                _add(sums, (label_2, ""), (label_2,), n - before, first)

    def _put_buckets(self, opened: _Opened, rows: _Rows) -> None:
        for _, label_1, label_2, bucket, n, sum_us, first, task, seconds, at in rows:
            found = opened[label_1, label_2]
            if bucket >= len(found.counts):
                found.widen(bucket + 1)
            found.first = min(found.first, first)
            found.counts[bucket], found.sums[bucket] = n, sum_us
            if task is not None:
                found.exemplars[bucket] = task, seconds, at


class Adding(Merging):
    """Rows of a tail, which are added. They have no exemplars."""

    def _put_scalars(self, series: _Counts, sums: _Counts | None, width: int, rows: _Rows) -> None:
        for _, label_1, label_2, _, n, _, first in rows:
            labels = label_1, label_2
            _add(series, labels, labels[:width], n, first)
            if sums is not None and label_2:
                _add(sums, (label_2, ""), (label_2,), n, first)

    def _put_buckets(self, opened: _Opened, rows: _Rows) -> None:
        for _, label_1, label_2, bucket, n, sum_us, first in rows:
            found = opened[label_1, label_2]
            if bucket >= len(found.counts):
                found.widen(bucket + 1)
            found.first = min(found.first, first)
            found.counts[bucket] += n
            found.sums[bucket] += sum_us


def _add(series: _Counts, labels: Labels, shown: tuple[str, ...], n: float, first: float) -> None:
    found = series.get(labels)
    if found is None:
        series[labels] = shown, n, first
        return
    shown, before, earliest = found
    series[labels] = shown, before + n, first if earliest is None or first < earliest else earliest


class _OpenBuckets:
    """A series while buckets are put into it, one after the other."""

    __slots__ = ("counts", "exemplars", "first", "sums")

    def __init__(self, buckets: Buckets) -> None:
        counts, sums, self.first, exemplars = buckets
        self.counts, self.sums = [*counts], [*sums]
        self.exemplars: list[Exemplar | None] = [*exemplars] or [None] * len(counts)

    def widen(self, places: int) -> None:
        """Make room for so many buckets, if there is less."""
        self.counts += [0] * (places - len(self.counts))
        self.sums += [0] * (places - len(self.sums))
        self.exemplars += [None] * (places - len(self.exemplars))

    def closed(self) -> Buckets:
        exemplars = tuple(self.exemplars) if any(self.exemplars) else ()
        if max(self.sums) > MOST_US:
            self.sums = [min(us, MOST_US) for us in self.sums]
        return tuple(self.counts), tuple(self.sums), self.first, exemplars


class _Opened(dict[Labels, _OpenBuckets]):
    """The series of a histogram that buckets are put into, opened when they are asked for."""

    def __init__(self, base: Histograms, places: int) -> None:
        self._base = base
        self._places = places

    def __missing__(self, labels: Labels) -> _OpenBuckets:
        found = self[labels] = _OpenBuckets(self._base.get(labels, _NO_BUCKETS))
        found.widen(self._places)
        return found


def batches(items: Iterable[T]) -> Iterator[list[T]]:
    """Yield ``items`` in handy portions, between which others may run."""
    iterator = iter(items)
    while batch := list(islice(iterator, _BATCH)):
        yield batch


def scalars(family: Family, found: Families, closed: Sequence[Labels] = ()) -> Portions:
    """The rows of a counter or gauge; ``closed`` label values are present at zero too."""
    series = found.scalars.get(family.name, {})
    if closed:
        zeros: Scalars = {labels: (labels[: len(family.labels)], 0, None) for labels in closed}
        series = {**zeros, **series}
    return Portions(lambda: batches(series.values()))


def histograms(family: Family, found: Families, closed: Sequence[Labels] = ()) -> Portions:
    """The rows of a histogram; ``closed`` label values are present at zero too.

    When the database has more buckets than ``family`` knows, they can't be rendered.
    """
    series = found.histograms.get(family.name, {})
    if closed:
        zeros = (0,) * (len(family.bounds) + 1)
        nothing: Buckets = zeros, zeros, 0.0, ()
        series = {**dict.fromkeys(closed, nothing), **series}
    return Portions(_histograms, len(family.labels), series)


def _histograms(width: int, series: Histograms) -> Iterator[list[Histogram]]:
    for batch in batches(series.items()):
        yield [
            (labels[:width], counts, sum(sums) / 1_000_000, first or None, exemplars)
            for labels, (counts, sums, first, exemplars) in batch
        ]
