"""Totals and open facts are added up right, in whatever order their rows come."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from collectors.base import Family
from collectors.series import SUMS, Adding, Families, Replacing

(_SUMMED, _SUM) = next(iter(SUMS.items()))
_KNOWN = {
    family.name: family
    for family in (
        Family("counter", "counter", "One label", ("one",)),
        Family(_SUMMED, "counter", "Two labels", ("one", "two")),
        Family(_SUM, "counter", "Its sum", ("two",)),
        Family("histogram", "histogram", "Buckets", ("one",), (1, 2, 3, 4)),
    )
}
_KEYS = st.one_of(
    st.tuples(st.just("counter"), st.sampled_from("xy"), st.just(""), st.just(0)),
    st.tuples(st.just(_SUMMED), st.sampled_from("xy"), st.sampled_from(["", "a", "b"]), st.just(0)),
    st.tuples(st.just("histogram"), st.sampled_from("xy"), st.just(""), st.integers(0, 6)),
    st.tuples(st.just("unknown"), st.just("x"), st.just(""), st.just(0)),
)
_VALUES = st.tuples(
    st.integers(-3, 9),
    st.integers(0, 99),
    st.floats(1, 9),
    st.none() | st.sampled_from(["a task", "another"]),
)
_ROWS = st.dictionaries(_KEYS, _VALUES).flatmap(lambda rows: st.permutations([*rows.items()]))


def merged(base: Families, rows: Sequence[Any], portion: int, *, replace: bool) -> Families:
    merging = (Replacing if replace else Adding)(_KNOWN, base)
    remaining = iter(rows)
    while some := list(islice(remaining, portion)):
        merging.put([(*key, *row_of(*values, replace=replace)) for key, values in some])
    return merging.families()


def row_of(n: int, total: int, first: float, task: str | None, *, replace: bool) -> tuple[Any, ...]:
    """A tail has no exemplars."""
    if not replace:
        return n, total, first
    return n, total, first, *((None, None, None) if task is None else (task, 0.5, 7.0))


class _Expected:
    """The same by the simplest means."""

    def __init__(self) -> None:
        self.buckets: dict[Any, dict[int, tuple[int, int]]] = {}
        self.firsts: dict[Any, float] = {}
        self.exemplars: dict[Any, dict[int, str]] = {}

    def put(self, rows: Sequence[Any], *, replace: bool) -> None:
        for (*key, bucket), (n, total, first, task) in rows:
            if key[0] == "unknown":
                continue
            buckets = self.buckets.setdefault(tuple(key), {})
            before = (0, 0) if replace else buckets.get(bucket, (0, 0))
            buckets[bucket] = before[0] + n, before[1] + total
            self._happened(tuple(key), first)
            if replace and task is not None:
                self.exemplars.setdefault(tuple(key), {})[bucket] = task
            if key[0] == _SUMMED and key[2]:
                self._happened((_SUM, key[2], ""), first)

    def _happened(self, key: Any, first: float) -> None:
        self.firsts[key] = min(self.firsts.get(key, first), first)

    def add_sums(self) -> None:
        for (family, _, two), buckets in [*self.buckets.items()]:
            if family == _SUMMED and two:
                before, _ = self.buckets.setdefault((_SUM, two, ""), {0: (0, 0)})[0]
                self.buckets[_SUM, two, ""][0] = before + buckets[0][0], 0


@given(base=_ROWS, rows=_ROWS, portion=st.integers(1, 9), replace=st.booleans())
def test_merging_is_addition_by_bucket(
    base: list[Any], rows: list[Any], portion: int, replace: bool
) -> None:
    before = merged(Families(), base, portion, replace=True)
    kept = [{name: dict(series) for name, series in kind.items()} for kind in before]
    found = merged(before, rows, portion, replace=replace)
    assert [*before] == kept, "a scrape may still be rendering it"

    expected = _Expected()
    expected.put(base, replace=True)
    expected.put(rows, replace=replace)
    expected.add_sums()
    counters = {(f, *of): row for f, series in found.scalars.items() for of, row in series.items()}
    for (family, *labels), (shown, count, first) in counters.items():
        assert shown == tuple(labels)[: len(_KNOWN[family].labels)]
        assert count == expected.buckets[family, *labels][0][0]
        assert first == expected.firsts[family, *labels]
    histograms = {("histogram", *of): b for of, b in found.histograms.get("histogram", {}).items()}
    for key, (counts, sums, earliest, exemplars) in histograms.items():
        buckets = expected.buckets[key]
        places = range(max(5, max(buckets) + 1))
        pairs = [buckets.get(place, (0, 0)) for place in places]
        assert [*zip(counts, sums, strict=True)] == pairs
        assert earliest == expected.firsts[key]
        named = {place: e[0] for place, e in enumerate(exemplars) if e is not None}
        assert named == expected.exemplars.get(key, {})
    assert counters.keys() | histograms.keys() == expected.buckets.keys()
