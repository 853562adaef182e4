"""What Prometheus scrapes."""

from __future__ import annotations

from aiohttp import web

from ains.http.handler import Routes
from collectors.exposition import metrics_handler
from collectors.scrape import Scraper

__all__ = ["metrics_routes"]


def metrics_routes(scraper: Scraper) -> Routes:
    """Return the route /metrics, which shows what ``scraper`` reads."""
    handle = metrics_handler(scraper)
    routes = Routes("Metrics", "For Prometheus.")

    @routes.get("/metrics", returns=str, produces="text/plain")
    async def metrics(request: web.Request) -> web.Response:
        """Show all metrics.

        Text 0.0.4, or OpenMetrics 1.0 when `Accept` asks for it; `?name[]=…`, which may be
        repeated, picks families. All that comes from the database is of one snapshot. While the
        database is away, its families are absent and `ains_up` is 0; the status is 200 all the
        same.
        """
        return await handle(request)

    return routes
