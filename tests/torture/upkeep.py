"""What else goes on in the database: folds and pruning beside the service's, old snapshots."""

import asyncio
import random

import asyncpg

from tests.torture.world import LEDGER_DAYS
from tests.torture.writers import PASSING, connect

_PRUNE = "SELECT metrics.prune_ledger(torture.now() - make_interval(days => $1), $2)"


async def _fold(db: asyncpg.Connection, rng: random.Random) -> None:
    await db.fetchval("SELECT metrics.fold($1)", rng.choice((1, 50, 1000)))


async def _prune(db: asyncpg.Connection, rng: random.Random) -> None:
    """Now and then so early that writers commit facts which are too old already."""
    days = rng.choice([LEDGER_DAYS] * 9 + [2])
    for _ in range(rng.randrange(8)):
        if not await db.fetchval(_PRUNE, days, rng.choice((1, 100, 2000))):
            return


async def _drop(db: asyncpg.Connection, rng: random.Random) -> None:
    # Nobody here reads history in a snapshot that is older without a lock on it.
    await db.fetch("SELECT metrics.drop_partitions('1 second')")


async def _rotate(db: asyncpg.Connection, rng: random.Random) -> None:
    await db.fetchval("SELECT metrics.rotate()")


async def _vacuum(db: asyncpg.Connection, rng: random.Random) -> None:
    await db.execute("VACUUM task_events_open, chain_events_open, webhook_events_open")


async def _hold(db: asyncpg.Connection, rng: random.Random) -> None:
    """An old snapshot: nothing that dies now can be cleared away."""
    async with db.transaction(isolation="repeatable_read", readonly=True):
        await db.fetchval("SELECT count(*) FROM metrics.totals")
        await asyncio.sleep(rng.uniform(1, 4))


_CHORES = {_fold: 8, _prune: 6, _drop: 2, _rotate: 1, _vacuum: 1, _hold: 1}


async def upkeep(url: str, rng: random.Random) -> None:
    """One chore after the other for ever, with whichever server is there."""
    db: asyncpg.Connection | None = None
    try:
        while True:
            chore = rng.choices([*_CHORES], [*_CHORES.values()])[0]
            try:
                if db is None or db.is_closed():
                    db = await connect(url, "torture upkeep")
                await chore(db, rng)
            except PASSING:
                if db is not None:
                    db.terminate()
            await asyncio.sleep(rng.choice((0.01, 0.1, 0.3)))
    finally:
        if db is not None:
            db.terminate()
