"""What agents say of themselves, and the rules that need no database.

Names, defaults and ranges are those of the REST contract.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Literal
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import AfterValidator, Field
from typing_extensions import TypedDict

from ains.domain.types import (
    BigInt,
    JsonObject,
    Limit,
    Offset,
    QueryModel,
    RequestModel,
    length,
)
from ains.errors import BusinessRule

MAX_TEXT: Final = 65_536
"""Characters that a description or another free text may have."""

_EXACT: Final = 2**53  # larger ones may have digits that nobody sent
_UNREACHABLE: Final = frozenset({".", "..", "leaderboard"})
_MERGED: Final = "other"


class AgentStatus(StrEnum):
    """Whether an agent is given work."""

    REGISTERED = "REGISTERED"  # no heartbeat yet
    AVAILABLE = "AVAILABLE"
    BUSY = "BUSY"  # finishes its work, gets none
    INACTIVE = "INACTIVE"
    SUSPENDED = "SUSPENDED"


class HealthStatus(StrEnum):
    """What an agent says of itself in a heartbeat."""

    ACTIVE = "ACTIVE"
    DEGRADED = "DEGRADED"
    OFFLINE = "OFFLINE"


STATUS_OF_HEALTH: Final[dict[HealthStatus, AgentStatus]] = {
    HealthStatus.ACTIVE: AgentStatus.AVAILABLE,
    HealthStatus.DEGRADED: AgentStatus.BUSY,
    HealthStatus.OFFLINE: AgentStatus.INACTIVE,
}
"""What a heartbeat makes of an agent, unless it is suspended."""


class SearchOrder(StrEnum):
    """How search results are sorted; agents without an offer come last."""

    TRUST_SCORE = "trust_score"  # highest first
    PRICE = "price"  # of the cheapest matching capability
    LATENCY = "latency"  # of the fastest matching capability


def _nameable(agent_id: str) -> str:
    if agent_id == _MERGED:
        raise ValueError(f"an agent can't be called {agent_id!r}: metrics merge agents under it")
    if agent_id in _UNREACHABLE:
        raise ValueError(f"an agent can't be called {agent_id!r}: no path could name it")
    return agent_id


AgentId = Annotated[str, length(64, 1), AfterValidator(_nameable)]
Hex = Annotated[str, length(8192), Field(description="Hexadecimal.")]
Text = Annotated[str, length(MAX_TEXT)]
Tag = Annotated[str, length(255, 1)]
NotNegative = Annotated[float, Field(ge=0)]
TrustScore = Annotated[float, Field(ge=0, le=1)]


class RegisterAgent(RequestModel):
    """An agent introduces itself.

    ``signature`` is the Ed25519 signature of agent_id followed by endpoint, in UTF-8.
    """

    agent_id: AgentId
    public_key: Hex
    display_name: Annotated[str, length(255, 1)]
    endpoint: Annotated[str, length(512, 1)]
    signature: Hex
    description: Text | None = None
    tags: Annotated[list[Tag], Field(max_length=100)] | None = None


class PublishCapability(RequestModel):
    """Something that an agent can do, and what it asks for it."""

    name: Annotated[str, length(255, 1)]
    description: Text
    input_schema: JsonObject
    output_schema: JsonObject
    pricing_model: Annotated[str, length(255)]
    price: NotNegative
    latency_p99_ms: NotNegative
    availability_percent: Annotated[float, Field(ge=0, le=100)]
    signature: Annotated[str, length(8192)]


class Heartbeat(RequestModel):
    """An agent says that it is there, and how it is."""

    timestamp: Annotated[BigInt, Field(description="The agent's own clock; only kept.")]
    status: HealthStatus
    uptime_ms: Annotated[int, Field(ge=0, lt=2**63)]
    metrics: JsonObject | None = None


class AgentQuery(QueryModel):
    """Which agents to list."""

    status: AgentStatus | None = None
    limit: Limit = 10
    offset: Offset = 0


class SearchQuery(QueryModel):
    """What agents to look for; every condition given has to hold."""

    capability: Annotated[
        str | None, Field(description="Part of the name of a published capability, in any case.")
    ] = None
    tags: Annotated[
        str | None,
        Field(description="Tags, separated by commas; one of them is enough, in any case."),
    ] = None
    min_trust: TrustScore = 0
    sort_by: SearchOrder = SearchOrder.TRUST_SCORE
    limit: Limit = 10
    offset: Offset = 0

    def tag_list(self) -> list[str] | None:
        """The tags asked for; None when there are none."""
        found = [tag.strip() for tag in (self.tags or "").split(",")]
        return [tag for tag in found if tag] or None


class AgentResponse(TypedDict):
    """An agent as its own page shows it."""

    agent_id: str
    public_key: str
    display_name: str
    description: str | None
    endpoint: str
    status: AgentStatus
    created_at: datetime
    trust_score: float
    tags: list[str]
    verified: bool


class AgentItem(TypedDict):
    """An agent in a list."""

    agent_id: str
    display_name: str
    status: AgentStatus
    trust_score: float


class AgentList(TypedDict):
    """A page of agents, newest first; ``total`` counts all that match."""

    agents: list[AgentItem]
    total: int
    limit: int
    offset: int


class Published(TypedDict):
    """Answer to a publication; the id stays when the capability is published again."""

    capability_id: UUID
    status: Literal["published"]


class Capability(TypedDict):
    """A published capability."""

    capability_id: UUID
    name: str
    description: str
    pricing_model: str
    price: float
    availability_percent: float
    latency_p99_ms: float


class Acknowledged(TypedDict):
    """Answer to a heartbeat; ``next_heartbeat_in`` is in seconds."""

    acknowledged: Literal[True]
    next_heartbeat_in: float
    agent_health_status: HealthStatus
    agent_status: AgentStatus
    last_heartbeat: datetime


class SearchResult(TypedDict):
    """An agent that was found, with the names of all it has published."""

    agent_id: str
    display_name: str
    trust_score: float
    capabilities: list[str]


class SearchResults(TypedDict):
    """A page of agents; ``total`` counts all that match."""

    results: list[SearchResult]
    total: int
    limit: int
    offset: int


def is_hex(text: str) -> bool:
    """Whether ``text`` spells one byte or more, without separators."""
    try:
        return len(bytes.fromhex(text)) * 2 == len(text) > 0
    except ValueError:
        return False


def is_signed(agent_id: str, endpoint: str, public_key: str, signature: str) -> bool:
    """Whether ``signature`` is an Ed25519 signature of agent_id + endpoint under ``public_key``.

    Both are hexadecimal; see https://www.rfc-editor.org/rfc/rfc8032. Takes about 0.1 ms.
    """
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        key.verify(bytes.fromhex(signature), f"{agent_id}{endpoint}".encode())
    except (ValueError, InvalidSignature):
        return False
    return True


def check_signature(agent: RegisterAgent, *, required: bool) -> bool:
    """Whether an agent has proved that it holds its key.

    Raises:
        BusinessRule: its key or signature isn't hexadecimal, or a valid signature is ``required``.
    """
    for name, value in (("public_key", agent.public_key), ("signature", agent.signature)):
        if not is_hex(value):
            raise BusinessRule(f"The {name} is not hexadecimal.")
    valid = is_signed(agent.agent_id, agent.endpoint, agent.public_key, agent.signature)
    if required and not valid:
        raise BusinessRule(
            "This server accepts signed agents only: the signature is not a valid Ed25519 "
            "signature of agent_id + endpoint under public_key."
        )
    return valid


def plain(value: float) -> float:
    """``value`` without its fraction when that is zero: 30 instead of 30.0."""
    exact = value.is_integer() and abs(value) < _EXACT
    return int(value) if exact else value
