"""Tasks that depend on others, and what must be true of them at any moment."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg

from ains.db import tasks
from ains.db.statements import Statements
from ains.domain.ids import uuid7
from ains.domain.tasks import SubmitTask

_TTL = timedelta(seconds=60)


async def submit(db: Statements, *after: UUID) -> UUID:
    """A task that depends on others, by the statement of the service."""
    task = SubmitTask.model_validate(
        {
            "client_id": "c", "task_type": "t", "capability_required": "x", "input_data": {},
            "depends_on": [str(task) for task in after],
        }
    )  # fmt: skip
    return (await tasks.submit(db, uuid7(), task, _TTL))["task_id"]


async def end(db: asyncpg.Connection, status: str, *ended: UUID, **values: Any) -> None:
    """Give tasks a status, and other columns their values, all in one statement."""
    row = {"status": status} | values
    assignments = ", ".join(f"{name} = ${i + 2}" for i, name in enumerate(row))
    await db.execute(
        f"UPDATE tasks SET {assignments} WHERE task_id = ANY ($1)", ended, *row.values()
    )


async def state(db: asyncpg.Connection, task: UUID) -> str:
    """The status, or "blocked" while it is PENDING and waits."""
    found: str = await db.fetchval(
        "SELECT CASE WHEN status = 'PENDING' AND is_blocked THEN 'blocked' ELSE status END"
        " FROM tasks WHERE task_id = $1",
        task,
    )
    return found


async def states(db: asyncpg.Connection, tasks: Sequence[UUID]) -> list[str]:
    """The state of each of these tasks."""
    return [await state(db, task) for task in tasks]


async def assert_true(db: asyncpg.Connection) -> None:
    """No task waits for nothing or runs too early, and the ledger says the same as the state."""
    wrong = await db.fetch(
        "SELECT t.task_id FROM tasks AS t WHERE t.status = 'PENDING' AND t.is_blocked <> EXISTS ("
        " SELECT FROM task_dependencies AS d JOIN tasks AS u ON u.task_id = d.depends_on"
        "  WHERE d.task_id = t.task_id AND u.status <> 'COMPLETED')"
    )
    assert wrong == []
    blocked = await db.fetchval(
        "SELECT count(*) FROM tasks WHERE status = 'PENDING' AND is_blocked"
    )
    assert await db.fetchval("SELECT value FROM metrics.ains_tasks_blocked") == blocked
