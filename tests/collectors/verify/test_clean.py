"""Verification is clean after anything that may happen."""

import asyncpg
import pytest

from tests.support.rows import add_task
from tests.support.verifying import busy, facts, fold, verified


async def test_clean_when_empty(db: asyncpg.Connection) -> None:
    report = await verified(db)
    assert report.differences == []
    assert (report.facts, report.series, report.skipped) == (0, 0, [])


async def test_clean_with_sums_that_a_float_cannot_hold(db: asyncpg.Connection) -> None:
    """Ten million tasks that take a quarter of an hour each add up to as much."""
    await db.execute("""
        INSERT INTO tasks (client_id, task_type, capability_required, status,
                           started_at, completed_at)
        SELECT 'c', 't' || n, 'x', 'COMPLETED',
               now() - interval '290 years' - n * interval '1 us', now()
          FROM generate_series(1, 50) AS n
    """)
    assert (await verified(db)).differences == []


async def test_clean_with_sums_that_the_database_cannot_hold(db: asyncpg.Connection) -> None:
    """Somebody imports tasks that never had a beginning: they count, and nothing else stops."""
    ancient = """
        INSERT INTO tasks (client_id, task_type, capability_required, status,
                           queued_at, assigned_at, assigned_agent_id, started_at, completed_at)
        SELECT 'c', 't', 'x', 'COMPLETED', '0001-01-01', now(), 'a', '0001-01-01', now()
          FROM generate_series(1, 200)
    """
    for times in (1, 2, 3):
        await db.execute(ancient)
        assert (await verified(db)).differences == []
        await fold(db)
        assert (await verified(db)).differences == []
        totals = await db.fetch("""
            SELECT sum(n), max(sum_us) FROM metrics.totals
             WHERE family = 'ains_task_duration_seconds'
        """)
        assert [*map(tuple, totals)] == [(200 * times, 2**63 - 1)]


@pytest.mark.parametrize("folded", [False, True], ids=["all open", "half folded"])
async def test_clean_whatever_happened(db: asyncpg.Connection, folded: bool) -> None:
    await busy(db)
    if folded:
        await db.execute("SELECT metrics.fold(100)")
    report = await verified(db)
    assert report.differences == []
    assert report.facts == await facts(db)
    assert (report.open_facts < report.facts) == folded
    assert report.series > 50


async def test_clean_after_rows_were_deleted_and_history_pruned(db: asyncpg.Connection) -> None:
    await busy(db)
    await fold(db)
    await db.execute("DELETE FROM tasks; DELETE FROM task_chains; DELETE FROM agents")
    async with db.transaction():
        await db.execute("""
            SELECT metrics.add_pruned(
                ARRAY(SELECT ROW (e.*)::task_events_open FROM task_events_closed AS e
                       ORDER BY at LIMIT 100), '{}', '{}');
            DELETE FROM task_events_closed
             WHERE at IN (SELECT at FROM task_events_closed ORDER BY at LIMIT 100)
        """)
    report = await verified(db)
    assert report.differences == []


async def test_portions_and_partitions_are_counted_once_each(
    db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collectors.verify.facts._PORTION_PAGES", 2)
    await db.execute("""
        CREATE TABLE task_events_closed_past PARTITION OF task_events_closed
        FOR VALUES FROM ('2001-01-01') TO ('2002-01-01')
    """)
    await busy(db)
    await fold(db)
    await db.execute("""
        UPDATE task_events_closed SET at = timestamptz '2001-06-01' + (at - date_trunc('day', at))
         WHERE hashtext(task_id::text) % 3 = 0
    """)
    report = await verified(db)
    assert [d for d in report.differences if d.part != "first_at"] == []
    assert report.facts == await facts(db)


async def test_clean_with_capped_labels(db: asyncpg.Connection) -> None:
    await db.execute("UPDATE metrics.settings SET label_limit = 2")
    await busy(db, changes=40)
    await fold(db)
    for number in range(4):
        await add_task(db, task_type=f"late-{number}", client_id=f"late-{number}")
        await fold(db)
    await add_task(db, task_type="last", client_id="last")
    shown = await db.fetchval(
        "SELECT sum(value) FROM metrics.ains_tasks_created_total WHERE task_type = 'other'"
    )
    assert shown == 5
    assert (await verified(db)).differences == []
