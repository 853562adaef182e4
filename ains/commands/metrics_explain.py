"""`ains metrics explain`: how one family comes about."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

import asyncpg
import click
import orjson

from ains import logs
from ains.commands.database import database
from ains.commands.metrics_verify import connect
from ains.db import errors
from ains.metrics import database_collectors
from ains.redact import redact
from ains.settings import Settings
from ains.workers.startup import explain as explain_error
from collectors.catalog import Entry, closest, find
from collectors.explain import Explanation, Plan, Used, explain

__all__ = ["run"]

_WIDTH = 88
_INDENT = "    "
_MILLI = 1000


async def run(settings: Settings, name: str, *, as_json: bool) -> int:
    """Explain the family or sample ``name``; 1 when the database could not be asked.

    Raises:
        click.ClickException: no family has this name.
    """
    logs.configure("warning", settings.log_format)
    entry = find(name)
    if entry is None:
        like = ", ".join(closest(name))
        raise click.ClickException(
            f"There is no family or sample {name!r}. "
            + (f"Closest: {like}." if like else "/metrics/catalog and `ains metrics` show all.")
        )
    found, reason = await _asked(settings, entry)
    if as_json:
        answer = entry.as_json() | {"database": found and found.as_json(), "reason": reason}
        click.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2))
    else:
        for line in [*_static(entry), *(_database(found) if found else ())]:
            click.echo(line)
    if reason:
        click.echo(f"The database could not be asked. {reason}", err=True)
    return int(reason is not None)


async def _asked(settings: Settings, entry: Entry) -> tuple[Explanation | None, str | None]:
    """What the database says, or why it says nothing."""
    if not entry.source.in_database:
        return None, None
    try:
        async with database(settings, create=False) as source:
            connection = await connect(source.settings, source.dsn, "ains metrics explain")
            try:
                return await explain(connection, entry, database_collectors()), None
            finally:
                await connection.close()
    except click.ClickException as error:
        return None, error.format_message()
    except asyncpg.UndefinedTableError as error:
        return None, f"Its tables are missing ({error}); run `ains migrate`."
    except errors.EXPECTED as error:
        return None, redact(explain_error(error))


def _static(entry: Entry) -> Iterator[str]:
    family = entry.family
    unit = f", in {entry.unit}" if entry.unit else ""
    yield f"{click.style(family.name, bold=True)}  {family.kind}{unit}"
    yield f"{_INDENT}{family.help}."
    yield from _wrapped(entry.meaning)
    if entry.labels:
        yield from _heading("Labels")
        width = max(map(len, entry.labels))
        for label, meaning in entry.labels.items():
            yield f"{_INDENT}{label:<{width}}  {meaning}"
    if entry.buckets:
        yield from _heading("Buckets")
        yield from _wrapped("le = " + " ".join(entry.buckets))
    yield from _heading("From")
    yield f"{_INDENT}{entry.source.name}"
    if not entry.source.in_database:
        yield from _wrapped("No view and no SQL: each process counts for itself, from its start.")
    yield from _heading("PromQL")
    for question, query in entry.examples:
        yield f"{_INDENT}{click.style(f'# {question}', dim=True)}"
        yield f"{_INDENT}{query}"


def _database(found: Explanation) -> Iterator[str]:
    yield from _heading("Now")
    yield f"{_INDENT}{found.series:,} series"
    yield from _heading(f"View {found.view}")
    if found.definition is None:
        yield f"{_INDENT}missing! Every family has one; see alembic/sql/."
    else:
        yield from _indented(found.definition.splitlines())
        yield from _heading("Behind it")
        yield from _behind(found.used)
    if found.view_plan:
        yield from _plan("Plan of the view", found.view_plan)
    for number, plan in enumerate(found.scrape_plans, 1):
        title = f"A scrape, collector {found.collector}, {number} of {len(found.scrape_plans)}"
        yield from _plan(title, plan, with_statement=True)


def _behind(used: Iterable[Used]) -> Iterator[str]:
    for kind, name, rows, size, comment in used:
        about = "" if rows is None else f"  about {rows:,} rows"
        about += "" if size is None else f"  {_size(size)}"
        yield f"{_INDENT}{kind:<8}  {click.style(name, bold=True)}{about}"
        if comment:
            yield from _indented(textwrap.wrap(comment, _WIDTH - 14), " " * 10)


def _plan(title: str, plan: Plan, *, with_statement: bool = False) -> Iterator[str]:
    yield from _heading(f"{title}: {plan.seconds * _MILLI:.1f} ms")
    if with_statement:
        yield from _indented(plan.statement.splitlines())
        yield ""
    yield from _indented(plan.plan)


def _heading(text: str) -> Iterator[str]:
    yield ""
    yield click.style(text, fg="cyan")


def _wrapped(text: str) -> Iterator[str]:
    yield from _indented(textwrap.wrap(text, _WIDTH - len(_INDENT)))


def _indented(lines: Iterable[str], indent: str = _INDENT) -> Iterator[str]:
    yield from (indent + line for line in lines)


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 10_000 or unit == "GB":  # noqa: PLR2004 - as pg_size_pretty does
            break
        size /= 1024
    return f"{size:.0f} {unit}"
