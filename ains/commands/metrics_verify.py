"""`ains metrics verify`: whether what is shown is what happened."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import asyncpg
import click
import orjson

from ains import logs
from ains.commands.database import database
from ains.db import errors
from ains.metrics import POOLER, database_collectors
from ains.redact import redact
from ains.settings import Settings
from ains.workers.startup import explain
from collectors.verify import CHECKS, Difference, Report, Unverifiable, verify

__all__ = ["connect", "run"]

_CLEAN: Final = 0
_DIFFERENT: Final = 1
_UNVERIFIED: Final = 2
_CONNECT_SECONDS: Final = 5.0
_SHOWN: Final = 40
_HEADINGS: Final = ("check", "series", "expected", "found")

_ADVICE: Final[Mapping[str, str]] = {
    "unique": "Facts were written twice: by hand, or by a restore into tables that had some.",
    "ledger": "Somebody changed metrics.totals or the closed facts, or another fold than "
    "metrics.fold() did.",
    "definition": "A function metrics.…_contributions() isn't the one of this version's migration.",
    "series": "metrics.series isn't the view of this version's migration.",
    "scrape": "The collectors make something else of what the database has; are its schema and "
    "this AINS of the same version?",
    "view": "A family's view isn't the one of this version's migration.",
    "state": "Rows changed without their triggers (session_replication_role, DISABLE TRIGGER, a "
    "restore of some tables only), or the totals were changed.",
    "invariant": "Follows from another difference, or from facts that somebody wrote by hand.",
}


async def run(settings: Settings, *, as_json: bool) -> int:
    """Verify and tell; returns the exit code: 1 when something differs, 2 when it isn't known."""
    logs.configure("warning", settings.log_format)
    try:
        async with database(settings, create=False) as source:
            report = await _verify(source.settings, source.dsn)
    except click.ClickException as error:
        return _unverified(error.format_message(), as_json=as_json)
    except Unverifiable as error:
        return _unverified(str(error), as_json=as_json)
    except errors.EXPECTED as error:
        return _unverified(redact(explain(error)), as_json=as_json)
    if as_json:
        click.echo(orjson.dumps(report.as_json(), option=orjson.OPT_INDENT_2))
    else:
        for line in _told(report):
            click.echo(line)
    return _DIFFERENT if report.differences else _CLEAN


async def connect(settings: Settings, dsn: str, name: str) -> asyncpg.Connection:
    """A connection to the database that is scraped, under the application name ``name``."""
    other = settings.metrics_database_url
    pooled = POOLER[settings.database_pgbouncer] is not False
    return await asyncpg.connect(
        dsn if other is None else other.reveal(),
        timeout=_CONNECT_SECONDS,
        statement_cache_size=0 if pooled else 100,
        server_settings={"application_name": name},
    )


async def _verify(settings: Settings, dsn: str) -> Report:
    connection = await connect(settings, dsn, "ains metrics verify")
    try:
        return await verify(connection, database_collectors(), _progress)
    finally:
        await connection.close()


def _progress(done: int, of_all: int) -> None:
    """On a terminal, as an exposition may be piped."""
    if sys.stderr.isatty():
        end = "\n" if done == of_all else ""
        click.echo(f"\rread {done} of {of_all} pages of the ledger{end}", err=True, nl=False)


def _unverified(reason: str, *, as_json: bool) -> int:
    if as_json:
        click.echo(orjson.dumps({"clean": None, "reason": reason}))
    click.echo(f"Could not verify. {reason}", err=True)
    return _UNVERIFIED


def _told(report: Report) -> Iterator[str]:
    if report.differences:
        yield from _table(report.differences[:_SHOWN])
        if (more := len(report.differences) - _SHOWN) > 0:
            yield f"… and {more} more; --json has all."
        yield ""
        checks = dict.fromkeys(d.check for d in report.differences)
        for check in checks:
            yield f"{click.style(check, bold=True)}: {CHECKS[check]}."
            yield f"    {_ADVICE[check]}"
        yield "What to do: docs/ledger.md, “When verify finds a difference”."
        yield ""
    for skipped in report.skipped:
        yield f"Not looked at: {skipped}."
    number = len(report.differences)
    result = (
        click.style(f"{number} difference{'s' if number > 1 else ''}", fg="red")
        if number
        else click.style("All agree", fg="green")
    )
    where = ", at a standby" if report.standby else ""
    yield (
        f"{result}: {report.facts:,} facts ({report.open_facts:,} open), {report.series:,} series, "
        f"{report.seconds:.1f} s{where}."
    )


def _table(differences: Sequence[Difference]) -> Iterator[str]:
    rows = [
        (d.check, " ".join(filter(None, (d.series, d.part))), d.expected, d.found)
        for d in differences
    ]
    widths = [max(map(len, column)) for column in zip(_HEADINGS, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        check, series, expected, found = cells
        return (
            f"{check:<{widths[0]}}  {series:<{widths[1]}}  {expected:>{widths[2]}}  "
            f"{found:>{widths[3]}}"
        )

    yield click.style(line(_HEADINGS), bold=True)
    yield from map(line, rows)
