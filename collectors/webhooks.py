"""Webhooks: deliveries and the HTTP attempts they took, from the webhook ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from collectors.base import Built, DatabaseCollector, Family
from collectors.series import Families, histograms, scalars

if TYPE_CHECKING:
    from collectors.reader import Reader

__all__ = ["WebhookCollector"]

_DELIVERIES: Final = Family(
    "ains_webhook_deliveries_total",
    "counter",
    "Deliveries that reached their end",
    ("event_type", "status"),
)
_DURATION: Final = Family(
    "ains_webhook_delivery_duration_seconds",
    "histogram",
    "Time of each HTTP attempt, from the request to the response or error",
    ("event_type",),
    (0.1, 0.5, 1, 2, 5, 10),
)
_ATTEMPTS: Final = Family(
    "ains_webhook_attempts_total", "counter", "HTTP attempts", ("event_type", "outcome")
)
_PENDING: Final = Family(
    "ains_webhook_deliveries_pending", "gauge", "Deliveries waiting for an attempt now"
)


class WebhookCollector(DatabaseCollector[Families]):
    """The families of webhooks."""

    name = "webhooks"
    families = (_DELIVERIES, _DURATION, _ATTEMPTS, _PENDING)

    async def fetch(self, reader: Reader) -> Families:
        """Read the webhook ledger."""
        return await reader.ledger("webhook")

    def build(self, data: Families) -> Built:
        """Turn the ledger's series into the rows of each family."""
        return {
            _DELIVERIES.name: scalars(_DELIVERIES, data),
            _DURATION.name: histograms(_DURATION, data),
            _ATTEMPTS.name: scalars(_ATTEMPTS, data),
            _PENDING.name: scalars(_PENDING, data, [("", "")]),
        }
