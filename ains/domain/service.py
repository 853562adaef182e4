"""How the process itself is doing: what its parts tell each other and /health shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypedDict

__all__ = ["NAME", "ServiceState", "WorkerReport"]

NAME: Final = "AINS"


class WorkerReport(TypedDict):
    """One worker of this process. ``failures`` counts failed rounds since the last good one."""

    name: str
    rounds: int
    failures: int
    last_round_at: str | None
    error: str | None


def _no_workers() -> list[WorkerReport]:
    return []


@dataclass
class ServiceState:
    """Where the process stands between its start and its end."""

    started: bool = False
    """The database was reached, has the right tables, and the workers run."""
    stopping: bool = False
    """A signal asked it to end; it finishes what it has begun."""
    waiting_for: str | None = "the database"
    """What keeps it from being started, for people."""
    workers: Callable[[], list[WorkerReport]] = _no_workers
    notifications: Callable[[], str] = lambda: "off"
    """How it hears of work in other processes: off, connecting, listening or polling."""
