"""`ains metrics`: an exposition without a server."""

from __future__ import annotations

from collections.abc import Sequence

import click

from ains import logs
from ains.commands.database import database
from ains.metrics import database_scraper, info
from ains.settings import Settings
from collectors.exposition import all_metrics, render, select
from collectors.negotiation import OPENMETRICS, TEXT

__all__ = ["run"]


async def run(settings: Settings, names: Sequence[str], *, openmetrics: bool) -> int:
    """Scrape once and print it; returns the exit code: 1 when the database didn't answer.

    The families that a serving process counts (HTTP, its database pool) are not there.
    """
    logs.configure("warning", settings.log_format)
    chosen = OPENMETRICS if openmetrics else TEXT
    async with database(settings, create=False) as source:
        scraper = database_scraper(source.settings, source.dsn, [info(settings)])
        try:
            snapshot = await scraper.scrape()
        finally:
            await scraper.close()
    metrics = all_metrics(scraper, snapshot, chosen)
    if names:
        metrics = select(metrics, names)
    click.echo(render(metrics, chosen), nl=False)
    return 0 if snapshot.up else 1
