"""How long what has ended is kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from typing_extensions import TypedDict

from ains.domain.types import QueryModel
from ains.errors import BusinessRule

__all__ = ["Ages", "CleanedUp", "CleanupQuery", "Kind"]

Kind = Literal["chains", "tasks", "deliveries", "facts"]
"""What is pruned, in this order: the tasks of a chain go after it."""

_FEWEST_DAYS: Final = 7
_MOST_DAYS: Final = 365


@dataclass(frozen=True, slots=True)
class Ages:
    """For how many days each kind is kept after it has ended; 0 is for ever."""

    chains: int = 0
    tasks: int = 0
    deliveries: int = 0
    facts: int = 0

    def limit(self, kind: Kind, now: datetime) -> datetime | None:
        """What ended before this time is pruned; None when nothing is."""
        days: int = getattr(self, kind)
        return now - timedelta(days=days) if days else None


class CleanupQuery(QueryModel):
    """What is to be deleted: everything that ended more than this number of days ago, 7 to 365."""

    days: int

    def ages(self) -> Ages:
        """Of chains, tasks and deliveries; raises `BusinessRule` beyond 7 to 365 days."""
        if not _FEWEST_DAYS <= self.days <= _MOST_DAYS:
            raise BusinessRule(
                f"days must be {_FEWEST_DAYS} to {_MOST_DAYS}, not {str(self.days)[:20]}."
            )
        return Ages(chains=self.days, tasks=self.days, deliveries=self.days)


class CleanedUp(TypedDict):
    """Answer of POST /ains/maintenance/cleanup."""

    deleted_tasks: int
    deleted_deliveries: int
