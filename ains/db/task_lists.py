"""Pages of tasks, newest first, that cost the same however many tasks there are."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from orjson import Fragment

from ains.db.sql import Query, load
from ains.db.statements import Statements
from ains.domain.states import TaskStatus
from ains.domain.task_lists import EXACT_TOTAL, Cursor, ListQuery, TaskItem, TaskPage

_Q = load("task_lists")

_EVERY_STATUS = list(TaskStatus)
_FARTHEST = 10**12  # an offset beyond every table, small enough to be added to


def _plan(wanted: ListQuery) -> tuple[Query, tuple[str | None, ...]]:
    """The statement whose index serves these filters best, and the filters as it takes them."""
    agent, client, kind = wanted.assigned_agent_id, wanted.client_id, wanted.task_type
    if agent is not None:
        if client is None and kind is None:
            return _Q["list_by_agent"], (agent,)
        return _Q["list_by_agent_and_more"], (agent, client, kind)
    if client is not None:
        if kind is None:
            return _Q["list_by_client"], (client,)
        return _Q["list_by_client_and_type"], (client, kind)
    if kind is not None:
        return _Q["list_by_type"], (kind,)
    return _Q["list_all"], ()


async def page(db: Statements, wanted: ListQuery) -> TaskPage:
    """Find a page of tasks.

    ``total`` is exact up to 10,000; beyond, it is 10,000 and ``total_relation`` is ``gte``.

    Raises:
        InvalidInput: the cursor is none of ours.
    """
    after: tuple[Any, UUID | None] = (None, None)
    if wanted.cursor is not None:
        cursor = Cursor.parse(wanted.cursor)
        after = (cursor.created_at, cursor.task_id)
    query, filters = _plan(wanted)
    statuses = _EVERY_STATUS if wanted.status is None else [wanted.status]
    rows = await db.fetch(
        query,
        statuses,
        *after,
        wanted.limit,
        min(wanted.offset, _FARTHEST),
        EXACT_TOTAL + 1,
        *filters,
    )
    total: int = rows[0]["total"]
    shown = [row for row in rows if row["task_id"] is not None]
    another_page = len(shown) > wanted.limit
    shown = shown[: wanted.limit]
    tasks: list[TaskItem] = [
        {
            "task_id": row["task_id"],
            "client_id": row["client_id"],
            "task_type": row["task_type"],
            "status": row["status"],
            "priority": row["priority"],
            "assigned_agent_id": row["assigned_agent_id"],
            "created_at": row["created_at"],
            "updated_at": row["updated_at"],
            "input_data": Fragment(row["input_data"]),
            "capability_required": row["capability_required"],
        }
        for row in shown
    ]
    last = shown[-1] if another_page else None
    return {
        "tasks": tasks,
        "total": min(total, EXACT_TOTAL),
        "total_relation": "gte" if total > EXACT_TOTAL else "eq",
        "limit": wanted.limit,
        "offset": wanted.offset,
        "next_cursor": str(Cursor(last["created_at"], last["task_id"])) if last else None,
    }
