"""Short writes that come at the same time share a round trip and a commit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from ains.db import errors
from ains.db.connections import Connections, terminate
from ains.logs import get_logger

if TYPE_CHECKING:
    from ains.db.sql import Query

__all__ = ["SESSION", "Lane", "NotTogetherError"]

SESSION: Final = {"lock_timeout": "50ms", "statement_timeout": "250ms"}
"""Settings of the lane's session: for how long a statement may wait for each lock, and take.

A group takes some milliseconds; for 32 statements at their limit there is time enough in the pool's
``command_timeout`` of 10 s.
"""

_PATIENCE_SECONDS: Final = 0.1
_OPENING_SECONDS: Final = 1.0
_WITHOUT_SECONDS: Final = 5.0

_LEAST: Final = 4  # below, what is shared weighs more than working side by side
_MOST: Final = 32  # beyond, there is hardly anything left to share

_Row = asyncpg.Record | None


class NotTogetherError(Exception):
    """Nothing of this statement has happened: send it by itself."""


class Lane:
    """One connection, over which whatever has come during one transaction goes in the next.

    What a transaction costs beside its statement, a message each way, the commit and its flush, the
    turns of both processes, is more than half of a short write. So while one is under way, others
    of a kind (`Query.together`) are collected, and then sent as one transaction, in which each is a
    statement of its own that sees those before it. Without load there is nothing to collect, and
    nobody waits.

    One that takes long, waits for a lock or fails (see `SESSION`) undoes its group, each of which
    then goes by itself over another connection (`NotTogetherError`); and so does at once who has
    waited for 0.1 s. There is one group at a time, so that two of them can't wait for each other.
    """

    def __init__(self, connections: Connections, observe: Callable[[Query, float], None]) -> None:
        """Send groups over the one connection of ``connections``, which only this lane uses.

        ``observe`` is told of each statement, and how many seconds its group took.
        """
        self._connections = connections
        self._observe = observe
        self._waiting: dict[Query, _Group] = {}
        self._sending: asyncio.Task[None] | None = None
        self._slow = False  # whoever comes while a group takes long goes by itself at once
        self._without_until = 0.0

    async def fetchrow(self, query: Query, args: tuple[Any, ...]) -> _Row:
        """Send a statement with the next group, and return its row.

        Raises:
            NotTogetherError: it has to be sent by itself.
            Exception: whatever a connection raises that was lost, or a statement that took too
                long; whether it was carried out is unknown.
        """
        loop = asyncio.get_running_loop()
        if self._slow or loop.time() < self._without_until:
            raise NotTogetherError
        group = self._waiting.get(query)
        if group is None:
            group = _Group(query, loop.time() + _PATIENCE_SECONDS)
            self._wait(group)
        elif args[0] in group.members:
            raise NotTogetherError
        turn: asyncio.Future[_Row] = loop.create_future()
        group.members[args[0]] = (args, turn)
        if self._sending is None:
            self._sending = loop.create_task(self._send_all())
        return await turn

    def _wait(self, group: _Group) -> None:
        self._waiting[group.query] = group
        loop = asyncio.get_running_loop()
        group.timer = loop.call_at(group.until, self._overtake, group)

    def _overtake(self, group: _Group) -> None:
        self._slow = True
        del self._waiting[group.query]
        group.fail(NotTogetherError())

    async def _send_all(self) -> None:
        try:
            while (group := self._take()) is not None:
                try:
                    await self._send(group)
                except Exception as error:  # noqa: BLE001 - raised where each of them waits
                    group.fail(error)
                self._slow = False
        finally:
            self._sending = None

    def _take(self) -> _Group | None:
        """Take the next group: of many that wait at most half.

        When all went at once, this process would have nothing to do until all are answered, and
        PostgreSQL nothing after that.
        """
        if not self._waiting:
            return None
        waiting = sum(len(group.members) for group in self._waiting.values())
        group = self._waiting.pop(next(iter(self._waiting)))
        if group.timer is not None:
            group.timer.cancel()
        if rest := group.split(min(max(_LEAST, (waiting + 1) // 2), _MOST)):
            self._wait(rest)
        return group

    async def _send(self, group: _Group) -> None:
        group.forget_cancelled()
        if not group.members:
            return
        connection = await self._connection()
        succeeded = False
        started = perf_counter()
        try:
            rows = await connection.fetchmany(group.query.text, group.arguments())
            succeeded = True
            group.answer(rows)
        except errors.EXPECTED as error:
            if isinstance(error, asyncpg.InternalClientError):
                terminate(connection)
            group.fail(error if errors.may_have_happened(error) else NotTogetherError())
        finally:
            try:
                seconds = perf_counter() - started
                for _ in group.members:
                    self._observe(group.query, seconds)
            finally:
                if succeeded:
                    self._connections.give(connection)
                else:
                    await self._connections.give_back(connection)

    async def _connection(self) -> asyncpg.Connection:
        try:
            return await self._connections.take(_OPENING_SECONDS)
        except errors.EXPECTED as error:
            if not isinstance(error, asyncpg.InterfaceError):  # which says that the pool is closed
                self._without_until = asyncio.get_running_loop().time() + _WITHOUT_SECONDS
                get_logger(__name__).warning("writes go one by one for a while", error=repr(error))
            raise NotTogetherError from None


class _Group:
    """Statements of one kind, each with who waits for its row, by their first argument."""

    def __init__(self, query: Query, until: float) -> None:
        """``until`` is the time of the loop when it has waited long enough."""
        self.query = query
        self.until = until
        self.timer: asyncio.TimerHandle | None = None
        self.members: dict[Any, tuple[tuple[Any, ...], asyncio.Future[_Row]]] = {}

    def split(self, most: int) -> _Group | None:
        """Keep the first ``most``; the others are the group returned."""
        if len(self.members) <= most:
            return None
        rest = _Group(self.query, self.until)
        for key in list(self.members)[most:]:
            rest.members[key] = self.members.pop(key)
        return rest

    def forget_cancelled(self) -> None:
        """Leave out those for whom nobody waits any more."""
        self.members = {k: member for k, member in self.members.items() if not member[1].done()}

    def arguments(self) -> list[tuple[Any, ...]]:
        """The arguments of each statement, in the order in which they are sent."""
        arguments = [args for args, _ in self.members.values()]
        if (place := self.query.together) and len(arguments) > 1:
            arguments.sort(key=lambda args: args[place - 1])
        return arguments

    def answer(self, rows: list[asyncpg.Record]) -> None:
        """Give each its row, which begins with its first argument; None where there is none."""
        found = {row[0]: row for row in rows}
        if not found.keys() <= self.members.keys():
            raise AssertionError(f"rows of {self.query.name} don't begin with its first argument")
        for key, (_, turn) in self.members.items():
            if not turn.done():
                turn.set_result(found.get(key))

    def fail(self, error: Exception) -> None:
        """Raise ``error`` where each of them waits."""
        for _, turn in self.members.values():
            if not turn.done():
                turn.set_exception(error)
