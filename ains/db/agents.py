"""What is done with agents; the SQL is in ``queries/agents.sql``."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from ains.db.sql import load
from ains.domain.agents import (
    STATUS_OF_HEALTH,
    AgentItem,
    AgentList,
    AgentQuery,
    AgentResponse,
    AgentStatus,
    Capability,
    Heartbeat,
    PublishCapability,
    RegisterAgent,
    SearchQuery,
    SearchResult,
    SearchResults,
    plain,
)
from ains.domain.trust import rounded
from ains.errors import Conflict, NotFound, quote

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

    from ains.db.statements import Statements

__all__ = [
    "Beat",
    "capabilities",
    "heartbeat",
    "list_agents",
    "publish",
    "register",
    "search",
    "show",
]

_Q: Final = load("agents")


class Beat(NamedTuple):
    """What a heartbeat made of its agent; ``came_back`` when it may be given work again."""

    status: AgentStatus
    last_heartbeat: datetime
    came_back: bool


async def register(db: Statements, agent: RegisterAgent, *, verified: bool) -> AgentResponse:
    """Add an agent.

    Raises:
        Conflict: the agent_id is taken.
    """
    row = await db.fetchrow(
        _Q["register"],
        agent.agent_id,
        agent.display_name,
        agent.description,
        agent.endpoint,
        agent.public_key,
        agent.signature,
        verified,
        agent.tags or [],
    )
    if row is None:
        raise Conflict(f"An agent {quote(agent.agent_id)} is already registered.")
    return _agent(row)


async def show(db: Statements, agent_id: str) -> AgentResponse:
    """One agent; raises `NotFound`."""
    row = await db.fetchrow(_Q["show"], agent_id)
    if row is None:
        raise NotFound.of("agent", agent_id)
    return _agent(row)


async def list_agents(db: Statements, query: AgentQuery) -> AgentList:
    """A page of agents, newest first."""
    rows = await db.fetch(_Q["list"], query.status, query.limit, query.offset)
    agents: list[AgentItem] = [
        {
            "agent_id": row["agent_id"],
            "display_name": row["display_name"],
            "status": row["status"],
            "trust_score": rounded(row["trust_score"]),
        }
        for row in rows
        if row["agent_id"] is not None
    ]
    return {
        "agents": agents,
        "total": rows[0]["total"],
        "limit": query.limit,
        "offset": query.offset,
    }


async def heartbeat(db: Statements, agent_id: str, beat: Heartbeat, ttl: float) -> Beat:
    """Note that an agent is there, and how it is; a suspended one stays suspended.

    ``ttl`` is the age in seconds at which a heartbeat no longer counts. Raises `NotFound`.
    """
    row = await db.fetchrow(
        _Q["heartbeat"],
        agent_id,
        STATUS_OF_HEALTH[beat.status],
        beat.timestamp,
        beat.uptime_ms,
        beat.metrics,
        timedelta(seconds=ttl),
    )
    if row is None:
        raise NotFound.of("agent", agent_id)
    return Beat(row["status"], row["last_heartbeat"], row["came_back"])


async def publish(
    db: Statements, capability_id: UUID, agent_id: str, offer: PublishCapability
) -> UUID:
    """Publish a capability, or replace the one of that name; returns its id.

    That is ``capability_id``, or the one it was first published with. Raises `NotFound`.
    """
    found: UUID | None = await db.fetchval(
        _Q["publish"],
        capability_id,
        agent_id,
        offer.name,
        offer.description,
        offer.input_schema,
        offer.output_schema,
        offer.pricing_model,
        offer.price,
        offer.latency_p99_ms,
        offer.availability_percent,
        offer.signature,
    )
    if found is None:
        raise NotFound.of("agent", agent_id)
    return found


async def capabilities(db: Statements, agent_id: str) -> list[Capability]:
    """What an agent has published, first published first; raises `NotFound`."""
    rows = await db.fetch(_Q["capabilities"], agent_id)
    if not rows:
        raise NotFound.of("agent", agent_id)
    return [
        {
            "capability_id": row["capability_id"],
            "name": row["name"],
            "description": row["description"],
            "pricing_model": row["pricing_model"],
            "price": row["price"],
            "availability_percent": row["availability_percent"],
            "latency_p99_ms": plain(row["latency_p99_ms"]),
        }
        for row in rows
        if row["capability_id"] is not None
    ]


async def search(db: Statements, query: SearchQuery) -> SearchResults:
    """A page of the agents for which every condition of ``query`` holds."""
    rows = await db.fetch(
        _Q["search"],
        query.capability or None,
        query.tag_list(),
        query.min_trust,
        query.sort_by,
        query.limit,
        query.offset,
    )
    results: list[SearchResult] = [
        {
            "agent_id": row["agent_id"],
            "display_name": row["display_name"],
            "trust_score": rounded(row["trust_score"]),
            "capabilities": row["capabilities"],
        }
        for row in rows
        if row["agent_id"] is not None
    ]
    return {
        "results": results,
        "total": rows[0]["total"],
        "limit": query.limit,
        "offset": query.offset,
    }


def _agent(row: asyncpg.Record) -> AgentResponse:
    agent = cast("AgentResponse", dict(row))
    agent["trust_score"] = rounded(agent["trust_score"])
    return agent
