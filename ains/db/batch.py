"""Operations on up to a thousand tasks, each one statement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from ains.db.sql import load
from ains.db.statements import Statements
from ains.domain.states import ENDED
from ains.domain.task_views import BatchCancelled, BatchStatus, BatchTaskStatus, CancelError
from ains.domain.tasks import BatchTask

_Q = load("batch")


async def create(
    db: Statements,
    client_id: str,
    ids: Sequence[UUID],
    tasks: Sequence[tuple[BatchTask, datetime | None]],
) -> None:
    """Queue all tasks, each with its id and its expiry, for the dispatcher."""
    if not tasks:
        return
    await db.execute(
        _Q["create"],
        client_id,
        ids,
        [task.task_type for task, _ in tasks],
        [task.capability_required for task, _ in tasks],
        [task.input_data for task, _ in tasks],
        [task.priority for task, _ in tasks],
        [task.metadata for task, _ in tasks],
        [task.timeout_seconds for task, _ in tasks],
        [task.max_retries for task, _ in tasks],
        [task.retry_policy for task, _ in tasks],
        [task.routing_strategy for task, _ in tasks],
        [expires_at for _, expires_at in tasks],
    )


async def status(db: Statements, ids: Sequence[UUID]) -> BatchStatus:
    """Show those of the tasks that exist."""
    rows = await db.fetch(_Q["status"], ids)
    tasks: list[BatchTaskStatus] = [
        {
            "task_id": row["task_id"],
            "status": row["status"],
            "priority": row["priority"],
            "created_at": row["created_at"],
            "completed_at": row["completed_at"],
        }
        for row in rows
    ]
    return {
        "total": len(tasks),
        "status_counts": dict(Counter(task["status"] for task in tasks)),
        "tasks": tasks,
    }


async def cancel(
    db: Statements, ids: Sequence[UUID | str], client_id: str, reason: str | None
) -> BatchCancelled:
    """Cancel those of the tasks that are live and this client's, and say why not the others.

    ``ids`` are each named once; texts among them are the ids of nothing.
    """
    known = [task_id for task_id in ids if isinstance(task_id, UUID)]
    found = {row["task_id"]: row for row in await db.fetch(_Q["cancel"], known, client_id, reason)}
    errors: list[CancelError] = []
    for task_id in ids:
        row = found.get(task_id)
        if row is None:
            why = "No task has this id."
        elif row["changed"]:
            continue
        elif row["client_id"] != client_id:
            why = "This task belongs to another client."
        elif row["status"] in ENDED:
            why = f"A task that is {row['status']} can't be cancelled."
        else:
            why = "The task changed at the same moment."
        errors.append({"task_id": str(task_id), "error": why})
    return {"cancelled": len(ids) - len(errors), "failed": len(errors), "errors": errors}
