"""What waits and who works, as numbers."""

from __future__ import annotations

from datetime import datetime

from ains.db.sql import load
from ains.db.statements import Statements
from ains.domain.task_views import QueueDepth, QueueHealth, Workload

_Q = load("queue")

_HIGH = 8
_MEDIUM = 4


async def depth(db: Statements) -> QueueDepth:
    """PENDING tasks by priority: high from 8, medium from 4."""
    rows = await db.fetch(_Q["depth"])
    counts = {int(row["priority"]): int(row["value"]) for row in rows}
    high = sum(n for priority, n in counts.items() if priority >= _HIGH)
    low = sum(n for priority, n in counts.items() if priority < _MEDIUM)
    total = sum(counts.values())
    return {
        "by_priority": {str(priority): n for priority, n in counts.items()},
        "total_pending": total,
        "high_priority": high,
        "medium_priority": total - high - low,
        "low_priority": low,
    }


async def workload(db: Statements) -> Workload:
    """Agents with ASSIGNED or ACTIVE tasks, the busiest first."""
    rows = await db.fetch(_Q["workload"])
    return {
        "agents": [
            {"agent_id": row["agent_id"], "active_tasks": row["active_tasks"]} for row in rows
        ],
        "total_active": sum(row["active_tasks"] for row in rows),
    }


async def health(db: Statements, now: datetime) -> QueueHealth:
    """The numbers of GET /health/aitp."""
    row = await db.fetchrow(_Q["health"])
    if row is None:
        raise AssertionError("an aggregate without GROUP BY has one row")
    completed, failed = row["completed_tasks"], row["failed_tasks"]
    ended = completed + failed
    return {
        "status": "healthy",
        "service": "AITP",
        "timestamp": now,
        "metrics": {
            "queue_depth": row["queue_depth"],
            "active_tasks": row["active_tasks"],
            "assigned_tasks": row["assigned_tasks"],
            "completed_tasks": completed,
            "failed_tasks": failed,
            "failure_rate_percent": round(100 * failed / ended, 2) if ended else 0.0,
        },
    }
