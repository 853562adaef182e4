"""The database that a command works on: the one it is given, or the embedded one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from ains.database_url import DatabaseUrl
from ains.db.embedded import EmbeddedError, EmbeddedPostgres, default_data_dir, describe
from ains.settings import Settings

__all__ = ["Source", "data_dir", "database"]


@dataclass(frozen=True)
class Source:
    """A database that can be connected to."""

    settings: Settings
    """With ``database_url`` set, whichever database it is."""
    safe_dsn: str
    """For people: without a password, or with the password file in its place."""
    embedded: EmbeddedPostgres | None

    @property
    def dsn(self) -> str:
        """For connections: with the password."""
        url = self.settings.database_url
        assert url is not None  # noqa: S101 - `database` sets it
        return url.reveal()


def data_dir(settings: Settings) -> Path:
    """The embedded server's data directory."""
    return settings.data_dir or default_data_dir()


@asynccontextmanager
async def database(settings: Settings, *, create: bool = True) -> AsyncIterator[Source]:
    """Lend the database of ``settings``; the embedded server is started and, at the end, left.

    Args:
        settings: name a database, or the embedded server's data directory.
        create: make the embedded server's cluster when there is none.

    Raises:
        click.ClickException: the embedded server can't be started, or isn't there.
    """
    if settings.database_url is not None:
        yield Source(settings, str(settings.database_url), None)
        return
    try:
        place = data_dir(settings)
        if not create and not describe(place, settings.pg_bin).initialised:
            raise click.ClickException(
                f"There is no database in {place} yet; `ains serve` makes one. "
                "Or name another with AINS_DATABASE_URL or AINS_DATA_DIR."
            )
        server = await EmbeddedPostgres.start(place, port=settings.pg_port, pg_bin=settings.pg_bin)
    except EmbeddedError as error:
        raise click.ClickException(str(error)) from None
    async with server:
        url = DatabaseUrl(server.dsn)
        yield Source(settings.model_copy(update={"database_url": url}), server.safe_dsn, server)
