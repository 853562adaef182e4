"""The service's connections: one statement is one transaction and one round trip.

Short writes may share both, see :mod:`ains.db.lane`. :class:`Database` opens lazily, so a server
starts while its database is away, and it recovers by itself. Every statement is timed, counted by
its verb and main table, and every error it raises is one of :mod:`ains.errors`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from ains.db import errors
from ains.db.connections import Connections, closed_error, terminate
from ains.db.lane import SESSION, Lane, NotTogetherError
from ains.db.statements import Observe, Statements, Transaction
from ains.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from ains.db.sql import Query

_TRIES = 3
_ROOM_FOR_LANE: Final = 3
# Our statements lock rows and then see what others have committed to them, whatever a database or a
# role is set to.
_ISOLATION: Final = "read_committed"


async def is_pooled(connection: asyncpg.Connection) -> bool:
    """Whether a connection leads to a pooler such as PgBouncer instead of to PostgreSQL itself.

    A pooler hands out a process id of its own, for cancelling; a server says its real one.
    """
    async with connection.transaction():
        real: int = await connection.fetchval("SELECT pg_backend_pid()")
    return real != connection.get_server_pid()


async def _keep_session(_: asyncpg.Connection) -> None:
    # Our statements leave nothing behind in a session: a connection is returned without asking
    # the server.
    # (asyncpg still rolls back a transaction that was left open.)
    return


class Database(Statements):
    """A pool of connections to one database."""

    def __init__(
        self,
        dsn: str,
        *,
        min_size: int = 0,
        max_size: int = 10,
        acquire_timeout: float = 5.0,
        command_timeout: float = 10.0,
        pooler: bool | None = False,
        observe: Observe = lambda _verb, _table, _seconds: None,
        application_name: str = "ains",
    ) -> None:
        """Describe the pool; nothing is connected before the first use.

        Args:
            dsn: libpq-style URL; may contain a password, which no message repeats.
            min_size: connections that :meth:`warm` opens in advance.
            max_size: connections at most; from 3 on, one of them is a `Lane`.
            acquire_timeout: seconds to wait for a free connection, or for a new one.
            command_timeout: seconds that one statement may take before it is cancelled.
            pooler: a transaction pooler (PgBouncer) stands before the database: prepare nothing,
                and wrap each statement in BEGIN and COMMIT. None finds out at the first use.
            observe: told of every statement.
            application_name: as DBAs see it in pg_stat_activity.
        """
        self._dsn = dsn
        self._min_size = min_size
        self._max_size = max_size
        self._timeout = acquire_timeout
        self._command_timeout = command_timeout
        self._pooler = pooler
        self._observe = observe
        self._application_name = application_name
        self._connections: Connections | None = None
        self._lane_connection: Connections | None = None
        self._lane: Lane | None = None
        self._closed = False

    @property
    def active(self) -> int:
        """Connections in use, and those being opened or returned."""
        return sum(connections.active for connections in self._opened())

    @property
    def idle(self) -> int:
        """Connections that are open and not checked out."""
        return sum(connections.idle for connections in self._opened())

    @property
    def max_size(self) -> int:
        """Connections at most."""
        return self._max_size

    def _opened(self) -> list[Connections]:
        return [one for one in (self._connections, self._lane_connection) if one is not None]

    async def _open(self) -> Connections:
        if self._pooler is None and not self._closed:
            self._pooler = await self._behind_pooler()
        if self._closed:
            raise closed_error()
        if self._connections is None:
            with_lane = not self._pooler and self._max_size >= _ROOM_FOR_LANE
            self._connections = await self._pool(self._max_size - with_lane, {})
            if with_lane:
                self._lane_connection = await self._pool(1, SESSION)
                self._lane = Lane(self._lane_connection, self._observed)
        return self._connections

    async def _pool(self, size: int, settings: dict[str, str]) -> Connections:
        # min_size 0: creating the pool connects to nothing, so it can't fail halfway, nor wait.
        pool = await asyncpg.create_pool(
            self._dsn,
            min_size=0,
            max_size=size,
            timeout=self._timeout,
            command_timeout=self._command_timeout,
            reset=_keep_session,
            statement_cache_size=0 if self._pooler else 200,
            max_inactive_connection_lifetime=300,
            server_settings=self._session() | settings,
        )
        return Connections(pool, size)

    def _session(self) -> dict[str, str]:
        session = {"application_name": self._application_name, "timezone": "UTC"}
        if not self._pooler:  # which would refuse what it doesn't know
            session["default_transaction_isolation"] = "read committed"
        return session

    async def _behind_pooler(self) -> bool:
        connection = await asyncpg.connect(self._dsn, statement_cache_size=0, timeout=self._timeout)
        try:
            return await is_pooled(connection)
        finally:
            await connection.close()

    async def warm(self) -> None:
        """Open ``min_size`` connections, so that the first requests needn't.

        Raises:
            DatabaseUnavailable: the database can't be reached; the pool may still be used later.
        """
        async with AsyncExitStack() as opened:
            for number in range(self._min_size):
                second = number == 1  # is the lane's, so that a pool of any size has as many
                await opened.enter_async_context(self._borrow(lane=second))

    async def close(self, timeout: float = 5.0) -> None:
        """Disconnect for good, once running statements are done or ``timeout`` seconds are over."""
        self._closed = True
        await asyncio.gather(*(connections.close(timeout) for connections in self._opened()))

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection for statements that need one of their own.

        Raises:
            DatabaseUnavailable: no connection within ``acquire_timeout`` seconds.
        """
        async with self._borrow() as connection:
            yield connection

    @asynccontextmanager
    async def _borrow(self, *, lane: bool = False) -> AsyncIterator[asyncpg.Connection]:
        try:
            connections, connection = await self._checkout(lane=lane)
            try:
                yield connection
            finally:
                await connections.give_back(connection)
        except errors.EXPECTED as error:
            raise errors.translate(error) or error from error

    async def _checkout(self, *, lane: bool = False) -> tuple[Connections, asyncpg.Connection]:
        connections = self._connections or await self._open()
        if lane and self._lane_connection is not None:
            connections = self._lane_connection
        try:
            connection = await connections.take(self._timeout)
        except TimeoutError as error:
            raise DatabaseUnavailable(
                f"No connection to the database within {self._timeout:g} s."
            ) from error
        return connections, connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Several statements in one transaction (READ COMMITTED)."""
        async with self.acquire() as connection, connection.transaction(isolation=_ISOLATION):
            yield Transaction(connection, self._observe)

    async def _run(self, method: str, query: Query, args: tuple[Any, ...]) -> Any:
        if query.together and self._lane is not None and method == "fetchrow":
            try:
                return await self._lane.fetchrow(query, args)
            except NotTogetherError:
                pass
            except errors.EXPECTED as error:
                raise errors.translate(error) or error from error
        return await self._run_alone(method, query, args)

    def _observed(self, query: Query, seconds: float) -> None:
        self._observe(query.verb, query.table, seconds)

    async def _run_alone(self, method: str, query: Query, args: tuple[Any, ...]) -> Any:
        tries = 0
        while True:
            try:
                return await self._run_once(method, query, args)
            except errors.EXPECTED as error:
                tries += 1
                # What was not sent, or was rolled back whole by a deadlock or a serialisation
                # failure, may be sent again; after a lost connection only what changes nothing.
                again = (
                    errors.was_not_sent(error)
                    or errors.is_rolled_back(error)
                    or (query.verb == "SELECT" and errors.is_connection_lost(error))
                )
                if not again or tries == _TRIES:
                    raise errors.translate(error) or error from error

    async def _run_once(self, method: str, query: Query, args: tuple[Any, ...]) -> Any:
        connections, connection = await self._checkout()
        started = perf_counter()
        succeeded = False
        try:
            if not self._pooler:
                result = await getattr(connection, method)(query.text, *args)
            else:
                async with connection.transaction(isolation=_ISOLATION):
                    result = await getattr(connection, method)(query.text, *args)
            succeeded = True
        except asyncpg.InternalClientError:
            terminate(connection)
            raise
        finally:
            try:
                self._observe(query.verb, query.table, perf_counter() - started)
            finally:
                if succeeded:
                    connections.give(connection)
                else:
                    await connections.give_back(connection)
        return result
