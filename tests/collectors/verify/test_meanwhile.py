"""Verification is clean while others write, fold, rotate, prune and drop."""

import asyncio
import random
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import cycle

import asyncpg
import pytest

from collectors.verify import Difference, Report
from tests.support.retention import ended_tasks, make_day
from tests.support.verifying import busy, fold, verified
from tests.torture.actions import Writer
from tests.torture.upkeep import upkeep
from tests.torture.world import lay_ground
from tests.torture.writers import write_for_ever


async def in_the_middle(
    monkeypatch: pytest.MonkeyPatch,
    db: asyncpg.Connection,
    database_url: str,
    *statements: str,
) -> tuple[Report, list[object]]:
    """A verification during which somebody else does this, after the open facts were read."""
    answers: list[object] = []

    async def interrupt(*_: object) -> list[Difference]:
        other = await asyncpg.connect(database_url)
        try:
            answers.extend([await other.fetchval(statement) for statement in statements])
        finally:
            await other.close()
        return []

    monkeypatch.setattr("collectors.verify.state.against_tables", interrupt)
    return await verified(db), answers


async def test_open_parts_can_be_folded_and_rotated_meanwhile(
    db: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await busy(db)
    await db.execute("SELECT metrics.fold(100)")
    report, answers = await in_the_middle(
        monkeypatch, db, database_url, "SELECT metrics.fold(10)", "SELECT metrics.rotate()"
    )
    assert answers == [10, True]
    assert report.differences == []
    assert report.open_facts > 30


async def test_partitions_can_be_pruned_but_not_dropped_meanwhile(
    db: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the verification's snapshot the facts are still there."""
    await make_day(db, (datetime.now(UTC) - timedelta(days=9)).date())
    await ended_tasks(db, 100, timedelta(days=9))
    await fold(db)
    report, answers = await in_the_middle(
        monkeypatch,
        db,
        database_url,
        "SELECT metrics.prune_ledger(now())",
        "SELECT metrics.prune_ledger(now())",
        "SELECT metrics.drop_partitions('0')",
    )
    assert report.facts > 100
    assert report.differences == []
    assert answers == [report.facts, 0, None]
    assert await db.fetchval("SELECT count(*) FROM metrics.drop_partitions('0')") == 1


async def retain(database_url: str) -> None:
    """Facts of other days come, are folded, pruned, and their partitions made and dropped."""
    connection = await asyncpg.connect(database_url)
    try:
        for days in cycle((9, 8, 7)):
            name = f"task_events_closed_{days}"
            day = f"(now() AT TIME ZONE 'UTC')::date - {days}"
            bounds = await connection.fetchrow(f"SELECT {day} AS first, {day} + 1 AS next")
            assert bounds is not None
            with suppress(asyncpg.CheckViolationError, asyncpg.DuplicateTableError):
                await connection.execute(
                    f"CREATE TABLE {name} PARTITION OF task_events_closed"
                    f" FOR VALUES FROM ('{bounds['first']}Z') TO ('{bounds['next']}Z')"
                )
            await ended_tasks(connection, 20, timedelta(days=days))
            await connection.fetchval("SELECT metrics.fold()")
            await connection.fetchval("SELECT metrics.prune_ledger(now() - interval '8 days', 30)")
            await connection.fetch("SELECT metrics.drop_partitions('0')")
    finally:
        await connection.close()


async def test_clean_at_any_moment_of_a_busy_database(
    database_url: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside writers that fail, folds, and retention; each time another snapshot."""
    monkeypatch.setattr("collectors.verify.facts._PORTION_PAGES", 4)
    await lay_ground(db)
    work = [upkeep(database_url, random.Random(4)), retain(database_url)]
    for n in range(4):
        writer = Writer(f"w0-{n}", "ghost", 20)
        work.append(write_for_ever(database_url, random.Random(n), writer))
    tasks = [asyncio.create_task(one) for one in work]
    reports: list[Report] = []
    try:
        while len(reports) < 10 or reports[-1].facts < 2000:
            reports.append(await verified(db))
            assert reports[-1].differences == []
            for task in tasks:
                assert not task.done(), task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    assert await db.fetchval("SELECT count(*) FROM metrics.pruned") > 0
    assert (await verified(db)).differences == []
