"""Scrapes of what is no primary, by who is no superuser, and through a pooler."""

import secrets
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from ains.db.embedded import EmbeddedPostgres, temporary_data_dir
from ains.db.migrations import upgrade
from collectors.agents import AgentCollector
from collectors.chains import ChainCollector
from collectors.connection import pool_maker
from collectors.scrape import Scraper
from collectors.tasks import TaskCollector
from collectors.webhooks import WebhookCollector
from tests.support.pgbouncer import needs_pgbouncer, pgbouncer
from tests.support.scraped import Values, scrape, total

AN_AGENT = """
INSERT INTO agents (agent_id, display_name, endpoint, public_key, signature)
VALUES ('a', 'A', 'http://a', '00', '00')
"""
SOME_TASKS = """
INSERT INTO tasks (client_id, task_type, capability_required, status, assigned_agent_id)
SELECT 'c', 't', 'x', status, 'a' FROM unnest(ARRAY['PENDING', 'COMPLETED', 'FAILED']) AS status
"""


@asynccontextmanager
async def scraping(dsn: str, *, pooler: bool = False) -> AsyncIterator[Scraper]:
    scraper = Scraper(
        pool_maker(dsn, pooler=pooler),
        [TaskCollector(), AgentCollector(), ChainCollector(), WebhookCollector()],
    )
    try:
        yield scraper
    finally:
        await scraper.close()


def shown(found: Values) -> Values:
    """What doesn't differ from scrape to scrape by itself."""
    return {key: value for key, value in found.items() if not key[0].startswith("ains_scrape_")}


async def test_role_that_may_only_select_from_the_metrics_can_scrape(
    scraper: Scraper, database_url: str, db: asyncpg.Connection
) -> None:
    await db.execute(AN_AGENT)
    await db.execute(SOME_TASKS)
    role = f"scraper_{secrets.token_hex(4)}"
    await db.execute(f"CREATE ROLE {role}")
    try:
        await db.execute(f"GRANT USAGE ON SCHEMA metrics TO {role}")
        await db.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA metrics TO {role}")
        async with scraping(f"{database_url}?role={role}") as theirs:
            found = await scrape(theirs)
        assert total(found, "ains_scrape_collector_success") == 4
        assert shown(found) == shown(await scrape(scraper))
        await db.execute(f"SET ROLE {role}")
        for table in ("tasks", "agents", "task_events"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await db.fetch(f"SELECT * FROM {table}")
        await db.execute("RESET ROLE")
    finally:
        await db.execute(f"DROP OWNED BY {role}")
        await db.execute(f"DROP ROLE {role}")


@needs_pgbouncer
async def test_pgbouncer_in_transaction_mode_shows_the_same(
    scraper: Scraper, database_url: str, db: asyncpg.Connection
) -> None:
    await db.execute(AN_AGENT)
    await db.execute(SOME_TASKS)
    expected = shown(await scrape(scraper))
    async with pgbouncer(database_url) as dsn, scraping(dsn, pooler=True) as pooled:
        for _ in range(3):
            found = await scrape(pooled)
            assert total(found, "ains_scrape_collector_success") == 4
            assert shown(found) == expected


async def test_hot_standby_shows_the_same() -> None:
    """Nothing of a scrape writes, or locks what a standby can't lock."""
    with temporary_data_dir() as directory:
        async with await EmbeddedPostgres.start(directory, fast=True) as primary:
            await upgrade(primary.dsn)
            connection = await asyncpg.connect(primary.dsn)
            for statement in (AN_AGENT, SOME_TASKS, "SELECT metrics.fold()", SOME_TASKS):
                await connection.execute(statement)
            await connection.close()
            async with scraping(primary.dsn) as scraper:
                expected = await scrape(scraper)
        # With this file the server that starts is a standby whose primary says nothing.
        signal = directory / "pgdata" / "standby.signal"
        signal.touch()
        shutil.chown(signal, signal.parent.owner())
        async with (
            await EmbeddedPostgres.start(directory, fast=True) as standby,
            scraping(standby.dsn) as scraper,
        ):
            connection = await asyncpg.connect(standby.dsn)
            assert await connection.fetchval("SELECT pg_is_in_recovery()")
            await connection.close()
            found = await scrape(scraper)
    assert total(found, "ains_scrape_collector_success") == 4
    assert total(found, "ains_tasks_created_total") == 6
    assert shown(found) == shown(expected)
