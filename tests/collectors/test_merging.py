"""Totals and open facts are added up right, in whatever order their rows come."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from collectors.ledger import Cell, _merged

_TASKS = [UUID(int=number) for number in range(3)]
_KEYS = st.tuples(st.sampled_from("fg"), st.sampled_from("xy"), st.just(""), st.integers(0, 4))
_VALUES = st.tuples(
    st.integers(-3, 9),
    st.integers(0, 99),
    st.floats(1, 9),
    st.none() | st.sampled_from(_TASKS),
)
_ROWS = st.dictionaries(_KEYS, _VALUES).flatmap(lambda rows: st.permutations([*rows.items()]))


async def portions(rows: list[Any]) -> AsyncIterator[list[Any]]:
    for (family, one, two, bucket), (n, total, first, task) in rows:
        exemplar = (None, None, None) if task is None else (task, 0.5, 7.0)
        yield [(family, one, two, bucket, n, total, first, *exemplar)]


def merged(base: list[Any], rows: list[Any], *, replace: bool) -> dict[Any, Cell]:
    async def both() -> dict[Any, Cell]:
        before = await _merged({}, portions(base), replace=False)
        after = await _merged(before, portions(rows), replace=replace)
        return {
            (f, *labels): cell for f, series in after.items() for labels, cell in series.items()
        }

    with asyncio.Runner() as runner:
        return runner.run(both())


@given(base=_ROWS, rows=_ROWS, replace=st.booleans())
def test_merging_is_addition_by_bucket(base: list[Any], rows: list[Any], replace: bool) -> None:
    found = merged(base, rows, replace=replace)
    expected: dict[Any, dict[int, tuple[int, int]]] = {}
    firsts: dict[Any, float] = {}
    exemplars: dict[Any, dict[int, str]] = {}
    for part, adds in ((base, True), (rows, not replace)):
        for (*labels, bucket), (n, total, first, task) in part:
            key = tuple(labels)
            buckets = expected.setdefault(key, {})
            before = buckets.get(bucket, (0, 0)) if adds else (0, 0)
            buckets[bucket] = before[0] + n, before[1] + total
            firsts[key] = min(firsts.get(key, first), first)
            if task is not None:
                exemplars.setdefault(key, {})[bucket] = str(task)
    assert found.keys() == expected.keys()
    for key, (counts, sums, first, shown) in found.items():
        buckets = expected[key]
        places = range(max(buckets) + 1)
        assert counts == tuple(buckets.get(place, (0, 0))[0] for place in places)
        assert sums == tuple(buckets.get(place, (0, 0))[1] for place in places)
        assert first == firsts[key]
        named = {place: e[0] for place, e in enumerate(shown) if e is not None}
        assert named == exemplars.get(key, {})
