"""Chains in a database: how tests move them on and look at them."""

from typing import Any
from uuid import UUID

import asyncpg

from ains.db import chains
from ains.db.pool import Database
from ains.domain.chains import SubmitChain
from ains.domain.ids import uuid7

ENDED = ("COMPLETED", "FAILED", "CANCELLED")


async def submit(pool: Database, steps: int = 3, **fields: Any) -> UUID:
    """A chain of like steps; ``fields`` are those of each."""
    step = {"task_type": "t", "capability_required": "x", "input_data": {}} | fields
    chain = SubmitChain.model_validate({"name": "n", "client_id": "c", "steps": [step] * steps})
    return (await chains.submit(pool, uuid7(), chain))["chain_id"]


async def task_of(db: asyncpg.Connection, chain: UUID, step: int) -> UUID:
    """The task of a step."""
    task = await db.fetchval(
        "SELECT task_id FROM chain_steps WHERE chain_id = $1 AND step_index = $2", chain, step
    )
    assert task is not None
    return UUID(str(task))


async def move(db: asyncpg.Connection, task: UUID, status: str, **values: Any) -> None:
    """Write a new state of a task."""
    row = {"status": status} | values
    if status in {"ASSIGNED", "ACTIVE"}:
        row["assigned_agent_id"] = "a"
    assignments = ", ".join(f"{name} = ${i + 2}" for i, name in enumerate(row))
    await db.execute(f"UPDATE tasks SET {assignments} WHERE task_id = $1", task, *row.values())


async def complete(
    db: asyncpg.Connection, chain: UUID, step: int, result: str | None = None
) -> None:
    """Have the task of a step end well."""
    await move(db, await task_of(db, chain, step), "COMPLETED", result_data=result)


async def story(pool: Database, chain: UUID) -> tuple[str, list[str]]:
    """The status of a chain and of its steps."""
    shown = await chains.get(pool, chain)
    return shown["status"], [step["status"] for step in shown["steps"]]


async def counted(db: asyncpg.Connection) -> dict[str, int]:
    """How often chains and steps have entered each status; steps in lower case."""
    rows = await db.fetch(
        "SELECT status AS name, value FROM metrics.ains_chains_total UNION ALL"
        " SELECT lower(step_status), value FROM metrics.ains_chain_steps_total"
    )
    return {row["name"]: row["value"] for row in rows if row["value"]}


async def assert_whole(db: asyncpg.Connection) -> None:
    """Every live chain has exactly one live task, that of its step; the ledger balances."""
    wrong = await db.fetch(
        "SELECT c.chain_id, c.status, count(t.task_id) FROM task_chains AS c"
        "  LEFT JOIN chain_steps AS s USING (chain_id)"
        "  LEFT JOIN tasks AS t ON t.task_id = s.task_id"
        "   AND t.status IN ('PENDING', 'ASSIGNED', 'ACTIVE')"
        " GROUP BY 1 HAVING count(t.task_id) <> (c.status IN ('PENDING', 'RUNNING'))::integer"
    )
    assert wrong == []
    wrong = await db.fetch(
        "SELECT s.* FROM chain_steps AS s JOIN task_chains AS c USING (chain_id)"
        " WHERE c.status IN ('COMPLETED', 'FAILED', 'CANCELLED')"
        "   AND s.status IN ('PENDING', 'RUNNING')"
    )
    assert wrong == []
    active = await db.fetchval(
        "SELECT count(*) FROM task_chains WHERE status IN ('PENDING', 'RUNNING')"
    )
    assert await db.fetchval("SELECT value FROM metrics.ains_chains_active") == active
    entered = await counted(db)
    assert entered.get("PENDING", 0) == active + sum(entered.get(status, 0) for status in ENDED)
