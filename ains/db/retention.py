"""Deleting what has been kept for long enough: chains, tasks, deliveries, and their facts."""

from __future__ import annotations

import asyncio
from asyncio import timeout as deadline
from collections.abc import AsyncGenerator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

from ains.db.sql import load
from ains.errors import RetryLater

if TYPE_CHECKING:
    import asyncpg

    from ains.db.pool import Database
    from ains.db.statements import Statements
    from ains.domain.retention import Ages, Kind

__all__ = ["Batch", "count", "drop_partitions", "lacks_tomorrow", "make_partitions", "prune"]

ROWS: Final = 1000
"""Tasks or deliveries in one batch: some 50 ms."""
CHAINS: Final = 200
"""Chains in one batch; each has up to 100 steps."""
FACTS: Final = 5000
"""Facts in one batch: some 50 ms."""

_LEAST_ID: Final = UUID(int=0)
_ENDED: Final = ("COMPLETED", "FAILED", "CANCELLED")
_OTHERS_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.1

_QUERIES = load("retention")


class Batch(NamedTuple):
    """What one transaction has deleted."""

    kind: Kind
    deleted: int


async def prune(
    database: Database, ages: Ages, now: datetime, *, give_way: bool = False
) -> AsyncGenerator[Batch, None]:
    """Delete what is older than ``ages`` allow, in small batches; yields after each that deleted.

    Whoever iterates sets the pace, and may stop anywhere. Several may prune at once. With
    ``give_way`` it ends as soon as somebody else who gives way is at it. A ``now`` that is ahead of
    the database's clock counts as what that says.

    Raises:
        RetryLater: somebody else has pruned the ledger, or kept it locked, for a minute.
    """
    now = await _past(database, now)
    try:
        if before := ages.limit("chains", now):
            async for deleted in _ended(database, "prune_chains", before, CHAINS, give_way):
                yield Batch("chains", deleted)
        if before := ages.limit("tasks", now):
            async for deleted in _ended(database, "prune_tasks", before, ROWS, give_way):
                yield Batch("tasks", deleted)
        if before := ages.limit("deliveries", now):
            while gone := await _delete(database, "prune_deliveries", before, ROWS, turn=give_way):
                yield Batch("deliveries", len(gone))
        if before := ages.limit("facts", now):
            while facts := await _facts(database, before, give_way):
                yield Batch("facts", facts)
    except _GiveWayError:
        return


async def _past(statements: Statements, now: datetime) -> datetime:
    past: datetime = await statements.fetchval(_QUERIES["past"], now)
    return past


class _GiveWayError(Exception):
    """Somebody else is at it."""


async def _ended(
    database: Database, name: str, before: datetime, size: int, give_way: bool
) -> AsyncGenerator[int, None]:
    """Go from the newest to the oldest, once; yields how many each batch deleted."""
    for status in _ENDED:
        place: tuple[datetime, UUID] = (before, _LEAST_ID)
        full = True
        while full:
            gone = await _delete(database, name, status, before, *place, size, turn=give_way)
            full = len(gone) == size
            if gone:
                yield len(gone)
                place = min((at, key) for at, key in gone)


async def _delete(database: Database, name: str, *args: Any, turn: bool) -> list[asyncpg.Record]:
    async with database.transaction() as transaction:
        if not await transaction.fetchval(_QUERIES["begin"], turn):
            raise _GiveWayError
        return await transaction.fetch(_QUERIES[name], *args)


async def _facts(database: Database, before: datetime, give_way: bool) -> int:
    try:
        async with deadline(_OTHERS_SECONDS):
            while True:
                gone: int | None = await database.fetchval(_QUERIES["prune_ledger"], before, FACTS)
                if gone is not None:
                    return gone
                if give_way:
                    raise _GiveWayError
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError:
        raise RetryLater("Somebody else is pruning the ledger; try again.") from None


async def count(statements: Statements, ages: Ages, now: datetime) -> Mapping[Kind, int]:
    """How much `prune` would delete now."""
    kinds: tuple[Kind, ...] = ("tasks", "chains", "deliveries", "facts")
    now = await _past(statements, now)
    row = await statements.fetchrow(_QUERIES["count"], *(ages.limit(kind, now) for kind in kinds))
    return {kind: row[kind] if row else 0 for kind in kinds}


async def make_partitions(statements: Statements) -> list[str]:
    """Make the ledger's partitions of the next days that are missing; returns their names.

    A few at a time: each time the default partition is read whole, and nobody folds meanwhile.
    """
    names: list[str] = []
    while rows := await statements.fetch(_QUERIES["make_partitions"]):
        names += [row["name"] for row in rows]
    return names


async def lacks_tomorrow(statements: Statements) -> bool:
    """Whether there is no partition yet for the facts of tomorrow."""
    lacks: bool = await statements.fetchval(_QUERIES["lacks_tomorrow"])
    return lacks


async def drop_partitions(statements: Statements) -> list[str]:
    """Drop the ledger's partitions that have been empty for a day; returns their names."""
    return [row["name"] for row in await statements.fetch(_QUERIES["drop_partitions"])]
