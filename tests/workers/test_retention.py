"""What has been kept for long enough goes hour by hour, and days to come are ready."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from ains.db.pool import Database
from ains.domain.retention import Ages
from ains.workers.retention import Retention
from tests.support.databases import eventually
from tests.support.logs import captured, parsed
from tests.support.retention import count, ended_tasks, fold, make_day, today, unbalanced
from tests.support.serving import serving

HOUR = 3600
DAY = timedelta(days=1)
EVERYTHING = Ages(chains=30, tasks=30, deliveries=30, facts=30)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    made = Database(database_url)
    yield made
    await made.close()


async def passed(worker: Retention) -> list[float]:
    """The pauses of one pass; one for each batch of each of the three end states."""
    pauses = [await worker.step()]
    while pauses[-1] != HOUR:
        pauses.append(await worker.step())
    return pauses


async def test_a_pass_prunes_in_batches_with_pauses(
    database: Database, db: asyncpg.Connection
) -> None:
    await ended_tasks(db, 3100, 40 * DAY)
    await fold(db)
    pauses = await passed(Retention(database, EVERYTHING))
    assert len(pauses) == 3 * 2 + 2 + 1
    assert min(pauses) >= 0.1
    assert await count(db, "tasks") == await count(db, "task_events") == 0
    assert await unbalanced(db) == []


async def test_days_are_made_ahead_and_dropped(database: Database, db: asyncpg.Connection) -> None:
    old = await make_day(db, (today() - 40 * DAY).date())
    worker = Retention(database, EVERYTHING)
    await passed(worker)
    assert await count(db, "metrics.ledger_partitions()") == 3 * (1 + 8) + 1
    await db.execute("UPDATE metrics.pruned_partitions SET empty_since = now() - interval '25 h'")
    with captured(level="info") as out:
        await passed(worker)
    assert [line["partitions"] for line in parsed(out)] == [[old]]
    assert await count(db, "metrics.ledger_partitions()") == 3 * (1 + 8)


async def test_clock_that_is_ahead_prunes_nothing_early(
    database: Database, db: asyncpg.Connection
) -> None:
    await ended_tasks(db, 3, 31 * DAY)
    await ended_tasks(db, 5, 29 * DAY)
    await fold(db)
    await passed(Retention(database, EVERYTHING, now=lambda: datetime.now(UTC) + 60 * DAY))
    assert await count(db, "tasks") == 5
    assert await unbalanced(db) == []


async def test_leaves_it_to_another_process(
    database: Database, database_url: str, db: asyncpg.Connection
) -> None:
    await ended_tasks(db, 10, 40 * DAY)
    worker = Retention(database, EVERYTHING)
    other = await asyncpg.connect(database_url)
    async with other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock(hashtextextended('ains.retention', 0))")
        assert await passed(worker) == [HOUR]
    assert await count(db, "tasks") == 10
    assert len(await passed(worker)) > 1
    assert await count(db, "tasks") == 0
    await other.close()


async def test_begins_again_after_an_error(
    database: Database, database_url: str, db: asyncpg.Connection
) -> None:
    await ended_tasks(db, 1500, 40 * DAY)
    worker = Retention(database, EVERYTHING)
    await worker.step()
    assert await count(db, "tasks") == 1000
    await db.execute("ALTER TABLE tasks RENAME TO hidden")
    with pytest.raises(Exception, match="AINS tables"):
        await worker.step()
    await db.execute("ALTER TABLE hidden RENAME TO tasks")
    await passed(worker)
    assert await count(db, "tasks") == 0


async def test_says_when_tomorrow_has_no_place(
    database: Database, database_url: str, db: asyncpg.Connection
) -> None:
    reader = await asyncpg.connect(database_url)
    async with reader.transaction():
        await reader.fetch("SELECT * FROM chain_events")
        with captured(level="info") as out:
            await passed(Retention(database, Ages()))
    assert [line["level"] for line in parsed(out)] == ["warning"]
    await reader.close()


async def test_runs_in_the_service(database_url: str, db: asyncpg.Connection) -> None:
    await ended_tasks(db, 20, 40 * DAY)
    await ended_tasks(db, 5, 20 * DAY)
    async with serving(database_url=database_url, task_retention_days="10") as server:

        async def is_empty() -> bool:
            return await count(db, "tasks") == 0

        await eventually(is_empty)
        detail = (await server.get("/health/detail"))[2]
        assert '"retention"' in detail
