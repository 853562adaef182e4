"""Connects the collectors, which know nothing of AINS, to this process and its database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import asyncpg
from prometheus_client.registry import Collector

from ains import __version__
from ains.db.pool import is_pooled
from ains.domain.service import NAME
from ains.logs import Throttle, get_logger
from collectors.agents import AgentCollector
from collectors.base import DatabaseCollector
from collectors.chains import ChainCollector
from collectors.connection import pool_maker
from collectors.database import DatabaseUseCollector, PoolState
from collectors.exporter import InfoCollector
from collectors.http import HttpCollector
from collectors.queue import QueueCollector
from collectors.scrape import Scraper
from collectors.tasks import TaskCollector
from collectors.webhooks import WebhookCollector

if TYPE_CHECKING:
    from ains.db.pool import Database
    from ains.settings import Settings
    from collectors.database import QueryStats
    from collectors.http import HttpMetrics

__all__ = ["POOLER", "database_collectors", "database_scraper", "in_process", "info"]

POOLER: Final[dict[str, bool | None]] = {"auto": None, "on": True, "off": False}
"""AINS_DATABASE_PGBOUNCER as `Database` has it."""

_CONNECT_SECONDS: Final = 5.0

log = get_logger(__name__)


def in_process(
    settings: Settings, http: HttpMetrics, stats: QueryStats, database: Database
) -> list[Collector]:
    """The collectors of what is counted in this process."""

    def pool() -> PoolState:
        return PoolState(database.active, database.idle, database.max_size)

    return [HttpCollector(http), DatabaseUseCollector(stats, pool), info(settings)]


def info(settings: Settings) -> InfoCollector:
    """What is running."""
    return InfoCollector(__version__, settings.environment, NAME.lower())


def database_collectors() -> list[DatabaseCollector[Any]]:
    """New collectors of everything that is read from the database."""
    return [
        TaskCollector(),
        AgentCollector(),
        ChainCollector(),
        WebhookCollector(),
        QueueCollector(),  # last: when it takes too long, the others are done
    ]


def database_scraper(settings: Settings, dsn: str, processes: Sequence[Collector] = ()) -> Scraper:
    """What scrapes the database of ``dsn``, or the one that AINS_METRICS_DATABASE_URL names.

    Its connections are its own, so that scrapes and the API can't starve each other.
    """
    other = settings.metrics_database_url
    source = dsn if other is None else other.reveal()

    async def connect() -> asyncpg.pool.Pool[asyncpg.Record]:
        pooler = POOLER[settings.database_pgbouncer]
        if pooler is None:
            pooler = await _leads_to_pooler(source)
        make = pool_maker(
            source,
            max_size=settings.metrics_pool_max,
            pooler=pooler,
            connect_timeout=_CONNECT_SECONDS,
        )
        return await make()

    throttle = Throttle()

    def report(collector: str, error: Exception) -> None:
        alike = throttle.admit((collector, type(error)))
        if alike is not None:
            reason = str(error) or type(error).__name__
            log.warning("scrape failed", collector=collector, error=reason, alike_before=alike)

    return Scraper(
        connect,
        database_collectors(),
        in_process=processes,
        timeout=settings.scrape_timeout,
        report=report,
    )


async def _leads_to_pooler(dsn: str) -> bool:
    connection = await asyncpg.connect(dsn, timeout=_CONNECT_SECONDS, statement_cache_size=0)
    try:
        return await is_pooled(connection)
    finally:
        await connection.close()
