"""`ains migrate`: the schema that this version needs."""

from __future__ import annotations

import click

from ains import logs
from ains.commands.database import database
from ains.db import errors, migrations
from ains.errors import AinsError
from ains.settings import Settings
from ains.workers.startup import explain

__all__ = ["run"]


_ROLES = (
    "The roles ains_app (the service) and ains_scraper (reads the metrics alone) have their "
    "privileges. They can't log in; make login roles members of them, as in: "
    "CREATE ROLE prometheus LOGIN PASSWORD '…' IN ROLE ains_scraper;"
)


async def run(settings: Settings, *, roles: bool = False) -> None:
    """Migrate, and say from where to where; with ``roles`` make those too.

    Raises:
        click.ClickException: the database can't be used just now.
        SettingsError: it can't be used at all.
    """
    logs.configure("warning", settings.log_format)
    async with database(settings) as source:
        try:
            before = await migrations.upgrade(source.dsn)
            if roles:
                await migrations.grant_roles(source.dsn)
        except AinsError:
            raise
        except errors.EXPECTED as error:
            raise click.ClickException(f"{explain(error)} [{source.safe_dsn}]") from None
    head = migrations.head()
    if before == head:
        click.echo(f"The schema is up to date ({head}).")
    else:
        click.echo(f"The schema is {head} now; before, it was {before or 'not there'}.")
    if roles:
        click.echo(_ROLES)
