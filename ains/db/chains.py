"""Operations on chains; see ``queries/chains.sql``."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import asyncpg
from orjson import Fragment

from ains.db.sql import Query, load
from ains.db.statements import Statements
from ains.domain.chains import (
    Chain,
    ChainCancelled,
    ChainItem,
    ChainQuery,
    ChainStatus,
    ChainStep,
    StepResult,
    SubmitChain,
    steps_json,
)
from ains.domain.types import raw_json
from ains.errors import BusinessRule, NotFound

__all__ = ["cancel", "get", "page", "submit"]

_Q = load("chains")

_ENDED = frozenset({ChainStatus.COMPLETED, ChainStatus.FAILED, ChainStatus.CANCELLED})
_FARTHEST = 10**12  # an offset beyond every table


async def submit(db: Statements, chain_id: UUID, chain: SubmitChain) -> ChainItem:
    """Accept a chain and queue the task of its first step, in one statement."""
    steps = steps_json(chain.steps)
    row = await db.fetchrow(_Q["submit"], chain_id, chain.name, chain.client_id, steps)
    return _item(_found(row, chain_id))


async def page(db: Statements, wanted: ChainQuery) -> list[ChainItem]:
    """Find chains, the newest first."""
    query, filters = _plan(wanted)
    rows = await db.fetch(query, wanted.limit, min(wanted.offset, _FARTHEST), *filters)
    return [_item(row) for row in rows]


def _plan(wanted: ChainQuery) -> tuple[Query, tuple[str, ...]]:
    """The statement for these filters, each of which has its own index, and its arguments."""
    client, status = wanted.client_id, wanted.status
    if client is not None and status is not None:
        return _Q["list_by_client_and_status"], (client, status)
    if client is not None:
        return _Q["list_by_client"], (client,)
    if status is not None:
        return _Q["list_by_status"], (status,)
    return _Q["list_all"], ()


async def get(db: Statements, chain_id: UUID) -> Chain:
    """Show a chain with its steps; raises `NotFound`."""
    rows = await db.fetch(_Q["get"], chain_id)
    chain = _found(rows[0] if rows else None, chain_id)
    steps = [row for row in rows if row["step_index"] is not None]
    return {
        **_item(chain),
        "client_id": chain["client_id"],
        "steps": [_step(row) for row in steps],
        "step_results": [
            _result(row) for row in steps if row["step_status"] in _ENDED and row["task_id"]
        ],
        "started_at": chain["started_at"],
        "completed_at": chain["completed_at"],
        "error_message": chain["error_message"],
    }


async def cancel(db: Statements, chain_id: UUID) -> ChainCancelled:
    """End a live chain, with its steps and its task.

    Raises:
        NotFound: no such chain.
        BusinessRule: it has ended.
    """
    row = _found(await db.fetchrow(_Q["cancel"], chain_id), chain_id)
    if not row["cancelled"]:
        raise BusinessRule(f"A chain that is {row['status']} can't be cancelled.")
    return {"chain_id": chain_id, "message": "The chain and its task are cancelled."}


def _found(row: asyncpg.Record | None, chain_id: UUID) -> Any:
    if row is None:
        raise NotFound.of("chain", chain_id)
    return row


def _item(row: asyncpg.Record) -> ChainItem:
    return {
        "chain_id": row["chain_id"],
        "name": row["name"],
        "status": row["status"],
        "total_steps": row["total_steps"],
        "current_step": row["current_step"],
        "created_at": row["created_at"],
    }


def _step(row: asyncpg.Record) -> ChainStep:
    return {
        "step_index": row["step_index"],
        "name": row["step_name"],
        "task_type": row["task_type"],
        "capability_required": row["capability_required"],
        "input_data": Fragment(row["input_data"]),
        "priority": row["priority"],
        "timeout_seconds": row["timeout_seconds"],
        "max_retries": row["max_retries"],
        "use_previous_output": row["use_previous_output"],
        "status": row["step_status"],
        "task_id": row["task_id"],
        "started_at": row["step_started_at"],
        "completed_at": row["step_completed_at"],
    }


def _result(row: asyncpg.Record) -> StepResult:
    return {
        "step_index": row["step_index"],
        "name": row["step_name"],
        "task_id": row["task_id"],
        "status": row["step_status"],
        "result_data": raw_json(row["result_data"]),
        "error_message": row["step_error"],
        "completed_at": row["step_completed_at"],
    }
