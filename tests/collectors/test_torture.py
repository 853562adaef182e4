"""Beside writers that fail, folds and backends that die: on any server, and with few rights.

tests/torture has the long run, in which the server itself is killed as well.
"""

import asyncio
import random

import asyncpg

from ains.metrics import database_collectors
from collectors.scrape import Scraper
from collectors.verify import verify
from tests.support.retention import fold
from tests.torture.actions import Writer
from tests.torture.judge import Judge, of
from tests.torture.record import disagreements
from tests.torture.upkeep import upkeep
from tests.torture.world import lay_ground
from tests.torture.writers import NAME, write_for_ever

FACTS = 4000
SCRAPES = 30


async def kill(database_url: str) -> None:
    """Ends a backend now and then, in whatever it is doing."""
    connection = await asyncpg.connect(database_url)
    try:
        while True:
            await asyncio.sleep(0.3)
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = $1"
                " ORDER BY random() LIMIT 1",
                NAME,
            )
    finally:
        await connection.close()


async def test_no_scrape_is_wrong_while_writers_fail(
    database_url: str, db: asyncpg.Connection, scraper: Scraper
) -> None:
    await lay_ground(db)
    judge = Judge("the scraper", of(scraper))
    work = [judge.watch(0), kill(database_url)]
    work += [upkeep(database_url, random.Random(n)) for n in range(2)]
    for n in range(8):
        writer = Writer(f"w0-{n}", "ghost", 20)
        work.append(write_for_ever(database_url, random.Random(n), writer))
    tasks = [asyncio.create_task(one) for one in work]
    try:
        async with asyncio.timeout(60):
            written = 0
            while written < FACTS or judge.scrapes.total() < SCRAPES:
                for task in tasks:
                    assert not task.done(), task.result()
                await asyncio.sleep(0.1)
                written = await db.fetchval("SELECT coalesce(sum(n), 0) FROM torture.facts")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    await judge.look()
    assert judge.complaints == []
    assert await disagreements(db, judge.last) == []
    assert (await verify(db, database_collectors())).differences == []
    await fold(db)
    await judge.look()
    assert judge.complaints == []
    assert (await verify(db, database_collectors())).differences == []
