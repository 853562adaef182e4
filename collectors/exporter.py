"""The families that tell about the exporter itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from prometheus_client import Metric
from prometheus_client.registry import Collector

from collectors.base import Family, Portions, Scalar
from collectors.rowmetric import RowMetric

if TYPE_CHECKING:
    from collectors.ledger import LedgerState

__all__ = ["FAMILIES", "InfoCollector", "Outcome", "metrics"]

UP: Final = Family("ains_up", "gauge", "1 when the database answered this scrape, else 0")
SUCCESS: Final = Family(
    "ains_scrape_collector_success",
    "gauge",
    "1 when the collector succeeded, else 0",
    ("collector",),
)
DURATION: Final = Family(
    "ains_scrape_collector_duration_seconds",
    "gauge",
    "Time the collector took in this scrape",
    ("collector",),
)
OPEN_EVENTS: Final = Family(
    "ains_scrape_ledger_open_events",
    "gauge",
    "Facts that this scrape added on top of the totals",
)
FOLDED: Final = Family(
    "ains_scrape_ledger_folded_timestamp_seconds",
    "gauge",
    "When the totals were last folded, or found up to date",
)
LAG: Final = Family(
    "ains_scrape_database_replication_lag_seconds",
    "gauge",
    "Age of the last transaction that the scraped replica replayed; 0 when it has replayed all, "
    "and on a primary",
)
MERGED: Final = Family(
    "ains_scrape_merged_label_values",
    "gauge",
    "Values of a label that count under other, since it has reached its limit",
    ("label",),
)
INFO: Final = Family(
    "ains_application_info",
    "info",
    "What is running",
    ("version", "environment", "name"),
)


@dataclass(slots=True)
class Outcome:
    """What became of one collector."""

    name: str
    seconds: float = 0.0
    error: Exception | None = None


FAMILIES: Final = (UP, SUCCESS, DURATION, OPEN_EVENTS, FOLDED, LAG, MERGED)
"""What `metrics` yields."""


def metrics(
    up: bool,
    outcomes: Sequence[Outcome],
    ledger: LedgerState | None,
) -> Iterator[Metric]:
    """Yield the families of one scrape.

    Args:
        up: whether the database answered.
        outcomes: what became of the collectors, looked at when the metrics are rendered: by then
            those before them have been.
        ledger: what the snapshot said of the ledgers; without it their families are absent.
    """
    yield RowMetric(UP, [[((), int(up), None)]])
    yield RowMetric(SUCCESS, Portions(_successes, outcomes))
    yield RowMetric(DURATION, [[((o.name,), o.seconds, None) for o in outcomes]])
    if ledger is not None:
        yield RowMetric(OPEN_EVENTS, [[((), ledger.open_events, None)]])
        yield RowMetric(FOLDED, [[((), ledger.folded_at.timestamp(), None)]])
        if ledger.replication_lag is not None:
            yield RowMetric(LAG, [[((), ledger.replication_lag, None)]])
        yield RowMetric(MERGED, [[((label,), n, None) for label, n in ledger.merged]])


def _successes(outcomes: Sequence[Outcome]) -> Iterator[list[Scalar]]:
    yield [((o.name,), int(o.error is None), None) for o in outcomes]


class InfoCollector(Collector):
    """``ains_application_info``."""

    def __init__(self, version: str, environment: str, name: str = "ains") -> None:
        """Show these three labels."""
        self._metric = RowMetric(INFO, [[((version, environment, name), 1, None)]])

    def describe(self) -> Iterable[Metric]:
        """Yield the family."""
        return [self._metric]

    def collect(self) -> Iterable[Metric]:
        """Yield the family."""
        return [self._metric]
