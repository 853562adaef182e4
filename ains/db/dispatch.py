"""Gives runnable tasks to agents. Any number of replicas may do it at once."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

from ains.db.sql import load
from ains.db.statements import Statements
from ains.domain.task_views import SelectedAgent
from ains.domain.tasks import RoutingStrategy

_Q = load("dispatch")


class Assigned(NamedTuple):
    """What one call of :func:`assign` did.

    ``claimed`` less than the batch means that this capability has no further runnable tasks;
    ``assigned`` less than ``claimed`` that no agent was free for some of them.
    """

    claimed: int
    assigned: int


async def work(db: Statements) -> list[str]:
    """Capabilities, lower case, with both a runnable task and an agent that is AVAILABLE."""
    return [row["capability"] for row in await db.fetch(_Q["work"])]


async def assign(db: Statements, capability: str, batch: int, agent_ttl: timedelta) -> Assigned:
    """Assign up to ``batch`` runnable tasks of one capability, in one statement.

    They are taken in the order of priority, then age, and each is routed by its own strategy.
    Agents whose last heartbeat is older than ``agent_ttl`` get nothing. What nobody can take stays
    PENDING.
    """
    row = await db.fetchrow(_Q["assign"], capability, batch, agent_ttl)
    return Assigned(0, 0) if row is None else Assigned(row["claimed"], row["assigned"])


async def preview(
    db: Statements, capability: str, strategy: RoutingStrategy, agent_ttl: timedelta
) -> SelectedAgent | None:
    """The agent that would get such a task now; changes nothing."""
    row = await db.fetchrow(_Q["preview"], capability, strategy, agent_ttl)
    if row is None:
        return None
    return {
        "agent_id": row["agent_id"],
        "display_name": row["display_name"],
        "trust_score": row["trust_score"],
        "total_tasks": row["total_tasks"],
    }
