"""Statements that keep the database in shape: folding the ledger, settings for views, wake-ups."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from ains.db.sql import load

if TYPE_CHECKING:
    from ains.db.pool import Database
    from ains.db.statements import Statements

__all__ = [
    "CHANNEL",
    "ClosedLabel",
    "MetricsSettings",
    "announce",
    "closed_labels",
    "fold",
    "open_bytes",
    "rotate_open",
    "say_settings",
    "schema_version",
    "vacuum_open",
]

CHANNEL: Final = "ains_wake"
"""The channel of NOTIFY on which workers hear of work that another process has accepted."""

_QUERIES = load("upkeep")


class MetricsSettings(NamedTuple):
    """What the schema ``metrics`` has to know of the settings."""

    agent_ttl: timedelta
    """When an agent counts as lost."""
    label_limit: int | None
    """How many values an open label shows; None: any number."""


class ClosedLabel(NamedTuple):
    """A label that shows no further value."""

    label: str
    merged: int
    """How many values count under ``other``."""
    shown: int
    families: list[str]


async def announce(statements: Statements) -> None:
    """Wake the dispatchers of all processes that listen on :data:`CHANNEL`."""
    await statements.execute(_QUERIES["announce"])


async def fold(statements: Statements, batch: int) -> int | None:
    """Move up to ``batch`` open facts of the ledger into the totals.

    Returns:
        How many were moved; None when another process is folding just now.
    """
    moved: int | None = await statements.fetchval(_QUERIES["fold"], batch)
    return moved


async def open_bytes(statements: Statements) -> int:
    """The size of the open parts of the ledgers in bytes."""
    size: int = await statements.fetchval(_QUERIES["open_bytes"])
    return size


async def vacuum_open(database: Database) -> None:
    """Make room in the open parts of the ledgers, as far as old transactions allow it."""
    async with database.acquire() as connection:  # VACUUM can't run in a transaction
        await connection.execute(_QUERIES["vacuum_open"].text)


async def rotate_open(statements: Statements) -> bool:
    """Give the open parts of the ledgers new files; False when others are using them."""
    done: bool = await statements.fetchval(_QUERIES["rotate_open"])
    return done


async def say_settings(statements: Statements, settings: MetricsSettings) -> None:
    """Tell the schema ``metrics`` what its views and folds have to know."""
    await statements.execute(_QUERIES["say_settings"], *settings)


async def closed_labels(statements: Statements) -> list[ClosedLabel]:
    """The labels that show no further value."""
    return [ClosedLabel(**row) for row in await statements.fetch(_QUERIES["closed_labels"])]


async def schema_version(statements: Statements) -> str | None:
    """The revision that the database is migrated to.

    Raises:
        DatabaseUnavailable: it can't be reached, or was never migrated.
    """
    version: str | None = await statements.fetchval(_QUERIES["schema_version"])
    return version
