"""From what was measured to a table, and into RESULTS.md."""

import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.support.load import Report

__all__ = ["DATA", "Measured", "conditions", "save", "table"]

_HERE: Final = Path(__file__).resolve().parents[1]
_RESULTS: Final = _HERE / "RESULTS.md"
DATA: Final = _HERE / "results"
"""Where numbers are kept for drawing."""


@dataclass
class Measured:
    """All rounds of one scenario, one item of each list for each round.

    ``cpu`` and ``database_cpu`` are processor seconds, ``others`` is the share of the machine that
    programs took which have nothing to do with it.
    """

    reports: list[Report] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    database_cpu: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)

    def rates(self, per_unit: float = 1.0) -> list[float]:
        """Units per second of each round; a unit counts ``per_unit``."""
        return [r["units"] * per_unit / r["seconds"] for r in self.reports]

    def rate(self, per_unit: float = 1.0) -> float:
        """Median of the rounds' units per second."""
        return median(self.rates(per_unit))

    def p50(self) -> float:
        """Median of the rounds' medians of latency, in milliseconds."""
        return 1000 * median(r["p50"] for r in self.reports)

    def p99(self) -> float:
        """Median of the rounds' 99th percentiles of latency, in milliseconds."""
        return 1000 * median(r["p99"] for r in self.reports)

    def worst(self) -> float:
        """The longest latency of all, in milliseconds."""
        return 1000 * max(r["worst"] for r in self.reports)

    def tail(self) -> float:
        """Median of the rounds' ratios of the 99th percentile to the median."""
        return median(r["p99"] / r["p50"] if r["p50"] else 0.0 for r in self.reports)

    def cost(self) -> float:
        """Median processor time of the server for each request, in microseconds."""
        return self._each(self.cpu)

    def database_cost(self) -> float:
        """Median processor time of PostgreSQL for each request, in microseconds."""
        return self._each(self.database_cpu)

    def _each(self, seconds: list[float]) -> float:
        pairs = zip(seconds, self.reports, strict=True)
        return median(1e6 * s / max(1, r["requests"]) for s, r in pairs)

    def ratio(self, other: "Measured") -> float:
        """Median over the rounds of this rate by the other's of the same round."""
        return median(a / b for a, b in zip(self.rates(), other.rates(), strict=True))

    def bad(self) -> dict[str, int]:
        """Answers that were no success, by status."""
        found: dict[str, int] = {}
        for report in self.reports:
            for status, count in report["bad"].items():
                found[status] = found.get(status, 0) + count
        return found


def table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table that is also readable as text; the first row is its head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        left, *rest = (
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(cells, widths, strict=True))
        )
        return "| " + " | ".join([left, *rest]) + " |"

    rule = (
        "|"
        + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths))
        + "|"
    )
    return "\n".join([line(rows[0]), rule, *map(line, rows[1:])])


def conditions(database: str) -> str:
    """One sentence on what was measured with, and where."""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("aiohttp", "asyncpg", "uvloop"))
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores ({platform.machine()}), "
        f"Python {platform.python_version()}, {libraries}, {database}; server, PostgreSQL and "
        "load generator share the cores."
    )


def save(name: str, text: str) -> None:
    """Put ``text`` into RESULTS.md in place of the section of this name, or at the end."""
    old = _RESULTS.read_text() if _RESULTS.exists() else "# Results\n"
    section = f"## {name}\n\n{text.strip()}\n"
    pattern = re.compile(rf"^## {re.escape(name)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    if pattern.search(old):
        new = pattern.sub(lambda _: section + "\n", old)
    else:
        new = f"{old.rstrip()}\n\n{section}"
    _RESULTS.write_text(new.rstrip() + "\n")
