"""What `ains doctor` finds by scraping the database that AINS_METRICS_DATABASE_URL names."""

from __future__ import annotations

from typing import Final

from ains.commands.database import Source
from ains.commands.findings import Finding, age, ok, problem
from ains.metrics import database_scraper
from ains.redact import redact

__all__ = ["examine"]

_LAG_SECONDS: Final = 60.0


async def examine(source: Source) -> Finding:
    """Scrape once, with the same rights as `ains serve` does."""
    place = source.settings.metrics_database_url
    scraper = database_scraper(source.settings, source.dsn)
    try:
        snapshot = await scraper.scrape()
    finally:
        await scraper.close()
    failed = [outcome for outcome in snapshot.outcomes if outcome.error is not None]
    if failed:
        names = "everything" if not snapshot.up else ", ".join(o.name for o in failed)
        return problem(
            f"Scrapes of {place} miss {names}: {redact(str(failed[0].error))}",
            "AINS_METRICS_DATABASE_URL must lead to this database or a replica of it, and its role "
            "be a member of ains_scraper (`ains migrate --roles`).",
        )
    lag = snapshot.ledger.replication_lag if snapshot.ledger else None
    if lag is not None and lag > _LAG_SECONDS:
        return problem(
            f"What is scraped from {place} is {age(lag)} old.",
            "Look into the replica's log: is it connected to its primary, and does it replay?",
        )
    behind = f", {age(lag)} behind" if lag else ""
    return ok(f"Scrapes read {place}{behind}")
