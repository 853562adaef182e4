"""What scrapes read of the open parts, against the definition, and what everybody else reads."""

import json

import asyncpg
import pytest

from tests.support.retention import ended_tasks
from tests.support.verifying import busy

_CONTRIBUTIONS = """
    SELECT family, label_1, label_2, bucket, n, sum_us, first_at
      FROM metrics.{0}_contributions((SELECT array_agg(o) FROM public.{0}_events_open AS o))
"""
_CLOSED = """
    INSERT INTO metrics.label_values (label, value, shown)
    SELECT 'task_type', t.task_type, t.task_type = (SELECT min(u.task_type) FROM tasks AS u)
      FROM (SELECT DISTINCT task_type FROM tasks) AS t
        ON CONFLICT (label, value) DO UPDATE SET shown = excluded.shown;
    UPDATE metrics.label_guards SET closed = true
"""


@pytest.mark.parametrize("closed", [False, True], ids=["open labels", "closed labels"])
@pytest.mark.parametrize("ledger", ["task", "chain", "webhook"])
async def test_tail_is_what_the_definition_says(
    db: asyncpg.Connection, ledger: str, closed: bool
) -> None:
    await busy(db)
    if closed:
        await db.execute(_CLOSED)
    tail, contributions = f"SELECT * FROM metrics.{ledger}_tail", _CONTRIBUTIONS.format(ledger)
    assert await db.fetch(tail)
    assert await db.fetch(f"({tail}) EXCEPT ALL ({contributions})") == []
    assert await db.fetch(f"({contributions}) EXCEPT ALL ({tail})") == []


async def test_tail_does_not_look_for_exemplars(db: asyncpg.Connection) -> None:
    """An eighth of a scrape's query would go there."""
    definition = await db.fetchval("SELECT pg_get_viewdef('metrics.task_tail'::regclass)")
    assert "ains_task_duration_seconds" in definition
    assert "array_agg" not in definition


async def test_no_view_is_so_dear_that_jit_would_compile_it(db: asyncpg.Connection) -> None:
    """It takes seconds, and is on by default; the planner goes by the size of the file."""
    await ended_tasks(db, 1)
    await db.execute(
        "INSERT INTO task_events_open SELECT (o).* FROM task_events_open AS o,"
        " generate_series(1, 15000)"
    )
    await db.execute("DELETE FROM task_events_open WHERE ctid > '(3,0)'")
    for view in ("ains_tasks_created_total", "ains_task_duration_seconds", "ains_tasks_in_queue"):
        plan = json.loads(await db.fetchval(f"EXPLAIN (FORMAT json) SELECT * FROM metrics.{view}"))
        assert plan[0]["Plan"]["Total Cost"] < 100_000, view
