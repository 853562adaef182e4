"""Puts the service together: database, workers, metrics and routes in one application."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import web

from ains import __version__
from ains.db.pool import Database
from ains.domain.service import ServiceState
from ains.errors import SettingsError
from ains.http import keys
from ains.http.docs import docs_routes
from ains.http.drain import say_goodbye
from ains.http.handler import add_routes
from ains.http.middleware import request_log, tell_of_changes
from ains.http.problems import problems
from ains.http.routes import (
    agents,
    batch,
    chains,
    dependencies,
    health,
    maintenance,
    queue,
    routing,
    tasks,
    trust,
    webhooks,
)
from ains.http.routes.catalog import catalog_routes
from ains.http.routes.metrics import metrics_routes
from ains.metrics import POOLER, database_scraper, in_process
from ains.settings import Settings
from ains.workers.background import Background
from collectors.database import QueryStats
from collectors.http import HttpMetrics

__all__ = ["API", "build_app"]

_QUIET = ("/health", "/health/live", "/health/ready", "/health/startup", "/metrics")
_DELIVERED = ("/ains/task", "/aitp/task")  # what happens to these, webhooks are told
API = (
    agents,
    trust,
    tasks,
    batch,
    dependencies,
    chains,
    queue,
    routing,
    webhooks,
    maintenance,
    health,
)


def build_app(settings: Settings) -> web.Application:
    """Return the whole service as an aiohttp application.

    Its startup waits for the first attempt to reach and migrate the database, not for success; its
    cleanup finishes what the workers have begun. Logs are configured by the caller, beforehand.

    Raises:
        SettingsError: ``settings`` name no database. `ains serve` starts the embedded one first.
    """
    if settings.database_url is None:
        raise SettingsError("AINS_DATABASE_URL is not set.")
    dsn = settings.database_url.reveal()
    pooler = POOLER[settings.database_pgbouncer]
    stats, http, state = QueryStats(), HttpMetrics(), ServiceState()
    database = Database(
        dsn,
        min_size=settings.pool_min,
        max_size=settings.pool_max,
        pooler=pooler,
        observe=stats.observe,
    )
    background = Background(settings, dsn, database, state, pooler)
    scraper = database_scraper(settings, dsn, in_process(settings, http, stats, database))

    async def connections(_: web.Application) -> AsyncIterator[None]:
        yield
        await scraper.close()
        await database.close()

    async def workers(_: web.Application) -> AsyncIterator[None]:
        await background.start()
        yield
        await background.stop(settings.shutdown_grace)

    app = web.Application(client_max_size=settings.max_body_bytes)
    app[keys.SETTINGS] = settings
    app[keys.DB] = database
    app[keys.STATE] = state
    app[keys.WAKE] = background.wake
    app.cleanup_ctx.extend([connections, workers])
    groups = [*(module.routes for module in API), metrics_routes(scraper), catalog_routes(scraper)]
    add_routes(
        app,
        *groups,
        docs_routes(groups, __version__),
        around=(
            http.wrap,
            request_log(enabled=settings.access_log, quiet=_QUIET),
            say_goodbye(state),
            problems(),
            tell_of_changes(background.changed, of=_DELIVERED),
        ),
    )
    return app
