"""Connections of one process to one database, and whose turn it is to have one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast

import asyncpg

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

__all__ = ["Connections", "closed_error", "terminate"]

_KEEP_SECONDS: Final = 1.0
_PASSED_ON: Final = 1000


class Connections:
    """Passes the connections of an asyncpg pool from one statement to the next.

    The pool opens, resets and closes them. But to borrow one and to return it starts two asyncio
    tasks, a fifth of what a small request costs the server, and who waits in it is overtaken by
    those who have just come. So a connection that a statement leaves clean goes straight to
    whoever has waited longest. If nobody waits it is kept, and goes back to the pool within a
    second, which closes it when it is not used for long. So does the connection of each thousandth
    statement, however many wait: the pool replaces one that has been used very often.
    """

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], size: int) -> None:
        """``pool`` has at most ``size`` connections, and nobody else uses it."""
        self._pool = pool
        self._size = size
        self._room = size  # how many may still be borrowed; while there is room, nobody waits
        self._kept: list[asyncpg.Connection] = []
        self._waiting: deque[asyncio.Future[asyncpg.Connection | None]] = deque()
        self._given = 0
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def active(self) -> int:
        """Connections in use, and those being opened or returned."""
        return self._size - self._room - len(self._kept)

    @property
    def idle(self) -> int:
        """Connections that are open and that nobody has."""
        return len(self._kept) + self._pool.get_idle_size()

    async def take(self, timeout: float) -> asyncpg.Connection:
        """Return a connection, which goes to `give` or `give_back` in the end.

        Raises:
            TimeoutError: none became free, or a new one was not opened, within ``timeout`` seconds.
            InterfaceError: `close` was called.
            Exception: whatever opening a connection raises.
        """
        while self._kept:
            connection = self._kept.pop()
            if not _is_lost(connection):
                return connection
            await self.give_back(connection)
        async with asyncio.timeout(timeout):
            return await self._wait_or_borrow()

    def give(self, connection: asyncpg.Connection) -> None:
        """Take back a connection after a statement that succeeded."""
        self._given += 1
        if self._closed or self._given % _PASSED_ON == 0:
            self._begin(self.give_back(connection))
        else:
            self._pass_on(connection)

    async def give_back(self, connection: asyncpg.Connection) -> None:
        """Take back a connection in any state: the pool resets or replaces it."""
        try:
            await self._release(connection)
        finally:
            self._pass_on(None)

    async def close(self, timeout: float) -> None:
        """Refuse whoever waits and close all, those in use when they are given back.

        After ``timeout`` seconds those still in use are cut off.
        """
        self._closed = True
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(closed_error())
        self._release_kept()
        with suppress(TimeoutError):  # by which the pool cuts off the rest
            async with asyncio.timeout(timeout):
                await self._pool.close()

    async def _wait_or_borrow(self) -> asyncpg.Connection:
        lost: asyncpg.Connection | None = None
        if self._room:
            self._room -= 1
        elif (given := await self._wait()) is not None:
            if not _is_lost(given):
                return given
            lost = given
        try:
            if lost is not None:
                await self._release(lost)
            # The stubs call a pool's connection a proxy, which asyncpg's own type hides.
            return cast("asyncpg.Connection", await self._pool.acquire())
        except BaseException:
            self._pass_on(None)
            raise

    async def _release(self, connection: asyncpg.Connection) -> None:
        await self._pool.release(cast("PoolConnectionProxy[asyncpg.Record]", connection))

    async def _wait(self) -> asyncpg.Connection | None:
        """Wait for a connection, or for leave to borrow one, which is None."""
        if self._closed:
            raise closed_error()
        turn: asyncio.Future[asyncpg.Connection | None]
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                if (given := turn.result()) is not None:  # it had come, just before
                    self.give(given)
                else:
                    self._pass_on(None)
            raise

    def _pass_on(self, what: asyncpg.Connection | None) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(what)
                return
        if what is None:
            self._room += 1
            return
        self._kept.append(what)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_KEEP_SECONDS, self._release_kept)

    def _release_kept(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        kept, self._kept = self._kept, []
        for connection in kept:
            self._begin(self.give_back(connection))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _is_lost(connection: asyncpg.Connection) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:  # the pool has noticed, and taken it back
        return True


def terminate(connection: asyncpg.Connection) -> None:
    """End a connection that is in no state to be used again; it is given back all the same."""
    with suppress(asyncpg.InterfaceError):  # the pool may have it back by now
        connection.terminate()


def closed_error() -> asyncpg.InterfaceError:
    """What is raised where a connection is wanted after the end."""
    return asyncpg.InterfaceError("the pool is closed")
