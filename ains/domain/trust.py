"""How trust is told: levels, rates, records.

The rules that change it are the database's (``apply_trust``), whoever finishes a task.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import Field
from typing_extensions import TypedDict

from ains.domain.types import Limit, QueryModel, RequestModel, length

TrustLevel = Literal["high", "medium", "low"]

_HIGH: Final = 0.8
_MEDIUM: Final = 0.5
_DIGITS: Final = 6  # what trust is stored with


class AdjustTrust(RequestModel):
    """A change of trust by hand."""

    trust_delta: Annotated[float, Field(ge=-1, le=1)]
    reason: Annotated[str, length(65_536)]


class HistoryQuery(QueryModel):
    """How many records to list."""

    limit: Limit = 50


class LeaderboardQuery(QueryModel):
    """How many agents to rank, and who takes part."""

    limit: Limit = 10
    min_tasks: Annotated[
        int, Field(ge=0, lt=2**63, description="Completed tasks that an agent needs.")
    ] = 0


class TrustStanding(TypedDict):
    """How far an agent is trusted, and what it has done.

    ``success_rate`` is from 0 to 1; it is 0, and the average None, before the first task ended.
    """

    agent_id: str
    trust_score: float
    trust_level: TrustLevel
    total_tasks_completed: int
    total_tasks_failed: int
    success_rate: float
    avg_completion_time_seconds: float | None
    last_task_completed_at: datetime | None


class TrustRecord(TypedDict):
    """One change of trust; ``trust_delta`` is what was asked for, 0 and 1 are the bounds."""

    record_id: int
    event_type: Literal["task_completed", "task_failed", "manual_adjustment"]
    trust_delta: float
    trust_score_before: float
    trust_score_after: float
    reason: str | None
    task_id: UUID | None
    created_at: datetime


class TrustAdjusted(TypedDict):
    """Answer to a change by hand."""

    record_id: int
    new_trust_score: float
    trust_delta: float


class LeaderboardEntry(TypedDict):
    """An agent in the leaderboard."""

    agent_id: str
    display_name: str
    trust_score: float
    total_tasks_completed: int
    total_tasks_failed: int
    success_rate: float


class Leaderboard(TypedDict):
    """The most trusted agents; of equally trusted ones, the more successful comes first."""

    leaderboard: list[LeaderboardEntry]


def rounded(value: float) -> float:
    """``value`` to six digits: 0.58, where adding floats gave 0.5800000000000001."""
    return round(value, _DIGITS)


def trust_level(score: float) -> TrustLevel:
    """High from 0.8, medium from 0.5, else low."""
    if score >= _HIGH:
        return "high"
    return "medium" if score >= _MEDIUM else "low"


def success_rate(completed: int, failed: int) -> float:
    """The completed part of the tasks that ended, 0 when there are none."""
    ended = completed + failed
    return rounded(completed / ended) if ended else 0.0
