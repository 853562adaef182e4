"""Calls about agents: identity, capabilities, liveness, trust."""

from collections.abc import AsyncIterator, Iterable, Mapping
from time import time
from typing import Any, Final, TypedDict, Unpack
from urllib.parse import quote

from pydantic import TypeAdapter

from ains.client.identity import Identity
from ains.client.models import (
    Agent,
    AgentStatus,
    AgentSummary,
    AgentTrust,
    Capability,
    HeartbeatAnswer,
    Leader,
    Leaderboard,
    Page,
    Published,
    SearchHit,
    TrustAdjusted,
    TrustRecord,
)
from ains.client.transport import Transport

__all__ = ["AgentDetails", "AgentsApi", "CapabilityDetails"]

_AGENT: Final = TypeAdapter(Agent)
_PUBLISHED: Final = TypeAdapter(Published)
_CAPABILITIES: Final = TypeAdapter(tuple[Capability, ...])
_HEARTBEAT: Final = TypeAdapter(HeartbeatAnswer)
_TRUST: Final = TypeAdapter(AgentTrust)
_HISTORY: Final = TypeAdapter(tuple[TrustRecord, ...])
_ADJUSTED: Final = TypeAdapter(TrustAdjusted)
_AGENT_PAGE: Final = TypeAdapter(Page[AgentSummary])
_SEARCH_PAGE: Final = TypeAdapter(Page[SearchHit])
_BOARD: Final = TypeAdapter(Leaderboard)


DEFAULT_ENDPOINT: Final = "http://localhost"


class AgentDetails(TypedDict, total=False):
    """What an agent may say of itself when it registers.

    ``display_name`` is its id unless given; it is capable of whatever it carries as a tag; the
    registration is signed with ``identity``, a new one unless given.
    """

    display_name: str
    description: str
    endpoint: str
    tags: Iterable[str]
    identity: Identity


class CapabilityDetails(TypedDict, total=False):
    """What an agent may say of a capability; the schemas are JSON Schema."""

    description: str
    input_schema: Mapping[str, Any]
    output_schema: Mapping[str, Any]
    pricing_model: str
    price: float
    latency_p99_ms: float
    availability_percent: float


class AgentsApi:
    """``ains.agents``: the calls below ``/ains/agents``."""

    def __init__(self, transport: Transport) -> None:
        self._http = transport

    async def register(self, agent_id: str, **details: Unpack[AgentDetails]) -> Agent:
        """Register an agent; raises `Conflict` when the id is known already."""
        identity = details.get("identity") or Identity.generate()
        endpoint = details.get("endpoint", DEFAULT_ENDPOINT)
        body = {
            "agent_id": agent_id,
            "public_key": identity.public_key,
            "display_name": details.get("display_name", agent_id),
            "description": details.get("description"),
            "endpoint": endpoint,
            "signature": identity.sign(agent_id + endpoint),
            "tags": list(details.get("tags", ())),
        }
        return await self._http.request("POST", "/ains/agents", _AGENT, body=body)

    async def get(self, agent_id: str) -> Agent:
        """Return one agent; raises `NotFound`."""
        return await self._http.request("GET", _path(agent_id), _AGENT)

    async def list(
        self, *, status: AgentStatus | None = None, limit: int = 10, offset: int = 0
    ) -> Page[AgentSummary]:
        """Return one page of agents; ``limit`` is 1 to 1000."""
        query = {"status": status, "limit": limit, "offset": offset}
        return await self._http.request("GET", "/ains/agents", _AGENT_PAGE, query=query)

    async def iterate(
        self, *, status: AgentStatus | None = None, page_size: int = 1000
    ) -> AsyncIterator[AgentSummary]:
        """Yield every agent, page by page; one that moves between pages may be missed."""
        offset = 0
        while True:
            page = await self.list(status=status, limit=page_size, offset=offset)
            for agent in page.items:
                yield agent
            offset += len(page.items)
            if not page.items or offset >= page.total:
                return

    async def publish_capability(
        self,
        agent_id: str,
        name: str,
        *,
        identity: Identity | None = None,
        **details: Unpack[CapabilityDetails],
    ) -> Published:
        """Say that an agent can do ``name``; publishing a name again replaces it."""
        body = {
            "name": name,
            "description": name,
            "input_schema": {},
            "output_schema": {},
            "pricing_model": "free",
            "price": 0.0,
            "latency_p99_ms": 1000.0,
            "availability_percent": 99.0,
            "signature": (identity or Identity.generate()).sign(agent_id + name),
            **details,
        }
        return await self._http.request(
            "POST", f"{_path(agent_id)}/capabilities", _PUBLISHED, body=body, idempotent=True
        )

    async def capabilities(self, agent_id: str) -> tuple[Capability, ...]:
        """Return what an agent has published."""
        path = f"{_path(agent_id)}/capabilities"
        return await self._http.request("GET", path, _CAPABILITIES)

    async def heartbeat(
        self,
        agent_id: str,
        status: str = "ACTIVE",
        *,
        uptime_ms: int = 0,
        metrics: Mapping[str, Any] | None = None,
        timestamp: int | None = None,
    ) -> HeartbeatAnswer:
        """Say that an agent lives.

        ``status`` is ACTIVE (gets work), DEGRADED (finishes what it has, gets none) or OFFLINE.
        ``timestamp`` is in Unix milliseconds, now when None.
        """
        body: dict[str, Any] = {
            "timestamp": round(time() * 1000) if timestamp is None else timestamp,
            "status": status,
            "uptime_ms": uptime_ms,
        }
        if metrics is not None:
            body["metrics"] = dict(metrics)
        return await self._http.request(
            "POST", f"{_path(agent_id)}/heartbeat", _HEARTBEAT, body=body, idempotent=True
        )

    async def search(
        self,
        *,
        capability: str | None = None,
        tags: Iterable[str] = (),
        min_trust: float | None = None,
        sort_by: str | None = None,
        limit: int = 10,
        offset: int = 0,
    ) -> Page[SearchHit]:
        """Search agents.

        ``capability`` is a part of a name; ``sort_by`` is trust_score, price or latency.
        """
        query = {
            "capability": capability,
            "tags": list(tags) or None,
            "min_trust": min_trust,
            "sort_by": sort_by,
            "limit": limit,
            "offset": offset,
        }
        return await self._http.request("GET", "/ains/search", _SEARCH_PAGE, query=query)

    async def leaderboard(self, *, limit: int = 10, min_tasks: int = 0) -> tuple[Leader, ...]:
        """Return the most trusted agents that ended at least ``min_tasks`` tasks."""
        query = {"limit": limit, "min_tasks": min_tasks}
        board = await self._http.request("GET", "/ains/agents/leaderboard", _BOARD, query=query)
        return board.leaderboard

    async def trust(self, agent_id: str) -> AgentTrust:
        """Return how far an agent is trusted."""
        return await self._http.request("GET", f"{_path(agent_id)}/trust", _TRUST)

    async def trust_history(self, agent_id: str, *, limit: int = 50) -> tuple[TrustRecord, ...]:
        """Return the latest changes of an agent's trust, newest first."""
        path = f"{_path(agent_id)}/trust/history"
        return await self._http.request("GET", path, _HISTORY, query={"limit": limit})

    async def adjust_trust(self, agent_id: str, trust_delta: float, reason: str) -> TrustAdjusted:
        """Change an agent's trust by hand, by −1 to 1; the result stays within 0 to 1."""
        body = {"trust_delta": trust_delta, "reason": reason}
        return await self._http.request(
            "POST", f"{_path(agent_id)}/trust/adjust", _ADJUSTED, body=body
        )


def _path(agent_id: str) -> str:
    return f"/ains/agents/{quote(agent_id, safe='')}"
