"""Agents and tasks put straight into the database, for tests of what works on them."""

from typing import Any
from uuid import UUID

import asyncpg


async def add_agent(db: asyncpg.Connection, agent_id: str = "a", **columns: Any) -> str:
    """An AVAILABLE agent with the tag ``x`` that is ``silent`` seconds after its heartbeat."""
    silent = columns.pop("silent", 0.0)
    row = {
        "agent_id": agent_id,
        "display_name": agent_id,
        "endpoint": "http://a",
        "public_key": "00",
        "signature": "00",
        "tags": ["x"],
        "status": "AVAILABLE",
    } | columns
    places = ", ".join(f"${i + 2}" for i in range(len(row)))
    await db.execute(
        f"INSERT INTO agents (last_heartbeat, {', '.join(row)})"
        f" VALUES (now() - make_interval(secs => $1), {places})",
        silent,
        *row.values(),
    )
    return agent_id


async def add_task(db: asyncpg.Connection, **columns: Any) -> UUID:
    """A PENDING task that needs ``x``; ``in_<column>=5`` sets a time five seconds from now."""
    row = {"client_id": "c", "task_type": "t", "capability_required": "x"} | columns
    names, places, values = [], [], []
    for number, (name, value) in enumerate(row.items(), 1):
        later = name.startswith("in_")
        names.append(name.removeprefix("in_"))
        places.append(f"now() + make_interval(secs => ${number})" if later else f"${number}")
        values.append(float(value) if later else value)
    task: UUID = await db.fetchval(
        f"INSERT INTO tasks ({', '.join(names)}) VALUES ({', '.join(places)}) RETURNING task_id",
        *values,
    )
    return task


async def status(db: asyncpg.Connection, task: UUID) -> str:
    """The status of a task."""
    found: str = await db.fetchval("SELECT status FROM tasks WHERE task_id = $1", task)
    return found


async def events(db: asyncpg.Connection, task: UUID) -> list[str]:
    """What happened to a task, oldest first."""
    rows = await db.fetch("SELECT event FROM task_events WHERE task_id = $1 ORDER BY at", task)
    return [row["event"] for row in rows]
