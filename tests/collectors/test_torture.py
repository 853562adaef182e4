"""Writers that commit late, roll back and die, while others fold and scrape: nothing is lost."""

import asyncio
import random

import asyncpg
import pytest

from collectors.scrape import Scraper
from tests.support.scraped import Values, assert_invariants, assert_monotone, scrape

WRITERS = 16
EVENTS = 60
STATUSES = ("PENDING", "ASSIGNED", "ACTIVE", "COMPLETED", "FAILED", "CANCELLED")
# A backend that was killed, in whatever state asyncpg noticed it, and deadlocks of the writers.
SURVIVED = (
    asyncpg.AdminShutdownError,
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.DeadlockDetectedError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)
RECOUNT = """
SELECT family, label_1, label_2, bucket, sum(n)::bigint AS n, sum(sum_us)::bigint AS sum_us
  FROM (SELECT array_agg(ROW (e.*)::task_events_open) AS facts FROM task_events AS e) AS all_facts
 CROSS JOIN LATERAL metrics.task_contributions(facts)
 GROUP BY 1, 2, 3, 4 HAVING sum(n) <> 0 OR sum(sum_us) <> 0
"""
SUMS = """
SELECT family, label_1, label_2, bucket, n, sum_us FROM metrics.series WHERE n <> 0 OR sum_us <> 0
"""


async def one_change(connection: asyncpg.Connection, rng: random.Random) -> None:
    if rng.random() < 0.4:
        await connection.execute(
            "INSERT INTO tasks (client_id, task_type, capability_required, priority, status,"
            " assigned_agent_id) SELECT $1, $2, 'x', $3::smallint, $4, 'a' || $3::smallint"
            " FROM generate_series(1, $5)",
            f"c{rng.randrange(3)}",
            f"t{rng.randrange(3)}",
            rng.randint(1, 10),
            rng.choice(STATUSES),
            rng.choice([1, 1, 1, 20]),
        )
    elif rng.random() < 0.9:
        await connection.execute(
            "UPDATE tasks SET status = $1, assigned_agent_id = coalesce(assigned_agent_id, 'a1'),"
            " started_at = now(), priority = $2 WHERE task_id = ANY (ARRAY(SELECT task_id"
            " FROM tasks ORDER BY random() LIMIT $3))",
            rng.choice(STATUSES),
            rng.randint(1, 10),
            rng.choice([1, 5]),
        )
    else:
        await connection.execute(
            "DELETE FROM tasks WHERE task_id = ANY (ARRAY(SELECT task_id FROM tasks"
            " ORDER BY random() LIMIT 3))"
        )


async def write(database_url: str, seed: int) -> None:
    rng = random.Random(seed)
    connection: asyncpg.Connection | None = None
    for _ in range(EVENTS):
        if connection is None or connection.is_closed():
            connection = await asyncpg.connect(
                database_url, server_settings={"application_name": "writer"}
            )
        try:
            transaction = connection.transaction()
            await transaction.start()
            for _ in range(rng.randint(1, 3)):
                await one_change(connection, rng)
            await asyncio.sleep(rng.choice([0, 0, 0.01, 0.1]))
            fate = rng.random()
            if fate < 0.15:
                await transaction.rollback()
            elif fate < 0.2:
                connection.terminate()  # as if the process had been killed
            else:
                await transaction.commit()
        except SURVIVED:
            connection.terminate()
    if connection is not None:
        await connection.close()


async def fold(database_url: str, batch: int) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        while True:
            await connection.fetchval("SELECT metrics.fold($1)", batch)
            await asyncio.sleep(0.01)
    finally:
        await connection.close()


async def kill(database_url: str) -> None:
    """Ends a backend now and then, in whatever it is doing."""
    connection = await asyncpg.connect(database_url)
    try:
        while True:
            await asyncio.sleep(0.3)
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'writer'"
                " ORDER BY random() LIMIT 1"
            )
    finally:
        await connection.close()


async def check(scraper: Scraper, seen: list[Values]) -> None:
    before: Values = {}
    while True:
        found = await scrape(scraper)
        assert_monotone(before, found)
        assert_invariants(found)
        before = found
        seen.append(found)
        await asyncio.sleep(0)


async def differences(db: asyncpg.Connection) -> set[tuple[object, ...]]:
    recount = {tuple(row) for row in await db.fetch(RECOUNT)}
    return recount ^ {tuple(row) for row in await db.fetch(SUMS)}


async def torture(database_url: str, scraper: Scraper, seed: int) -> int:
    seen: list[Values] = []
    background = [
        asyncio.create_task(fold(database_url, 50)),
        asyncio.create_task(fold(database_url, 500)),
        asyncio.create_task(kill(database_url)),
        asyncio.create_task(check(scraper, seen)),
    ]
    try:
        async with asyncio.TaskGroup() as group:
            for writer in range(WRITERS):
                group.create_task(write(database_url, seed * 100 + writer))
        for task in background[2:]:
            if task.done():
                task.result()
    finally:
        for task in background:
            task.cancel()
        results = await asyncio.gather(*background, return_exceptions=True)
    problems = [r for r in (results[3],) if not isinstance(r, asyncio.CancelledError)]
    assert problems == []
    return len(seen)


async def test_no_scrape_is_wrong_while_writers_fail(
    database_url: str, db: asyncpg.Connection, scraper: Scraper
) -> None:
    scrapes = await torture(database_url, scraper, 1)
    assert scrapes > 20
    while await db.fetchval("SELECT metrics.fold()") != 0:
        pass
    assert await differences(db) == set()
    assert await db.fetchval("SELECT count(*) FROM task_events") > 1000
    assert await db.fetchval("SELECT count(*) FROM task_events_open") == 0


async def test_broken_definition_is_caught(
    database_url: str, db: asyncpg.Connection, scraper: Scraper
) -> None:
    """The torture would see it: a fold that leaves one contribution out."""
    source = await db.fetchval("SELECT pg_get_functiondef('metrics.fold'::regproc)")
    broken = source.replace(
        "AS c\n            ON CONFLICT",
        "AS c WHERE c.family <> 'ains_tasks_failed_total'\n            ON CONFLICT",
        1,
    )
    assert broken != source
    await db.execute(broken)
    with pytest.raises(AssertionError):
        await torture(database_url, scraper, 2)
