"""What a scrape and the views show, against the series that the ledgers have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from math import isclose
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from collectors.base import Built, DatabaseCollector, Family, Histogram, Scalar
from collectors.notation import format_number
from collectors.verify.definition import FAMILIES
from collectors.verify.report import Difference, Key, Sum

if TYPE_CHECKING:
    from collectors.reader import Reader, Row

__all__ = ["Shown", "Value", "against_series", "against_views", "scraped"]

_COMPLETED: Final = "ains_tasks_completed_total"
_BY_AGENT: Final = "ains_agent_tasks_completed_total"
_EXISTS: Final = "SELECT to_regclass($1) IS NOT NULL"
_VIEW: Final = "SELECT {columns} FROM metrics.{name}"
# Scrapes show seconds as a float: sums above 2^52 µs, 140 years, don't come back from it exactly.
_FLOAT: Final = 2**-51


class Value(NamedTuple):
    """One series: its value, or the counts of its buckets (not cumulative) and their sum in µs."""

    counts: tuple[float, ...] = ()
    sum_us: int = 0


Shown = Mapping[str, Mapping[tuple[str, ...], Value]]
"""Values by family and labels."""


async def scraped(reader: Reader, collectors: Iterable[DatabaseCollector[Any]]) -> Shown:
    """What these collectors show of the reader's snapshot."""
    shown: dict[str, Mapping[tuple[str, ...], Value]] = {}
    for collector in collectors:
        built = collector.build(await collector.fetch(reader))
        shown |= {f.name: dict(_values(f, built)) for f in collector.families if f.name in built}
    return shown


def _values(family: Family, built: Built) -> Iterator[tuple[tuple[str, ...], Value]]:
    for portion in built[family.name]:
        for row in portion:
            if family.kind == "histogram":
                labels, counts, seconds, _, _ = cast("Histogram", row)
                yield labels, Value(tuple(counts), round(seconds * 1_000_000))
            else:
                labels, value, _ = cast("Scalar", row)
                yield labels, Value((value,))


def against_series(
    families: Mapping[str, Family], shown: Shown, series: Mapping[Key, Sum]
) -> Iterator[Difference]:
    """Yield where a scrape differs from ``metrics.series``."""
    expected: dict[str, dict[tuple[str, ...], Value]] = {}
    for (name, label_1, label_2, bucket), (n, sum_us) in series.items():
        if (family := families.get(name)) is not None:
            labels = (label_1, label_2)[: len(family.labels)]
            _add(expected.setdefault(name, {}), labels, bucket, n, sum_us)
        if name == _COMPLETED and label_2:
            _add(expected.setdefault(_BY_AGENT, {}), (label_2,), 0, n, 0)
    ledgers = {name for name, *_ in series}
    for name in sorted(ledgers - families.keys()):
        yield Difference("scrape", name, {}, "", "a family that AINS knows", "series of it")
    for name, values in sorted(expected.items()):
        yield from _compare("scrape", families[name], values, shown.get(name, {}))
    for name in sorted((FAMILIES | {_BY_AGENT}) & shown.keys() - expected.keys()):
        yield from _compare("scrape", families[name], {}, shown[name])


def _add(
    values: dict[tuple[str, ...], Value], labels: tuple[str, ...], bucket: int, n: int, sum_us: int
) -> None:
    old = values.get(labels, Value())
    counts = [*old.counts, *(0 for _ in range(bucket + 1 - len(old.counts)))]
    counts[bucket] += n
    values[labels] = Value(tuple(counts), old.sum_us + sum_us)


async def against_views(
    reader: Reader, families: Mapping[str, Family], shown: Shown
) -> list[Difference]:
    """Where the view of a family differs from a scrape of the same snapshot."""
    found: list[Difference] = []
    for name, family in families.items():
        [(exists,)] = await reader.fetch(_EXISTS, f"metrics.{name}")
        if exists:
            values = await _viewed(reader, family)
            found += _compare("view", family, shown.get(name, {}), values)
        else:
            found.append(Difference("view", name, {}, "", "a view of this name", "none"))
    return found


async def _viewed(reader: Reader, family: Family) -> dict[tuple[str, ...], Value]:
    width, values = len(family.labels), {}
    if family.kind != "histogram":
        for row in await _rows(reader, family, family.name, "value"):
            values[tuple(row[:width])] = Value((row[width],))
        return values
    les = [*(format_number(float(bound)) for bound in family.bounds), "+Inf"]
    buckets: dict[tuple[str, ...], dict[str, int]] = {}
    for row in await _rows(reader, family, family.name, "le", "value"):
        buckets.setdefault(tuple(row[:width]), {})[row[width]] = row[width + 1]
    for row in await _rows(reader, family, f"{family.name}_sum_count", "count", "sum_seconds"):
        labels = tuple(row[:width])
        cumulative = [0, *(buckets.get(labels, {}).get(le, 0) for le in les)]
        counts = tuple(after - before for before, after in pairwise(cumulative))
        if sum(counts) != row[width]:  # of the two views: shown as a difference in +Inf
            counts = (*counts[:-1], row[width] - sum(counts[:-1]))
        values[labels] = Value(counts, round(row[width + 1] * 1_000_000))
    return values


async def _rows(reader: Reader, family: Family, view: str, *columns: str) -> Sequence[Row]:
    return await reader.fetch(
        _VIEW.format(columns=", ".join((*family.labels, *columns)), name=view)
    )


def _compare(
    check: str,
    family: Family,
    expected: Mapping[tuple[str, ...], Value],
    found: Mapping[tuple[str, ...], Value],
) -> Iterator[Difference]:
    les = [*(format_number(float(bound)) for bound in family.bounds), "+Inf"]
    nothing = Value()
    for values in sorted({*expected, *found}):
        one, other = expected.get(values, nothing), found.get(values, nothing)
        if one == other:
            continue
        labels = dict(zip(family.labels, values, strict=False))
        for place in range(max(len(one.counts), len(other.counts))):
            before, after = (v.counts[place] if place < len(v.counts) else 0 for v in (one, other))
            if before != after:
                le = les[place] if place < len(les) else "unknown"
                part = f'count of le="{le}"' if family.bounds else ""
                yield Difference(check, family.name, labels, part, f"{before}", f"{after}")
        if not isclose(one.sum_us, other.sum_us, rel_tol=_FLOAT):
            yield Difference(
                check, family.name, labels, "sum_us", str(one.sum_us), str(other.sum_us)
            )
