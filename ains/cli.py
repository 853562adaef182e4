"""The command `ains`. What its subcommands do is in `ains.commands`."""

from __future__ import annotations

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
    )
    from ains.commands.serve import run

    sys.exit(run(settings, demo=demo))


if __name__ == "__main__":
    main()
