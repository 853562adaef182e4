"""How trust is read and changed by hand; the SQL is in ``queries/trust.sql``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ains.db.sql import load
from ains.domain.trust import (
    Leaderboard,
    LeaderboardEntry,
    TrustAdjusted,
    TrustRecord,
    TrustStanding,
    rounded,
    success_rate,
    trust_level,
)
from ains.errors import NotFound

if TYPE_CHECKING:
    from ains.db.statements import Statements

__all__ = ["adjust", "history", "leaderboard", "standing"]

_Q: Final = load("trust")


async def standing(db: Statements, agent_id: str) -> TrustStanding:
    """How far an agent is trusted, and what it has done; raises `NotFound`."""
    row = await db.fetchrow(_Q["standing"], agent_id)
    if row is None:
        raise NotFound.of("agent", agent_id)
    score = rounded(row["trust_score"])
    average = row["avg_completion_time_seconds"]
    return {
        "agent_id": row["agent_id"],
        "trust_score": score,
        "trust_level": trust_level(score),
        "total_tasks_completed": row["total_tasks_completed"],
        "total_tasks_failed": row["total_tasks_failed"],
        "success_rate": success_rate(row["total_tasks_completed"], row["total_tasks_failed"]),
        "avg_completion_time_seconds": None if average is None else rounded(average),
        "last_task_completed_at": row["last_task_completed_at"],
    }


async def history(db: Statements, agent_id: str, limit: int) -> list[TrustRecord]:
    """The latest ``limit`` changes of an agent's trust, newest first; raises `NotFound`."""
    rows = await db.fetch(_Q["history"], agent_id, limit)
    if not rows:
        raise NotFound.of("agent", agent_id)
    return [
        {
            "record_id": row["record_id"],
            "event_type": row["event_type"],
            "trust_delta": row["trust_delta"],
            "trust_score_before": rounded(row["trust_score_before"]),
            "trust_score_after": rounded(row["trust_score_after"]),
            "reason": row["reason"],
            "task_id": row["task_id"],
            "created_at": row["created_at"],
        }
        for row in rows
        if row["record_id"] is not None
    ]


async def adjust(db: Statements, agent_id: str, delta: float, reason: str) -> TrustAdjusted:
    """Add ``delta`` to an agent's trust, within 0 and 1, and record it; raises `NotFound`."""
    row = await db.fetchrow(_Q["adjust"], agent_id, delta, reason)
    if row is None:
        raise NotFound.of("agent", agent_id)
    return {
        "record_id": row["record_id"],
        "new_trust_score": rounded(row["trust_score_after"]),
        "trust_delta": row["trust_delta"],
    }


async def leaderboard(db: Statements, limit: int, min_tasks: int) -> Leaderboard:
    """The most trusted agents that have completed ``min_tasks`` tasks."""
    rows = await db.fetch(_Q["leaderboard"], limit, min_tasks)
    entries: list[LeaderboardEntry] = [
        {
            "agent_id": row["agent_id"],
            "display_name": row["display_name"],
            "trust_score": rounded(row["trust_score"]),
            "total_tasks_completed": row["total_tasks_completed"],
            "total_tasks_failed": row["total_tasks_failed"],
            "success_rate": success_rate(row["total_tasks_completed"], row["total_tasks_failed"]),
        }
        for row in rows
    ]
    return {"leaderboard": entries}
