"""`ains prune`: deletes what has been kept for long enough."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime

import click

from ains import logs
from ains.commands.database import database
from ains.db import retention
from ains.db.pool import Database
from ains.domain.retention import Ages, Kind
from ains.metrics import POOLER
from ains.settings import Settings

__all__ = ["run"]

_STATEMENT_SECONDS = 600.0
_KINDS: Mapping[Kind, str] = {
    "chains": "chains that ended",
    "tasks": "tasks that ended",
    "deliveries": "deliveries that ended",
    "facts": "facts of the ledger that happened",
}


async def run(settings: Settings, *, dry_run: bool) -> None:
    """Delete what is older than the settings allow, or only count it, and say how much."""
    ages = settings.retention
    logs.configure("warning", settings.log_format)
    async with database(settings, create=False) as source:
        own = Database(
            source.dsn,
            max_size=1,
            command_timeout=_STATEMENT_SECONDS,
            pooler=POOLER[settings.database_pgbouncer],
            application_name="ains prune",
        )
        try:
            now = datetime.now(UTC)
            if dry_run:
                _say(ages, await retention.count(own, ages, now), "Would delete")
                return
            deleted: Counter[Kind] = Counter()
            try:
                async for batch in retention.prune(own, ages, now):
                    deleted[batch.kind] += batch.deleted
            finally:
                _say(ages, deleted, "Deleted")
            for partition in await retention.drop_partitions(own):
                click.echo(f"Dropped the empty partition {partition}.")
        finally:
            await own.close()


def _say(ages: Ages, numbers: Mapping[Kind, int], verb: str) -> None:
    for kind, what in _KINDS.items():
        days: int = getattr(ages, kind)
        if days:
            click.echo(f"{verb} {numbers.get(kind, 0)} {what} more than {days} days ago.")
        else:
            click.echo(f"All {kind} are kept for ever.")
