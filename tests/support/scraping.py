"""Scrapes over HTTP, and what stands in their way."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from collectors.exposition import metrics_handler
from collectors.scrape import Scraper, Snapshot

ALL = {"tasks", "agents", "chains", "webhooks", "queue"}
"""The collectors of the fixture `scraper`."""


@asynccontextmanager
async def locked(database_url: str, table: str) -> AsyncIterator[None]:
    """Somebody holds a lock that even readers wait for."""
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


async def waiting(db: asyncpg.Connection) -> list[int]:
    """Process ids of scrapes that wait for a lock."""
    rows = await db.fetch(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'ains metrics'"
        " AND datname = current_database() AND wait_event_type = 'Lock'"
    )
    return [row["pid"] for row in rows]


def succeeded(snapshot: Snapshot) -> set[str]:
    return {outcome.name for outcome in snapshot.outcomes if outcome.error is None}


@asynccontextmanager
async def client_of(scraper: Scraper) -> AsyncIterator[TestClient[Any, Any]]:
    app = web.Application()
    app.router.add_get("/metrics", metrics_handler(scraper))
    async with TestClient(TestServer(app)) as client:
        yield client
    await scraper.close()
