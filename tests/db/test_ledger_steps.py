"""The steps of a life without trouble are short cuts: without them the ledger writes the same."""

import json
import re
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import asyncpg

from ains.domain.states import TaskStatus
from tests.support.rows import add_agent, events

_START = datetime(2026, 1, 1, tzinfo=UTC)
_SHORT_CUTS = re.compile(
    r"    -- A life without trouble:\n.*(?=    -- Whatever else may happen:)", re.DOTALL
)
_INSERT = """
    INSERT INTO tasks (client_id, task_type, capability_required, priority, status,
                       assigned_agent_id, is_blocked, queued_at, assigned_at, started_at,
                       completed_at)
    VALUES ('client', 'type', 'skill', 3, $1, $2, $3, $4, $5, $6, $7) RETURNING task_id
"""
_UPDATE = """
    UPDATE tasks SET status = $2, assigned_agent_id = $3, priority = 7 WHERE task_id = $1
"""
_FACTS = """
    SELECT event, task_type, client_id, agent_id, reason, retry, from_status, to_status,
           from_priority, to_priority, blocked_change, duration_us, queue_us
      FROM task_events WHERE task_id = $1 ORDER BY at
"""
_TOLD = "SELECT payload FROM webhook_deliveries WHERE subject_id = $1 ORDER BY sequence"
_WEBHOOK = """
    INSERT INTO webhooks (webhook_id, agent_id, url, host, events, secret)
    VALUES (gen_random_uuid(), 'client', 'http://hook.test/', 'hook.test', $1, 'whsec_')
"""
_DONE = """
    SELECT total_tasks_completed AS completed, total_tasks_failed AS failed
      FROM agents ORDER BY agent_id
"""


def _told(payload: str) -> tuple[Any, ...]:
    event = json.loads(payload)
    data = event["data"]
    return event["type"], data["status"], data["agent_id"], data["failure_reason"]


async def _lives(db: asyncpg.Connection) -> dict[Any, Any]:
    """What every status and every change of it leaves, with an agent or without, and blocked."""
    seen: dict[Any, Any] = {}
    times = [_START + timedelta(seconds=n) for n in (0, 2, 5, 9)]
    agents = ("agent", None)
    for life in product(TaskStatus, TaskStatus, agents, agents, (False, True)):
        before, after, had, has, blocked = life
        try:
            async with db.transaction():
                task = await db.fetchval(_INSERT, before, had, blocked, *times)
                await db.execute(_UPDATE, task, after, has)
                facts = [tuple(row) for row in await db.fetch(_FACTS, task)]
                told = [_told(row["payload"]) for row in await db.fetch(_TOLD, task)]
            seen[life] = facts, told
        except asyncpg.CheckViolationError as refusal:
            seen[life] = refusal.sqlstate
    return seen


async def test_short_cuts_write_what_the_general_case_writes(db: asyncpg.Connection) -> None:
    for agent_id in ("agent", "client"):
        await add_agent(db, agent_id)
    told = ("created", "assigned", "started", "completed", "failed", "cancelled")
    await db.execute(_WEBHOOK, [f"task.{event}" for event in told])
    by_short_cuts = await _lives(db)
    done = await db.fetch(_DONE)
    definition = await db.fetchval("SELECT pg_get_functiondef('tasks_ledger'::regproc)")
    general, cuts = _SHORT_CUTS.subn("", definition)
    assert cuts == 1
    await db.execute(general)
    assert await _lives(db) == by_short_cuts
    assert [(2 * row["completed"], 2 * row["failed"]) for row in done] == [
        tuple(row) for row in await db.fetch(_DONE)
    ]


async def test_facts_are_in_order_however_coarse_the_clock(db: asyncpg.Connection) -> None:
    """Those of one statement, on a clock that stands still meanwhile."""
    definition = await db.fetchval("SELECT pg_get_functiondef('tasks_ledger'::regproc)")
    await db.execute(definition.replace("clock_timestamp()", "now()"))
    task = await db.fetchval(_INSERT, "ACTIVE", "agent", False, *[_START] * 4)
    await db.execute("UPDATE tasks SET deadline_at = now() WHERE task_id = $1", task)
    await db.execute(
        "UPDATE tasks SET status = 'FAILED', failure_reason = 'timeout' WHERE task_id = $1", task
    )
    await db.execute("UPDATE tasks SET status = 'COMPLETED' WHERE task_id = $1", task)
    assert await events(db, task) == [
        *("created", "started", "timed_out", "failed", "reopened", "completed")
    ]
    moments = "SELECT count(DISTINCT at) FROM task_events WHERE task_id = $1"
    assert await db.fetchval(moments, task) == 6


async def test_only_what_is_out_of_the_ordinary_has_details(db: asyncpg.Connection) -> None:
    task = await db.fetchval(_INSERT, "PENDING", None, False, *[_START] * 4)
    blocked = await db.fetchval(_INSERT, "PENDING", None, True, *[_START] * 4)
    for status in ("ASSIGNED", "ACTIVE", "COMPLETED"):
        await db.execute(
            "UPDATE tasks SET status = $2, assigned_agent_id = 'agent' WHERE task_id = $1",
            *(task, status),
        )
    await db.execute("UPDATE tasks SET priority = 7 WHERE task_id = $1", blocked)
    await db.execute("UPDATE tasks SET is_blocked = false WHERE task_id = $1", blocked)
    await db.execute("DELETE FROM tasks WHERE task_id = $1", blocked)
    details = """
        SELECT task_event(from_status, to_status, details), details
          FROM task_events_open WHERE task_id = $1 ORDER BY at
    """
    assert [tuple(row) for row in await db.fetch(details, task)] == [
        *((event, None) for event in ("created", "assigned", "started", "completed"))
    ]
    assert [tuple(row) for row in await db.fetch(details, blocked)] == [
        ("created", ("", 0, 3, 1)),
        ("reprioritised", ("", 0, 3, 0)),
        ("unblocked", ("", 0, 7, -1)),
        ("cancelled", ("deleted", 0, 7, 0)),
    ]


async def test_a_fact_written_by_hand_may_leave_its_details_out(db: asyncpg.Connection) -> None:
    """Somebody makes up for a change whose trigger was off: the fold goes on."""
    for details in (None, (None, None, None, None)):
        await db.execute(
            "INSERT INTO task_events_open (at, task_id, task_type, client_id, agent_id,"
            " from_status, to_status, priority, details)"
            " VALUES (now(), gen_random_uuid(), 't', 'c', 'a', 'ACTIVE', 'FAILED', 5, $1)",
            details,
        )
    failed = "SELECT failure_reason, value FROM metrics.ains_tasks_failed_total"
    assert [tuple(row) for row in await db.fetch(failed)] == [("", 2)]
    assert await db.fetchval("SELECT metrics.fold()") == 2
    assert [tuple(row) for row in await db.fetch(failed)] == [("", 2)]
