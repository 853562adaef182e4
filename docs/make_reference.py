"""Writes docs/reference/ from the code: settings, routes, metrics, commands, problem types.

Run by ``scripts/docs``; a test holds the pages against the code.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import click

from ains import __version__
from ains.app import API
from ains.cli import main
from ains.domain.states import TRANSITIONS
from ains.errors import problem_types
from ains.http.docs import docs_routes
from ains.http.routes.catalog import catalog_routes
from ains.http.routes.metrics import metrics_routes
from ains.settings import Settings
from collectors.catalog import catalog
from collectors.catalog_texts import LABELS
from collectors.scrape import Scraper

HERE = Path(__file__).parent / "reference"
NOTE = "<!-- Written by scripts/docs from the code. -->\n\n"


def cell(text: str) -> str:
    """``text`` for a table."""
    return " ".join(text.split()).replace("|", "\\|")


async def _nowhere() -> asyncpg.pool.Pool[asyncpg.Record]:
    """Where a scraper that is only described would connect to."""
    raise OSError


def settings_page() -> Iterator[str]:
    """Every environment variable."""
    yield "# Settings\n\n"
    yield "Environment variables; options of `ains serve` win over them. `ains doctor --settings` "
    yield "shows what a process would use. A variable `AINS_…` that is not in this list is an "
    yield "error, which names the nearest one that is.\n\n"
    yield "| variable | default | meaning |\n|---|---|---|\n"
    for name, field in Settings.model_fields.items():
        default = field.default
        if callable(field.default_factory):
            default = ""
        elif isinstance(default, tuple):
            default = ",".join(
                f"{value:g}" if isinstance(value, int | float) else value for value in default
            )
        shown = "" if default is None or default == "" else f"`{default}`"
        yield f"| `AINS_{name.upper()}` | {shown} | {cell(field.description or '')} |\n"


def routes_page() -> Iterator[str]:
    """Every route."""
    yield "# Routes\n\nThe pages under `/docs` show the fields; `/openapi.json` is OpenAPI 3.1.\n\n"
    yield "| route | what it does | problems |\n|---|---|---|\n"
    groups = [module.routes for module in API]
    scraper = Scraper(_nowhere, [])
    groups += [metrics_routes(scraper), catalog_routes(scraper), docs_routes(groups, __version__)]
    for routes in groups:
        for route in routes:
            problems = ", ".join(str(error.status) for error in route.errors)
            yield f"| `{route.method} {route.path}` | {cell(route.summary)} | {problems} |\n"


def metrics_page() -> Iterator[str]:
    """Every metric family."""
    yield "# Metrics\n\n"
    yield "Counters count facts that happened, whatever becomes of the rows. All families from the "
    yield "database come from one snapshot; in psql each has a view of its name in the schema "
    yield "`metrics`. A process shows all this at `/metrics/catalog`, with the number of series, "
    yield "and `ains metrics explain NAME` the SQL and the plans.\n"
    subject = None
    for entry in catalog():
        if entry.subject != subject:
            subject = entry.subject
            yield f"\n## {subject}\n\n| family | type | labels | |\n|---|---|---|---|\n"
        family = entry.family
        labels = ", ".join(family.labels)
        buckets = f" Buckets {' '.join(f'{b:g}' for b in family.bounds)}." if family.bounds else ""
        text = cell(f"{entry.meaning}{buckets}")
        yield f"| `{family.name}` | {family.kind} | {labels} | {text} |\n"
    yield "\n## Labels\n\n| label | meaning |\n|---|---|\n"
    for label, meaning in LABELS.items():
        yield f"| `{label}` | {cell(meaning)} |\n"
    yield "\n## Questions\n\n| question | PromQL |\n|---|---|\n"
    for entry in catalog():
        for question, query in entry.examples:
            yield f"| {cell(question)} | `{cell(query)}` |\n"


def commands_page() -> Iterator[str]:
    """Every command, as --help shows it."""
    yield "# Commands\n"

    def describe(command: click.Command, path: str) -> Iterator[str]:
        context = click.Context(command, info_name=path)
        yield f"\n## `{path}`\n\n```text\n{command.get_help(context)}\n```\n"
        if isinstance(command, click.Group):
            for name in sorted(command.commands):
                yield from describe(command.commands[name], f"{path} {name}")

    yield from describe(main, "ains")


def problems_page() -> Iterator[str]:
    """Every problem type."""
    yield "# Problems\n\nEvery error is `application/problem+json` "
    yield "([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)).\n"
    for problem in problem_types():
        yield f"\n## {problem.title}\n\n`{problem.type_uri()}`, status {problem.status}\n\n"
        yield f"{inspect.getdoc(problem)}\n"


def states_page() -> Iterator[str]:
    """The state machine of a task, drawn."""
    yield "# The states of a task\n\n```mermaid\nstateDiagram-v2\n    [*] --> PENDING\n"
    for before, after in TRANSITIONS:
        yield f"    {before} --> {after}\n"
    yield "```\n\nA new task that an agent is free for is ASSIGNED from the beginning.\n"
    yield "\n| from | to | when |\n|---|---|---|\n"
    for (before, after), meaning in TRANSITIONS.items():
        yield f"| {before} | {after} | {meaning} |\n"


PAGES = {
    "settings.md": settings_page,
    "routes.md": routes_page,
    "metrics.md": metrics_page,
    "commands.md": commands_page,
    "problems.md": problems_page,
    "states.md": states_page,
}


def pages() -> dict[str, str]:
    """The text of every page by its file name."""
    return {name: NOTE + "".join(make()) for name, make in PAGES.items()}


if __name__ == "__main__":
    for name, text in pages().items():
        (HERE / name).write_text(text, "utf-8")
