"""Agents: registration, heartbeats, what they can do, and finding them."""

from typing import Final

from aiohttp import web

from ains.db import agents
from ains.domain.agents import (
    Acknowledged,
    AgentList,
    AgentQuery,
    AgentResponse,
    Capability,
    Heartbeat,
    PublishCapability,
    Published,
    RegisterAgent,
    SearchQuery,
    SearchResults,
    check_signature,
    plain,
)
from ains.domain.ids import uuid7
from ains.errors import BusinessRule, Conflict
from ains.http.handler import Routes
from ains.http.keys import DB, SETTINGS, WAKE

routes: Final = Routes(tag="Agents")


@routes.post("/ains/agents", errors=(BusinessRule, Conflict))
async def register(request: web.Request, body: RegisterAgent) -> AgentResponse:
    """Register an agent.

    It is given work once it has sent a heartbeat. `verified` tells whether the signature is a valid
    Ed25519 signature of agent_id followed by endpoint under public_key; servers with
    AINS_REQUIRE_SIGNED_AGENTS accept no other.
    """
    verified = check_signature(body, required=request.app[SETTINGS].require_signed_agents)
    return await agents.register(request.app[DB], body, verified=verified)


@routes.get("/ains/agents")
async def list_agents(request: web.Request, query: AgentQuery) -> AgentList:
    """List agents, newest first."""
    return await agents.list_agents(request.app[DB], query)


@routes.get("/ains/agents/{agent_id}")
async def show(request: web.Request, agent_id: str) -> AgentResponse:
    """Show an agent."""
    return await agents.show(request.app[DB], agent_id)


@routes.post("/ains/agents/{agent_id}/capabilities")
async def publish(request: web.Request, agent_id: str, body: PublishCapability) -> Published:
    """Publish a capability.

    Publishing a name again, in whatever case, replaces it and keeps its id.
    """
    capability_id = await agents.publish(request.app[DB], uuid7(), agent_id, body)
    request.app[WAKE]()
    return {"capability_id": capability_id, "status": "published"}


@routes.get("/ains/agents/{agent_id}/capabilities")
async def capabilities(request: web.Request, agent_id: str) -> list[Capability]:
    """List an agent's capabilities."""
    return await agents.capabilities(request.app[DB], agent_id)


@routes.post("/ains/agents/{agent_id}/heartbeat")
async def heartbeat(request: web.Request, agent_id: str, body: Heartbeat) -> Acknowledged:
    """Send a heartbeat.

    ACTIVE makes the agent AVAILABLE, DEGRADED makes it BUSY (it finishes its work and gets no
    more), OFFLINE makes it INACTIVE. A suspended agent stays suspended.
    """
    settings = request.app[SETTINGS]
    beat = await agents.heartbeat(request.app[DB], agent_id, body, settings.agent_ttl)
    if beat.came_back:
        request.app[WAKE]()
    return {
        "acknowledged": True,
        "next_heartbeat_in": plain(settings.heartbeat_interval),
        "agent_health_status": body.status,
        "agent_status": beat.status,
        "last_heartbeat": beat.last_heartbeat,
    }


@routes.get("/ains/search")
async def search(request: web.Request, query: SearchQuery) -> SearchResults:
    """Search for agents.

    Sorted by trust, highest first, or by the price or latency of what matches, lowest first.
    """
    return await agents.search(request.app[DB], query)
