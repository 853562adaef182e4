"""Operations on one task. Each changes it by one statement, so that two callers can't both win."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, cast
from uuid import UUID

import asyncpg

from ains.db.sql import Query, load
from ains.db.statements import Statements
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

_WRITES: dict[TaskStatus, Query] = {
    TaskStatus.ACTIVE: _Q["start"],
    TaskStatus.COMPLETED: _Q["complete"],
}


async def submit(
    db: Statements, task_id: UUID, task: SubmitTask, agent_ttl: timedelta
) -> TaskSubmitted:
    """Accept a task and give it to an agent in the same statement, if one is free.

    A task that depends on others is given to nobody before all of those are COMPLETED; it is FAILED
    at once when one of them has failed or was cancelled.

    Args:
        db: where to run it.
        task_id: the new task's id.
        task: what the client asks for.
        agent_ttl: agents whose last heartbeat is older get nothing.

    Raises:
        NotFound: it depends on a task that does not exist.
    """
    arguments = (
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
    depends_on: list[UUID] = []
    if task.depends_on:
        depends_on = _distinct_ids(task.depends_on)
        submitted = _found(await db.fetchrow(_Q["submit_after"], *arguments, depends_on), task_id)
        if submitted["unknown"]:
            raise NotFound.of("task", submitted["unknown"][0])
    else:
        submitted = _found(await db.fetchrow(_Q["submit"], *arguments), task_id)
    return {
        "task_id": task_id,
        "status": submitted["status"],
        "priority": submitted["priority"],
        "depends_on": depends_on,
        "is_blocked": submitted["is_blocked"],
        "routing_strategy": submitted["routing_strategy"],
        "assigned_agent_id": submitted["assigned_agent_id"],
        "created_at": submitted["created_at"],
    }


def _distinct_ids(texts: Sequence[str]) -> list[UUID]:
    """The ids, each once, in their order; what can't be one names nothing that exists."""
    found: dict[UUID, None] = {}
    for text in texts:
        try:
            found[UUID(text)] = None
        except ValueError:
            raise NotFound.of("task", text) from None
    return list(found)


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


class Reported(NamedTuple):
    """What the agent is answered, and whether other tasks may have become runnable by it."""

    answer: StatusReported
    releases: bool


async def report(db: Statements, task_id: UUID, agent_id: str, said: ReportStatus) -> Reported:
    """Take an agent's report. The same end state with the same outcome may be reported again.

    Raises:
        NotFound: no such task.
        Forbidden: it is another agent's.
        BusinessRule: it can't take this state from the one it is in, or it ended differently.
    """
    if said.status is TaskStatus.FAILED:
        row = await _fail(db, task_id, agent_id, said)
    elif (write := _WRITES.get(said.status)) is not None:
        row = await _write(db, write, task_id, agent_id, said)
    else:
        raise BusinessRule("An agent reports ACTIVE, COMPLETED or FAILED.")
    answer: StatusReported = {
        "task_id": task_id,
        "status": row["status"],
        "retry_count": row["retry_count"],
        "updated_at": row["updated_at"],
    }
    return Reported(answer, row.get("releases", False))


async def _write(
    db: Statements, write: Query, task_id: UUID, agent_id: str, said: ReportStatus
) -> asyncpg.Record:
    """Change the task at once, as nearly every report may; look only when that was refused."""
    content = (said.result_data, said.error_message)
    written = content if said.status is TaskStatus.COMPLETED else ()
    while (row := await db.fetchrow(write, task_id, agent_id, *written)) is None:
        seen = await db.fetchrow(_Q["look"], task_id, agent_id, said.status, *content)
        seen = _found(seen, task_id)
        if seen["repeated"]:
            return seen
        if not seen["changeable"]:
            raise refuse_report(said.status, agent_id, seen["status"], seen["holder"])
    return row


async def _fail(db: Statements, task_id: UUID, agent_id: str, said: ReportStatus) -> asyncpg.Record:
    reason = said.failure_reason or AGENT_ERROR
    row = await db.fetchrow(
        _Q["fail"], task_id, agent_id, reason, said.error_message, said.result_data
    )
    row = _found(row, task_id)
    if not (row["changed"] or row["repeated"]):
        raise refuse_report(said.status, agent_id, row["status"], row["holder"])
    return row


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
        BusinessRule: it is not FAILED, its retries are used up, or a task it depends on has failed
            or was cancelled.
    """
    row = _found(await db.fetchrow(_Q["retry"], task_id), task_id)
    if not row["changed"]:
        if row["status"] != TaskStatus.FAILED:
            raise BusinessRule(f"Only a FAILED task can be retried, this one is {row['status']}.")
        if row["used"] >= row["max_retries"]:
            raise BusinessRule(f"All {row['max_retries']} retries of this task are used up.")
        raise BusinessRule(f"It depends on the task {row['lacks']}, which has not succeeded.")
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
