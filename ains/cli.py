"""The command `ains`. What its subcommands do is in `ains.commands`."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import click

from ains import __version__
from ains.errors import AinsError, SettingsError
from ains.settings import Settings

__all__ = ["main"]

_WRONG_SETTINGS = 2


class _Ains(click.Group):
    """Turns errors of ours into a sentence and an exit code: 2 for settings, else 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            click.echo(error.detail, err=True)
            ctx.exit(_WRONG_SETTINGS)
        except AinsError as error:
            raise click.ClickException(error.detail) from error


_database_url = click.option(
    "--database-url",
    metavar="URL",
    help="PostgreSQL to use, as postgresql://user@host/database. AINS_DATABASE_URL keeps its "
    "password out of the list of processes. Default: a PostgreSQL of AINS's own.",
)

_DAYS = click.IntRange(0, 36_500)


def _scraped(database_url: str | None) -> Settings:
    """Settings of a command that scrapes: the database it is told wins over the replica's too."""
    settings = Settings.load(database_url=database_url)
    if database_url is None:
        return settings
    return settings.model_copy(update={"metrics_database_url": None})


@click.group(cls=_Ains, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ains")
def main() -> None:
    """A registry of agents and a queue of tasks whose Prometheus metrics are exact.

    Settings come from environment variables, AINS_…; `ains doctor` lists them.
    """


@main.command()
@click.option("--host", help="Address to listen on.  [AINS_HOST; 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on.  [AINS_PORT; 8000]")
@_database_url
@click.option("--no-workers", is_flag=True, help="Serve the API only; another process dispatches.")
@click.option("--demo", is_flag=True, help="Simulate agents and clients that keep it busy.")
def serve(
    host: str | None, port: int | None, database_url: str | None, no_workers: bool, demo: bool
) -> None:
    """Serve the API, dispatch tasks, and show metrics.

    Ends at SIGTERM or Ctrl-C, after the requests it has begun; at a second one at once.
    """
    settings = Settings.load(
        host=host,
        port=port,
        database_url=database_url,
        workers=False if no_workers else None,
        # The population's requests would bury everything else.
        access_log=False if demo and "AINS_ACCESS_LOG" not in os.environ else None,
    )
    from ains.commands.serve import run

    sys.exit(run(settings, demo=demo))


@main.command()
@_database_url
@click.option("--roles", is_flag=True, help="Make the roles ains_app and ains_scraper, too.")
def migrate(database_url: str | None, *, roles: bool) -> None:
    """Bring the database to the schema that this version needs.

    `ains serve` does so by itself when it starts, if its role may.
    """
    settings = Settings.load(database_url=database_url)
    from ains.commands.migrate import run

    asyncio.run(run(settings, roles=roles))


@main.group(invoke_without_command=True)
@_database_url
@click.option("--name", "names", multiple=True, help="Print this family only; may be repeated.")
@click.option("--openmetrics", is_flag=True, help="Print OpenMetrics 1.0, not text 0.0.4.")
@click.pass_context
def metrics(
    context: click.Context, database_url: str | None, names: tuple[str, ...], openmetrics: bool
) -> None:
    """Print what Prometheus would scrape, without a server.

    The families that a serving process counts itself (HTTP, its database pool) are not there.
    Ends with 1 when the database does not answer.
    """
    context.obj = database_url
    if context.invoked_subcommand is not None:
        return
    settings = _scraped(database_url)
    from ains.commands.metrics import run

    sys.exit(asyncio.run(run(settings, names, openmetrics=openmetrics)))


@metrics.command("verify")
@_database_url
@click.option("--json", "as_json", is_flag=True, help="Print everything found as JSON.")
@click.pass_obj
def metrics_verify(of_group: str | None, database_url: str | None, as_json: bool) -> None:
    """Count everything again from the ledger, and compare.

    Totals, views and a scrape are held against the facts and against the tables, all in one
    snapshot; only reads, also at a standby. Ends with 0 when all agree, 1 when something differs,
    2 when it could not be verified.
    """
    settings = _scraped(database_url or of_group)
    from ains.commands.metrics_verify import run

    sys.exit(asyncio.run(run(settings, as_json=as_json)))


@metrics.command("explain")
@click.argument("name")
@_database_url
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def metrics_explain(
    of_group: str | None, name: str, database_url: str | None, as_json: bool
) -> None:
    """Say how the family or sample NAME comes about.

    What it counts, its labels, its view and the SQL of it, the tables and functions behind it, and
    how its view and a scrape are executed just now: the plans, with the time that they took.
    """
    settings = _scraped(database_url or of_group)
    from ains.commands.metrics_explain import run

    sys.exit(asyncio.run(run(settings, name, as_json=as_json)))


@main.command()
@_database_url
@click.option("--tasks-days", type=_DAYS, help="[AINS_TASK_RETENTION_DAYS; 30]")
@click.option("--chains-days", type=_DAYS, help="[AINS_CHAIN_RETENTION_DAYS; 30]")
@click.option("--deliveries-days", type=_DAYS, help="[AINS_DELIVERY_RETENTION_DAYS; 30]")
@click.option("--ledger-days", type=_DAYS, help="[AINS_LEDGER_RETENTION_DAYS; 90]")
@click.option("--dry-run", is_flag=True, help="Delete nothing, say how much it would be.")
def prune(
    database_url: str | None,
    tasks_days: int | None,
    chains_days: int | None,
    deliveries_days: int | None,
    ledger_days: int | None,
    dry_run: bool,
) -> None:
    """Delete what ended longer ago than it is kept, now instead of within the hour.

    That is tasks, chains and webhook deliveries that have ended, and facts of the ledger that have
    been counted; 0 days keeps them for ever. No counter changes.
    """
    settings = Settings.load(
        database_url=database_url,
        task_retention_days=tasks_days,
        chain_retention_days=chains_days,
        delivery_retention_days=deliveries_days,
        ledger_retention_days=ledger_days,
    )
    from ains.commands.prune import run

    asyncio.run(run(settings, dry_run=dry_run))


@main.command()
@_database_url
@click.option("--settings", "settings_only", is_flag=True, help="List all settings, nothing else.")
def doctor(database_url: str | None, settings_only: bool) -> None:
    """Say what is wrong, and what to do. Ends with 1 when something is.

    Looks at settings, programs, data directory, port, server, schema, clocks, long transactions,
    the ledger, workers and agents; changes nothing.
    """
    from ains.commands.doctor import run

    sys.exit(run(database_url, settings_only=settings_only))


@main.group()
def db() -> None:
    """Get into the database with psql."""


@db.command("url")
@_database_url
def db_url(database_url: str | None) -> None:
    """Print the database's URL, for psql "$(ains db url)"; never the password."""
    settings = Settings.load(database_url=database_url)
    from ains.commands.db import url

    click.echo(asyncio.run(url(settings)))


@db.command("psql", context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def db_psql(arguments: tuple[str, ...]) -> None:
    """Run psql in the database, with any ARGUMENTS of psql.

    An embedded server that isn't running is started for as long as psql lasts.
    """
    settings = Settings.load()
    from ains.commands.db import psql

    sys.exit(asyncio.run(psql(settings, arguments)))


if __name__ == "__main__":
    main()
