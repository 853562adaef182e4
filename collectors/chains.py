"""Chains: what happened to them and to their steps, from the chain ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from collectors.base import Built, DatabaseCollector, Family
from collectors.series import Families, histograms, scalars

if TYPE_CHECKING:
    from collectors.reader import Reader

__all__ = ["ChainCollector"]

_CHAINS: Final = Family(
    "ains_chains_total", "counter", "Chains that have entered this status", ("status",)
)
_STEPS: Final = Family(
    "ains_chain_steps_total", "counter", "Steps that have entered this status", ("step_status",)
)
_DURATION: Final = Family(
    "ains_chain_duration_seconds",
    "histogram",
    "Time from start to end, by final status",
    ("chain_status",),
    (10, 30, 60, 120, 300, 600, 1800, 3600),
)
_ACTIVE: Final = Family("ains_chains_active", "gauge", "Chains PENDING or RUNNING now")

_CHAIN_STATUSES: Final = tuple(
    (status, "") for status in ("PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED")
)
_STEP_STATUSES: Final = _CHAIN_STATUSES[1:]
_ENDS: Final = _CHAIN_STATUSES[2:]


class ChainCollector(DatabaseCollector[Families]):
    """The families of chains."""

    name = "chains"
    families = (_CHAINS, _STEPS, _DURATION, _ACTIVE)

    async def fetch(self, reader: Reader) -> Families:
        """Read the chain ledger."""
        return await reader.ledger("chain")

    def build(self, data: Families) -> Built:
        """Turn the ledger's series into the rows of each family."""
        return {
            _CHAINS.name: scalars(_CHAINS, data, _CHAIN_STATUSES),
            _STEPS.name: scalars(_STEPS, data, _STEP_STATUSES),
            _DURATION.name: histograms(_DURATION, data, _ENDS),
            _ACTIVE.name: scalars(_ACTIVE, data, [("", "")]),
        }
