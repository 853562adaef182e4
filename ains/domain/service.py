"""How the process itself is doing: what its parts tell each other and /health shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from typing_extensions import TypedDict

__all__ = [
    "NAME",
    "Detail",
    "Health",
    "Overview",
    "ServiceState",
    "Status",
    "WorkerReport",
]

NAME: Final = "AINS"


class WorkerReport(TypedDict):
    """One worker of this process. ``failures`` counts failed rounds since the last good one."""

    name: str
    rounds: int
    failures: int
    last_round_at: str | None
    error: str | None


class AgentCounts(TypedDict):
    """Agents by status; ``active`` are those AVAILABLE or BUSY with a recent heartbeat."""

    registered: int
    available: int
    busy: int
    inactive: int
    suspended: int
    active: int


class TaskCounts(TypedDict):
    """Tasks by state now, and how many have ended since the beginning."""

    pending: int
    blocked: int
    assigned: int
    active: int
    completed_total: int
    failed_total: int
    cancelled_total: int
    oldest_pending_seconds: float | None


class WebhookCounts(TypedDict):
    """Deliveries that wait for an attempt."""

    deliveries_pending: int


class LedgerState(TypedDict):
    """Facts that wait for the next fold, and when the last one was."""

    open_events: int
    folded_seconds_ago: float


class Overview(TypedDict):
    """What the database knows."""

    agents: AgentCounts
    tasks: TaskCounts
    webhooks: WebhookCounts
    ledger: LedgerState


class DatabaseDetail(TypedDict):
    """The database as this process sees it; connections are those of its pool."""

    reachable: bool
    error: str | None
    connections_active: int
    connections_idle: int
    connections_max: int


class DispatcherDetail(TypedDict):
    """``notifications``: off, connecting, listening, or polling (behind a connection pooler)."""

    notifications: str
    workers: list[WorkerReport]


class Detail(TypedDict):
    """Everything that /health/detail shows; what only the database knows is null without it."""

    status: Literal["healthy", "degraded", "unavailable", "starting", "stopping"]
    service: str
    version: str
    database: DatabaseDetail
    dispatcher: DispatcherDetail
    agents: AgentCounts | None
    tasks: TaskCounts | None
    webhooks: WebhookCounts | None
    ledger: LedgerState | None


class Health(TypedDict):
    """The process answers."""

    status: Literal["healthy"]
    service: str
    version: str


class Status(TypedDict):
    """The answer to a probe."""

    status: Literal["alive", "ready", "started"]


def _no_workers() -> list[WorkerReport]:
    return []


def _nothing() -> None:
    return


def _off() -> str:
    return "off"


@dataclass
class ServiceState:
    """Where the process stands between its start and its end."""

    started: bool = False
    """The database was reached, has the right tables, and the workers run."""
    stopping: bool = False
    """A signal asked it to end; it finishes what it has begun."""
    on_started: Callable[[], None] = _nothing
    """Called when ``started`` becomes true."""
    waiting_for: str | None = "The database has not been reached yet."
    """What keeps it from being started; of use to people, and no secret."""
    fatal: str | None = None
    """Why it can never start: the database belongs to a newer AINS, for example."""
    on_fatal: Callable[[], None] = _nothing
    """Called when ``fatal`` is set."""
    workers: Callable[[], list[WorkerReport]] = _no_workers
    notifications: Callable[[], str] = _off
    """How it hears of work in other processes, see `DispatcherDetail`."""
