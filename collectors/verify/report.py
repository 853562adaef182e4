"""What a verification found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, NamedTuple

from collectors.base import Family
from collectors.notation import format_number
from collectors.series import MOST_US

__all__ = [
    "CHECKS",
    "NOTHING",
    "Difference",
    "Key",
    "Report",
    "Sum",
    "Sums",
    "add",
    "compare",
    "labels_of",
]

CHECKS: Final[Mapping[str, str]] = {
    "unique": "each fact is in the ledger once, and open or closed, not both",
    "ledger": "totals = pruned + what the closed facts add",
    "definition": "the contribution functions count what the contract says",
    "series": "metrics.series = totals + what the open facts add",
    "scrape": "a scrape shows metrics.series",
    "view": "the family's view shows what the scrape does",
    "state": "gauges are the number of rows that there are, counters not below it",
    "invariant": "the sums of the contract agree with each other",
}
"""What is checked, in the order in which numbers come about."""

Key = tuple[str, str, str, int]
"""Family, label_1, label_2, bucket; as in ``metrics.totals``."""


class Sum(NamedTuple):
    """The value of one bucket: a count, and microseconds."""

    n: int = 0
    sum_us: int = 0


Sums = Mapping[Key, Sum]
NOTHING: Final = Sum()


class Difference(NamedTuple):
    """One number that isn't what it has to be."""

    check: str
    family: str
    labels: Mapping[str, str]
    part: str
    """What of the series: ``count`` or ``sum_us`` of a histogram's bucket ``le``; else empty."""
    expected: str
    found: str

    @property
    def series(self) -> str:
        """The series as PromQL writes it."""
        labels = ",".join(f"{name}={_quoted(value)}" for name, value in self.labels.items())
        return f"{self.family}{{{labels}}}" if labels else self.family


def _quoted(value: str) -> str:
    escaped = value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return f'"{escaped}"'


@dataclass(slots=True)
class Report:
    """What was verified, and what is wrong."""

    differences: list[Difference] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    """What could not be looked at, and why."""
    facts: int = 0
    open_facts: int = 0
    series: int = 0
    standby: bool = False
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self) | {
            "clean": not self.differences,
            "differences": [d._asdict() | {"labels": dict(d.labels)} for d in self.differences],
        }


def add(sums: dict[Key, Sum], key: Key, n: int, sum_us: int = 0) -> None:
    """Add to one bucket."""
    old = sums.get(key, NOTHING)
    sums[key] = Sum(old.n + n, min(old.sum_us + sum_us, MOST_US))


def compare(
    check: str, families: Mapping[str, Family], expected: Sums, found: Sums
) -> Iterator[Difference]:
    """Yield where the two differ; what isn't there is zero."""
    for key in sorted({k for k in (*expected, *found) if _differ(expected, found, k)}):
        name, *_, bucket = key
        family = families.get(name)
        labels = labels_of(family, key)
        le = _le(family, bucket)
        for part in Sum._fields:
            one, other = (getattr(side.get(key, NOTHING), part) for side in (expected, found))
            if one != other:
                which = f"{'count' if part == 'n' else part} of {le}" if le else ""
                yield Difference(check, name, labels, which, str(one), str(other))


def labels_of(family: Family | None, key: Key) -> dict[str, str]:
    """The labels of a series by their names."""
    named = family.labels if family else ("label_1", "label_2")
    return dict(zip(named, key[1:3], strict=False))


def _differ(expected: Sums, found: Sums, key: Key) -> bool:
    return expected.get(key, NOTHING) != found.get(key, NOTHING)


def _le(family: Family | None, bucket: int) -> str:
    if family is None or not family.bounds:
        return f"bucket {bucket}" if bucket else ""
    bounds: Iterable[float] = family.bounds
    les = [*(format_number(float(bound)) for bound in bounds), "+Inf"]
    return f'le="{les[bucket]}"' if bucket < len(les) else f"bucket {bucket}, which nobody knows"
