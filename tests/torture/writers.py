"""A process that writes: commits, commits late, rolls back, breaks off and dies, by its seed."""

import argparse
import asyncio
import random
import signal

import asyncpg

from tests.torture.actions import Writer, act

# A server that isn't there, is going or is a standby; and deadlocks, since others write, too.
PASSING = (
    asyncpg.AdminShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.CrashShutdownError,
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.DeadlockDetectedError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.TargetServerAttributeNotMatched,
    OSError,
    TimeoutError,
)
NAME = "torture writer"
_FATES = {
    "commit": 80,
    "late": 4,
    "rollback": 7,
    "partly": 3,
    "die": 2,
    "break off": 2,
    "break off at commit": 2,
}
_LATE_SECONDS = (0.5, 5.0)


async def write_for_ever(url: str, rng: random.Random, writer: Writer) -> None:
    """Write, one transaction after the other; whatever ends the connection, there's another."""
    db: asyncpg.Connection | None = None
    try:
        while True:
            try:
                if db is None or db.is_closed():
                    db = await connect(url, NAME)
                while await db.fetchval("SELECT ahead FROM torture.clock"):
                    await asyncio.sleep(0.05)
                await _transaction(db, rng, writer)
            except PASSING:
                if db is not None:
                    db.terminate()
                await asyncio.sleep(0.05)
    finally:
        if db is not None:
            db.terminate()


async def connect(url: str, name: str) -> asyncpg.Connection:
    """A connection to whatever server may be written to."""
    return await asyncpg.connect(url, timeout=5, server_settings={"application_name": name})


async def _transaction(db: asyncpg.Connection, rng: random.Random, writer: Writer) -> None:
    fate = rng.choices([*_FATES], [*_FATES.values()])[0]
    transaction = db.transaction()
    await transaction.start()
    for _ in range(rng.randint(1, 3)):
        await act(db, rng, writer)
    if fate == "partly":
        savepoint = db.transaction()
        await savepoint.start()
        await act(db, rng, writer)
        await savepoint.rollback()
    if fate == "late":
        await asyncio.sleep(rng.uniform(*_LATE_SECONDS))
    elif fate == "die":
        await db.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    elif fate == "break off":
        db.terminate()
    if db.is_closed():
        return
    if fate == "rollback":
        await transaction.rollback()
        return
    if fate == "break off at commit":
        # Whether it commits, nobody knows: COMMIT may or may not have been read.
        end = asyncio.get_running_loop().call_later(rng.uniform(0, 0.002), db.terminate)
        try:
            await transaction.commit()
        finally:
            end.cancel()
    else:
        await transaction.commit()


async def run(url: str, seed: str, slot: int, connections: int, rows: int) -> None:
    """Write over some connections until SIGTERM, or until one meets an error it can't explain."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    writers = [
        asyncio.create_task(
            write_for_ever(
                url, random.Random(f"{seed} {n}"), Writer(f"w{slot}-{n}", f"ghost-{slot}", rows)
            )
        )
        for n in range(connections)
    ]
    end = asyncio.create_task(stopped.wait())
    await asyncio.wait((*writers, end), return_when=asyncio.FIRST_COMPLETED)
    for task in (*writers, end):
        task.cancel()
    for result in await asyncio.gather(*writers, return_exceptions=True):
        if not isinstance(result, asyncio.CancelledError | None):
            raise result


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--seed", required=True)
    for name in ("slot", "connections", "rows"):
        parser.add_argument(f"--{name}", type=int, required=True)
    given = parser.parse_args()
    asyncio.run(run(given.url, given.seed, given.slot, given.connections, given.rows))
