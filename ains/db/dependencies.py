"""What waits for what; see ``queries/dependencies.sql``.

Dependencies are made with the task (`ains.db.tasks.submit`), and settled by the database.
"""

from __future__ import annotations

from uuid import UUID

from ains.db.sql import load
from ains.db.statements import Statements
from ains.domain.dependencies import Dependencies, Dependents
from ains.domain.states import TaskStatus
from ains.errors import NotFound

__all__ = ["dependencies", "dependents"]

_Q = load("dependencies")


async def dependencies(db: Statements, task_id: UUID) -> Dependencies:
    """What a task waits for, and how far that is; raises `NotFound`."""
    rows = await db.fetch(_Q["dependencies"], task_id)
    if not rows:
        raise NotFound.of("task", task_id)
    blocked = rows[0]["is_blocked"]
    found = [row for row in rows if row["depends_on"] is not None]
    return {
        "task_id": task_id,
        "depends_on": [row["depends_on"] for row in found],
        "dependencies_status": {str(row["depends_on"]): row["dependency_status"] for row in found},
        "is_blocked": blocked,
        "ready_to_run": rows[0]["status"] == TaskStatus.PENDING and not blocked,
    }


async def dependents(db: Statements, task_id: UUID) -> Dependents:
    """The tasks that depend directly on a task; raises `NotFound`."""
    rows = await db.fetch(_Q["dependents"], task_id)
    if not rows:
        raise NotFound.of("task", task_id)
    found = [row for row in rows if row["task_id"] is not None]
    return {
        "task_id": task_id,
        "dependent_tasks": [
            {
                "task_id": row["task_id"],
                "task_type": row["task_type"],
                "status": row["status"],
                "is_blocked": row["is_blocked"],
            }
            for row in found
        ],
        "dependent_count": len(found),
    }
