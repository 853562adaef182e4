"""The scrape's own few connections, and a snapshot of the database on one of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final, cast

import asyncpg

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

__all__ = ["LOST", "Connect", "Connections", "Unavailable", "begin", "pool_maker", "time_limits"]

LOST: Final = (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""What asyncpg raises, besides errors of the server, when a connection has ended."""

_BEGIN: Final = """
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET LOCAL jit = off;
SET LOCAL max_parallel_workers_per_gather = 0;
SET LOCAL idle_in_transaction_session_timeout = '1min'
"""
_CLOSE_SECONDS: Final = 1.0
_LEAST_SECONDS: Final = 0.1
# The server gives up before this process does, so that there is still time to answer with the rest.
_SERVERS_SHARE: Final = 0.9
# A lock may be held for long, but not every collector needs what it locks.
_LOCKS_SHARE: Final = 0.45

Connect = Callable[[], Awaitable["asyncpg.pool.Pool[asyncpg.Record]"]]
"""Makes a pool, without necessarily connecting."""


class Unavailable(Exception):
    """The database can't be reached."""


async def _keep_session(_: asyncpg.Connection) -> None:
    # A scrape leaves nothing behind in a session but its transaction, which asyncpg ends.
    return


def pool_maker(
    dsn: str, *, max_size: int = 2, pooler: bool = False, connect_timeout: float = 5.0
) -> Connect:
    """Return what makes the pool at the first scrape; making it connects to nothing yet.

    Args:
        dsn: the database, or a replica of it.
        max_size: connections at most.
        pooler: whether a transaction pooler stands before the database: nothing is prepared then.
        connect_timeout: seconds.
    """

    async def make() -> asyncpg.pool.Pool[asyncpg.Record]:
        pool = asyncpg.create_pool(
            dsn,
            min_size=0,
            max_size=max_size,
            timeout=connect_timeout,
            reset=_keep_session,
            statement_cache_size=0 if pooler else 100,
            max_inactive_connection_lifetime=120,
            server_settings={"application_name": "ains metrics"},
        )
        await pool
        return pool

    return make


def time_limits(remaining: float) -> str:
    """SQL that gives the next statements of a transaction their share of ``remaining`` seconds."""
    statement = max(1, int(remaining * 1000 * _SERVERS_SHARE))
    lock = max(1, int(remaining * 1000 * _LOCKS_SHARE))
    return f"SET LOCAL statement_timeout = {statement}; SET LOCAL lock_timeout = {lock}"


async def begin(connection: asyncpg.Connection, remaining: float, *, again: bool = False) -> None:
    """Begin a transaction that may take ``remaining`` seconds; ``again``: after ending another."""
    before = "ROLLBACK; " if again else ""
    await connection.execute(f"{before}{_BEGIN}; {time_limits(remaining)}")


class Connections:
    """Connections for scrapes alone, so that they and the API can't starve each other."""

    def __init__(self, connect: Connect) -> None:
        """Make the pool with ``connect`` when it is first needed."""
        self._connect = connect
        self._connecting = asyncio.Lock()
        self._pool: asyncpg.pool.Pool[asyncpg.Record] | None = None
        self._ending: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Disconnect."""
        await asyncio.gather(*self._ending, return_exceptions=True)
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await pool.close()
            except TimeoutError:
                pool.terminate()

    @asynccontextmanager
    async def snapshot(self, remaining: Callable[[], float]) -> AsyncIterator[asyncpg.Connection]:
        """A connection inside a read-only transaction that sees one state of the database.

        Args:
            remaining: says how many seconds are left.

        Raises:
            Unavailable: there is no connection to be had.
            asyncpg.PostgresError: as the body does.
        """
        connection = await self._begin(remaining)
        try:
            yield connection
        except BaseException:
            # In the middle of whatever it was: a fresh connection is cheaper than certainty.
            await asyncio.shield(self._discard(connection))
            raise
        # What was read is what it is, so nobody need wait for this.
        ending = asyncio.create_task(self._end(connection), name="end of a scrape")
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def _end(self, connection: asyncpg.Connection) -> None:
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await connection.execute("COMMIT")
                await self._release(connection)
        except Exception:  # noqa: BLE001 - there is nobody to tell, and no need to
            await self._discard(connection)

    async def _begin(self, remaining: Callable[[], float]) -> asyncpg.Connection:
        """A connection inside a new transaction; one that died while it was idle is replaced."""
        try:
            async with self._connecting:
                if self._pool is None:
                    self._pool = await self._connect()
                pool = self._pool
            # All that are idle may have died with the server; then one more is a new one.
            for _ in range(pool.get_max_size() + 1):
                acquired = await pool.acquire(timeout=max(_LEAST_SECONDS, remaining()))
                # The stubs call a pool's connection a proxy, which asyncpg's own type hides.
                connection = cast("asyncpg.Connection", acquired)
                try:
                    # Of a dead connection a firewall may tell nothing at all.
                    async with asyncio.timeout(max(_LEAST_SECONDS, remaining() / 3)):
                        await begin(connection, remaining())
                except BaseException as error:
                    await self._cut(connection)
                    if not isinstance(error, (*LOST, asyncpg.PostgresError)):
                        raise
                else:
                    return connection
        except (*LOST, asyncpg.PostgresError) as error:
            raise Unavailable(str(error) or type(error).__name__) from error
        raise Unavailable("every connection ends at once")

    async def _release(self, connection: asyncpg.Connection) -> None:
        if self._pool is None:  # closed in the meantime
            connection.terminate()
        else:
            await self._pool.release(cast("PoolConnectionProxy[asyncpg.Record]", connection))

    async def _discard(self, connection: asyncpg.Connection) -> None:
        with suppress(Exception):
            async with asyncio.timeout(_CLOSE_SECONDS):
                # Cancels a running statement, then says goodbye; after the time limit just cuts.
                await connection.close(timeout=_CLOSE_SECONDS / 2)
        await self._cut(connection)

    async def _cut(self, connection: asyncpg.Connection) -> None:
        # A connection that has ended by itself has already left the pool, and says so.
        with suppress(asyncpg.InterfaceError):
            connection.terminate()
        with suppress(asyncpg.InterfaceError):
            await self._release(connection)
