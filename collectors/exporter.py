"""The families that tell about the exporter itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from prometheus_client import Metric
from prometheus_client.registry import Collector

from collectors.base import Family, RowMetric, Scalar

if TYPE_CHECKING:
    from collectors.ledger import LedgerState

__all__ = ["InfoCollector", "metrics"]

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
INFO: Final = Family(
    "ains_application_info",
    "info",
    "What is running",
    ("version", "environment", "name"),
)


def metrics(
    up: bool,
    outcomes: Sequence[tuple[str, bool, float]],
    ledger: LedgerState | None,
    *,
    every: bool = False,
) -> Iterator[Metric]:
    """Yield the families of one scrape.

    Args:
        up: whether the database answered.
        outcomes: name, success and seconds of each collector.
        ledger: what the snapshot said of the ledgers; without it their families are absent.
        every: yield all families, also those without a sample.
    """
    yield RowMetric(UP, [Scalar((), int(up))])
    yield RowMetric(SUCCESS, [Scalar((name,), int(success)) for name, success, _ in outcomes])
    yield RowMetric(DURATION, [Scalar((name,), seconds) for name, _, seconds in outcomes])
    if ledger is not None:
        yield RowMetric(OPEN_EVENTS, [Scalar((), ledger.open_events)])
        yield RowMetric(FOLDED, [Scalar((), ledger.folded_at.timestamp())])
    elif every:
        yield RowMetric(OPEN_EVENTS)
        yield RowMetric(FOLDED)


class InfoCollector(Collector):
    """``ains_application_info``."""

    def __init__(self, version: str, environment: str, name: str = "ains") -> None:
        """Show these three labels."""
        self._metric = RowMetric(INFO, [Scalar((version, environment, name), 1)])

    def describe(self) -> Iterable[Metric]:
        """Yield the family."""
        return [self._metric]

    def collect(self) -> Iterable[Metric]:
        """Yield the family."""
        return [self._metric]
