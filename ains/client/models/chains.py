"""What the calls about chains and webhooks return."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from ains.client.models.base import Result

__all__ = ["Chain", "ChainStatus", "ChainSummary", "Webhook"]


class ChainStatus(StrEnum):
    """Where a chain stands."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class ChainSummary(Result):
    """A chain as lists show it; ``current_step`` counts from 0."""

    chain_id: str
    name: str
    status: ChainStatus
    total_steps: int
    current_step: int
    created_at: datetime


class Chain(ChainSummary):
    """A chain with its steps and their results."""

    client_id: str
    steps: tuple[dict[str, Any], ...]
    step_results: Any
    started_at: datetime | None
    completed_at: datetime | None
    error_message: str | None


class Webhook(Result):
    """A subscription; ``secret`` is there only in the answer to its registration."""

    webhook_id: str
    agent_id: str
    url: str
    events: tuple[str, ...]
    active: bool
    created_at: datetime
    secret: str | None = None
