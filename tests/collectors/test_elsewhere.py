"""Scrapes by who is no superuser, and through a pooler. Of a replica: test_standby."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from collectors.agents import AgentCollector
from collectors.chains import ChainCollector
from collectors.connection import pool_maker
from collectors.queue import QueueCollector
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
        [
            TaskCollector(),
            AgentCollector(),
            ChainCollector(),
            WebhookCollector(),
            QueueCollector(),
        ],
    )
    try:
        yield scraper
    finally:
        await scraper.close()


def shown(found: Values) -> Values:
    """What doesn't differ from scrape to scrape by itself."""
    return {key: value for key, value in found.items() if not key[0].startswith("ains_scrape_")}


async def test_role_that_may_only_read_the_metrics_can_scrape(
    scraper: Scraper, scraper_url: str, db: asyncpg.Connection
) -> None:
    await db.execute(AN_AGENT)
    for statement in (SOME_TASKS, "SELECT metrics.fold()", SOME_TASKS):
        await db.execute(statement)
    async with scraping(scraper_url) as theirs:
        found = await scrape(theirs)
    assert total(found, "ains_scrape_collector_success") == 5
    assert shown(found) == shown(await scrape(scraper))


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
            assert total(found, "ains_scrape_collector_success") == 5
            assert shown(found) == expected
