"""`ains prune`, also when it is killed."""

import asyncio
import signal
import subprocess
from datetime import timedelta

import asyncpg

from tests.support.databases import eventually
from tests.support.retention import count, ended_tasks, fold, make_day, prune, today, unbalanced
from tests.support.serving import AINS, ains, environment

DAY = timedelta(days=1)


async def test_says_what_it_deleted(database_url: str, db: asyncpg.Connection) -> None:
    await ended_tasks(db, 30, 40 * DAY)
    await ended_tasks(db, 30, 20 * DAY)
    await fold(db)
    arguments = ("prune", "--ledger-days", "30", "--chains-days", "0")
    before = await db.fetch("SELECT * FROM metrics.series ORDER BY 1, 2, 3, 4")
    dry = await asyncio.to_thread(ains, *arguments, "--dry-run", database_url=database_url)
    assert await count(db, "tasks") == 60
    done = await asyncio.to_thread(ains, *arguments, database_url=database_url)
    assert done.stdout.splitlines() == [
        "All chains are kept for ever.",
        "Deleted 30 tasks that ended more than 30 days ago.",
        "Deleted 0 deliveries that ended more than 30 days ago.",
        "Deleted 60 facts of the ledger that happened more than 30 days ago.",
    ]
    assert dry.stdout == done.stdout.replace("Deleted", "Would delete")
    assert (await count(db, "tasks"), await count(db, "task_events")) == (30, 60)
    assert await db.fetch("SELECT * FROM metrics.series ORDER BY 1, 2, 3, 4") == before


async def test_days_win_over_the_settings(database_url: str, db: asyncpg.Connection) -> None:
    await ended_tasks(db, 10, 40 * DAY)
    settings = {"database_url": database_url, "task_retention_days": "50"}
    await asyncio.to_thread(ains, "prune", **settings)
    assert await count(db, "tasks") == 10
    await asyncio.to_thread(ains, "prune", "--tasks-days", "20", **settings)
    assert await count(db, "tasks") == 0


async def test_killed_between_and_within_batches(database_url: str, db: asyncpg.Connection) -> None:
    """kill -9 at some time or other: the sums hold, and the next one does the rest."""
    await make_day(db, (today() - 100 * DAY).date())
    await ended_tasks(db, 30_000, 100 * DAY)
    await fold(db)
    before = await db.fetch("SELECT * FROM metrics.series ORDER BY 1, 2, 3, 4")
    for left in (70_000, 30_000):
        process = subprocess.Popen(
            [*AINS, "prune"],
            env=environment(database_url=database_url),
            stdout=subprocess.DEVNULL,
        )

        async def has_come_to(rows: int = left) -> bool:
            now = await count(db, "tasks") + await count(db, "task_events")
            return now < rows

        await eventually(has_come_to, 60, 0)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert await count(db, "tasks") + await count(db, "task_events") > 0
        assert await unbalanced(db) == []
        assert await db.fetch("SELECT * FROM metrics.series ORDER BY 1, 2, 3, 4") == before
    await prune(db, 90 * DAY)
    assert await count(db, "task_events") == 0
    assert await unbalanced(db) == []
