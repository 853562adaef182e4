"""Operations on one task. Each is one statement, so that two callers can't both win."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import cast
from uuid import UUID

import asyncpg

from ains.db.pool import Statements
from ains.db.sql import Query, load
from ains.domain.states import ENDED, TaskStatus
from ains.domain.task_views import (
    PriorityChanged,
    StatusReported,
    TaskCancelled,
    TaskResponse,
    TaskRetried,
    TaskSubmitted,
    TimeoutChanged,
)
from ains.domain.tasks import AGENT_ERROR, CreateTask, ReportStatus, SubmitTask, refuse_report
from ains.domain.types import raw_json
from ains.errors import BusinessRule, Forbidden, NotFound, quote

_Q = load("tasks")

_REPORTS: dict[TaskStatus, Query] = {
    TaskStatus.ACTIVE: _Q["start"],
    TaskStatus.COMPLETED: _Q["complete"],
    TaskStatus.FAILED: _Q["fail"],
}


async def submit(
    db: Statements, task_id: UUID, task: SubmitTask, agent_ttl: timedelta
) -> TaskSubmitted:
    """Accept a task and give it to an agent in the same statement, if one is free.

    Args:
        db: where to run it.
        task_id: the new task's id.
        task: what the client asks for.
        agent_ttl: agents whose last heartbeat is older get nothing.

    Raises:
        BusinessRule: it depends on other tasks, which this version can't do yet.
    """
    if task.depends_on:
        raise BusinessRule("This version of AINS can't make a task wait for others: no depends_on.")
    row = await db.fetchrow(
        _Q["submit"],
        task_id,
        task.client_id,
        task.task_type,
        task.capability_required,
        task.input_data,
        task.priority,
        task.timeout_seconds,
        task.max_retries,
        task.retry_policy,
        task.routing_strategy,
        agent_ttl,
    )
    submitted = _found(row, task_id)
    return {
        "task_id": task_id,
        "status": submitted["status"],
        "priority": submitted["priority"],
        "depends_on": [],
        "is_blocked": submitted["is_blocked"],
        "routing_strategy": submitted["routing_strategy"],
        "assigned_agent_id": submitted["assigned_agent_id"],
        "created_at": submitted["created_at"],
    }


async def create(
    db: Statements, task_id: UUID, task: CreateTask, expires_at: datetime | None
) -> TaskResponse:
    """Queue a task of a registered client for the dispatcher.

    Raises:
        BusinessRule: the client is no agent, or nobody offers the capability.
    """
    row = await db.fetchrow(
        _Q["create"],
        task_id,
        task.client_id,
        task.task_type,
        task.capability_required,
        task.input_data,
        task.priority,
        task.metadata,
        task.timeout_seconds,
        task.max_retries,
        task.retry_policy,
        task.routing_strategy,
        expires_at,
    )
    created = _found(row, task_id)
    if not created["known_client"]:
        raise BusinessRule(f"The client {quote(task.client_id)} is not a registered agent.")
    if not created["offered"]:
        raise BusinessRule(f"No agent offers the capability {quote(task.capability_required)}.")
    return _task(created)


async def get(db: Statements, task_id: UUID) -> TaskResponse:
    """Show a task; raises `NotFound`."""
    return _task(_found(await db.fetchrow(_Q["get"], task_id), task_id))


def _found(row: asyncpg.Record | None, task_id: UUID) -> asyncpg.Record:
    if row is None:
        raise NotFound.of("task", task_id)
    return row


def _task(row: asyncpg.Record) -> TaskResponse:
    return {
        "task_id": row["task_id"],
        "client_id": row["client_id"],
        "task_type": row["task_type"],
        "capability_required": row["capability_required"],
        "status": row["status"],
        "priority": row["priority"],
        "assigned_agent_id": row["assigned_agent_id"],
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
        "assigned_at": row["assigned_at"],
        "started_at": row["started_at"],
        "completed_at": row["completed_at"],
        "result_data": raw_json(row["result_data"]),
        "error_message": row["error_message"],
        "retry_count": row["retry_count"],
    }


async def report(
    db: Statements, task_id: UUID, agent_id: str, said: ReportStatus
) -> StatusReported:
    """Take an agent's report. The same end state with the same outcome may be reported again.

    Raises:
        NotFound: no such task.
        Forbidden: it is another agent's.
        BusinessRule: it can't take this state from the one it is in, or it ended differently.
    """
    query = _REPORTS.get(said.status)
    if query is None:
        raise BusinessRule("An agent reports ACTIVE, COMPLETED or FAILED.")
    arguments: tuple[str | None, ...] = ()
    if said.status is TaskStatus.COMPLETED:
        arguments = (said.result_data, said.error_message)
    elif said.status is TaskStatus.FAILED:
        arguments = (said.failure_reason or AGENT_ERROR, said.error_message, said.result_data)
    row = _found(await db.fetchrow(query, task_id, agent_id, *arguments), task_id)
    if not (row["changed"] or row["repeated"]):
        raise refuse_report(said.status, agent_id, row["status"], row["holder"])
    return {
        "task_id": task_id,
        "status": row["status"],
        "retry_count": row["retry_count"],
        "updated_at": row["updated_at"],
    }


async def cancel(
    db: Statements, task_id: UUID, client_id: str, reason: str | None
) -> TaskCancelled:
    """End a live task on behalf of its client.

    Raises:
        NotFound: no such task.
        Forbidden: it is another client's.
        BusinessRule: it has ended.
    """
    row = await db.fetchrow(_Q["cancel"], task_id, client_id, reason)
    row = _changed_by_client(row, task_id, client_id, "be cancelled")
    return {
        "task_id": task_id,
        "status": TaskStatus.CANCELLED,
        "cancelled_at": row["cancelled_at"],
        "reason": reason,
    }


def _changed_by_client(
    row: asyncpg.Record | None, task_id: UUID, client_id: str, verb: str
) -> asyncpg.Record:
    row = _found(row, task_id)
    if row["client_id"] != client_id:
        raise Forbidden("This task belongs to another client.")
    if row["status"] in ENDED:
        raise BusinessRule(f"A task that is {row['status']} can't {verb}.")
    return row


async def retry(db: Statements, task_id: UUID) -> TaskRetried:
    """Send a failed task back to the queue while retries are left.

    Raises:
        NotFound: no such task.
        BusinessRule: it is not FAILED, or its retries are used up.
    """
    row = _found(await db.fetchrow(_Q["retry"], task_id), task_id)
    if not row["changed"]:
        if row["status"] != TaskStatus.FAILED:
            raise BusinessRule(f"Only a FAILED task can be retried, this one is {row['status']}.")
        raise BusinessRule(f"All {row['max_retries']} retries of this task are used up.")
    return {
        "task_id": task_id,
        "status": TaskStatus.PENDING,
        "retry_count": row["retry_count"],
        "next_retry_at": row["next_retry_at"],
    }


async def set_priority(
    db: Statements, task_id: UUID, client_id: str, priority: int
) -> PriorityChanged:
    """Change the priority of a live task; raises like :func:`cancel`."""
    row = await db.fetchrow(_Q["set_priority"], task_id, client_id, priority)
    row = _changed_by_client(row, task_id, client_id, "change its priority")
    return {
        "task_id": task_id,
        "old_priority": row["old_priority"],
        "new_priority": priority,
        "status": row["status"],
    }


async def set_timeout(
    db: Statements, task_id: UUID, client_id: str, seconds: int
) -> TimeoutChanged:
    """Change how long an attempt of a live task may take, the running one included.

    Raises like :func:`cancel`.
    """
    row = await db.fetchrow(_Q["set_timeout"], task_id, client_id, seconds)
    row = _changed_by_client(row, task_id, client_id, "change its timeout")
    return {"task_id": task_id, "timeout_seconds": seconds, "status": cast("str", row["status"])}
