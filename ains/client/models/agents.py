"""Results of the calls about agents."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from ains.client.models.base import Result

__all__ = [
    "Agent",
    "AgentStatus",
    "AgentSummary",
    "AgentTrust",
    "Capability",
    "HeartbeatAnswer",
    "Leader",
    "Leaderboard",
    "Published",
    "SearchHit",
    "TrustAdjusted",
    "TrustRecord",
]


class AgentStatus(StrEnum):
    """States of an agent; only AVAILABLE ones are given work."""

    REGISTERED = "REGISTERED"
    AVAILABLE = "AVAILABLE"
    BUSY = "BUSY"
    INACTIVE = "INACTIVE"
    SUSPENDED = "SUSPENDED"


class Agent(Result):
    """A registered agent."""

    agent_id: str
    public_key: str
    display_name: str
    description: str | None
    endpoint: str
    status: AgentStatus
    created_at: datetime
    trust_score: float
    tags: tuple[str, ...]
    verified: bool


class AgentSummary(Result):
    """An agent in a list."""

    agent_id: str
    display_name: str
    status: AgentStatus
    trust_score: float


class SearchHit(Result):
    """An agent that a search found."""

    agent_id: str
    display_name: str
    trust_score: float
    capabilities: tuple[Any, ...]


class Leader(Result):
    """One place of the leaderboard."""

    agent_id: str
    display_name: str
    trust_score: float
    total_tasks_completed: int
    total_tasks_failed: int
    success_rate: float | None


class Leaderboard(Result):
    """``GET /ains/agents/leaderboard``."""

    leaderboard: tuple[Leader, ...]


class Published(Result):
    """A capability was published."""

    capability_id: str
    status: str


class Capability(Result):
    """What an agent says that it can do."""

    capability_id: str
    name: str
    description: str
    pricing_model: str
    price: float
    availability_percent: float
    latency_p99_ms: float


class HeartbeatAnswer(Result):
    """The server's answer to a heartbeat; the next one is due in ``next_heartbeat_in``."""

    acknowledged: bool
    next_heartbeat_in: float
    agent_health_status: str
    agent_status: AgentStatus
    last_heartbeat: datetime


class AgentTrust(Result):
    """How far an agent is trusted, and why."""

    agent_id: str
    trust_score: float
    trust_level: str
    total_tasks_completed: int
    total_tasks_failed: int
    success_rate: float | None
    avg_completion_time_seconds: float | None
    last_task_completed_at: datetime | None


class TrustRecord(Result):
    """One change of trust."""

    record_id: int | str
    event_type: str
    trust_delta: float
    trust_score_before: float
    trust_score_after: float
    reason: str | None
    task_id: str | None
    created_at: datetime


class TrustAdjusted(Result):
    """Trust was changed by hand."""

    record_id: int | str
    new_trust_score: float
    trust_delta: float
