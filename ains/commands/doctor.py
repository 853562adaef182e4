"""`ains doctor`: what is wrong, and what to do."""

from __future__ import annotations

import asyncio
import json
import platform
import sys
import urllib.request
from collections.abc import Iterator
from importlib import metadata
from typing import Final

import click

from ains import __version__, logs
from ains.commands import doctor_scrapes
from ains.commands.database import data_dir, database
from ains.commands.doctor_database import examine
from ains.commands.findings import Finding, note, ok, problem, show
from ains.commands.serve import bind, url_of
from ains.db.embedded import EmbeddedError, Status, describe, find_binaries
from ains.domain.service import NAME
from ains.errors import SettingsError
from ains.settings import PREFIX, Settings

__all__ = ["run"]

_ASK_SECONDS: Final = 2.0


def run(database_url: str | None, *, settings_only: bool) -> int:
    """Print the findings; returns the exit code: 1 when something is wrong."""
    logs.configure("error", "console")
    try:
        settings = Settings.load(database_url=database_url)
    except SettingsError as error:
        advice = "Correct the environment; these settings exist:"
        show([problem(error.detail, advice)])
        for name, field in Settings.model_fields.items():
            click.echo(f"          {PREFIX}{name.upper():<26} {field.description}")
        return 1
    if settings_only:
        _list(settings)
        return 0
    wrong = show([*_program(), *_changed(settings), _port(settings)])
    wrong |= asyncio.run(_database(settings))
    click.echo("Something is wrong; see above." if wrong else "Nothing is wrong.")
    return int(wrong)


def _list(settings: Settings) -> None:
    for info in settings.describe():
        origin = "" if info.source == "default" else f"  ({info.source})"
        click.echo(f"{info.variable}={info.value}{origin}")
        click.echo(f"    {info.doc}")


def _program() -> Iterator[Finding]:
    yield ok(f"{NAME} {__version__}, Python {platform.python_version()}, {sys.platform}")
    try:
        yield ok(f"uvloop {metadata.version('uvloop')}")
    except metadata.PackageNotFoundError:
        yield note("uvloop is not installed, so requests take longer.", "pip install uvloop")


def _changed(settings: Settings) -> Iterator[Finding]:
    changed = [i for i in settings.describe() if i.source != "default"]
    shown = "".join(f"\n{i.variable}={i.value}" for i in changed)
    yield ok(f"Settings: {shown or 'all as they are by default'}")
    if settings.database_url is not None and settings.data_dir is not None:
        yield note("AINS_DATA_DIR is of no effect: AINS_DATABASE_URL names another server.")


def _port(settings: Settings) -> Finding:
    where = f"Port {settings.port} of {settings.host}"
    try:
        for listener in bind(settings.host, settings.port):
            listener.listen()
            listener.close()
    except (OSError, click.ClickException) as error:
        url = url_of(settings.host, settings.port)
        if (version := _serving(url)) is not None:
            return ok(f"{NAME} {version} serves at {url}")
        text = error.format_message() if isinstance(error, click.ClickException) else str(error)
        what, _, advice = text.partition(". ")
        return problem(f"{what}.", advice or "Choose another with --port or AINS_PORT.")
    return ok(f"{where} is free")


def _serving(url: str) -> str | None:
    """The version of the AINS at ``url``; None when something else answers, or nobody."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=_ASK_SECONDS) as response:  # noqa: S310 - http://
            answer = json.load(response)
            return str(answer["version"]) if answer["service"] == NAME else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


async def _database(settings: Settings) -> bool:
    wrong = False
    try:
        if settings.database_url is None:
            place = await asyncio.to_thread(describe, data_dir(settings), settings.pg_bin)
            wrong = show(_embedded(settings, place))
            if wrong or not place.initialised:
                return wrong
        async with database(settings, create=False) as source:
            async for finding in examine(source):
                wrong |= show([finding])
            if settings.metrics_database_url is not None:
                wrong |= show([await doctor_scrapes.examine(source)])
    except EmbeddedError as error:
        return show([problem(str(error), "Or name a server with AINS_DATABASE_URL.")])
    except click.ClickException as error:
        return show([problem("The database can't be started.", error.format_message())])
    return wrong


def _embedded(settings: Settings, place: Status) -> Iterator[Finding]:
    if place.problem:
        yield problem("The embedded PostgreSQL can't be used.", place.problem)
        return
    binaries = find_binaries(settings.pg_bin)
    yield ok(f"PostgreSQL {binaries.version} for the embedded server, from {binaries.directory}")
    if not place.initialised:
        yield note(f"There is no database in {place.data_dir} yet; `ains serve` makes one.")
    elif place.pid is None:
        yield ok(f"Its data is in {place.data_dir}; it isn't running now")
    else:
        users = ", ".join(map(str, place.owners)) or "nobody"
        yield ok(
            f"It runs in {place.data_dir}, process {place.pid}, port {place.port}, used by {users}"
        )
