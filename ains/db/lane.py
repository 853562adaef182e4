"""Short writes that come at the same time share a round trip and a commit."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from ains.db import errors
from ains.db.connections import Connections, terminate

if TYPE_CHECKING:
    from ains.db.sql import Query

__all__ = ["LOCK_TIMEOUT", "Alone", "Lane"]

LOCK_TIMEOUT: Final = "200ms"
"""For how long the statements of a group wait for a lock, as ``lock_timeout`` of its session."""

_PATIENCE_SECONDS: Final = 0.1
_LEAST: Final = 4
_MOST: Final = 32

_Row = asyncpg.Record | None


class Alone(Exception):
    """Nothing of this statement has happened: send it by itself."""


class Lane:
    """One connection, over which whatever has come during one statement goes together.

    What a transaction costs beside its statement, a message each way, the commit and its flush, the
    turns of both processes, is more than half of a short write. So while one is under way, others
    of a kind (`Query.together`) are collected, and then sent as one transaction, in which each is a
    statement of its own that sees those before it. Without load there is nothing to collect, and
    nobody waits.

    Nobody suffers from the others. When one of a group fails, or waits too long for a lock, all is
    rolled back and each goes by itself (`Alone`), over any other connection; and so does at once
    who has waited here for 0.1 s. There is one group at a time, so that two of them can't wait for
    each other.
    """

    def __init__(
        self, connections: Connections, timeout: float, observe: Callable[[Query, float], None]
    ) -> None:
        """Send groups over the one connection of ``connections``, which only this lane uses.

        ``timeout`` are the seconds it may take to open it; ``observe`` is told of each statement
        and how many seconds its group took.
        """
        self._connections = connections
        self._timeout = timeout
        self._observe = observe
        self._holder: object | None = None
        self._sending: asyncio.Task[None] | None = None
        self._stuck = False
        self._queue: deque[_Group] = deque()
        self._open: dict[Query, _Group] = {}

    def enter(self) -> object | None:
        """Begin a statement by itself when none is under way; what it returns goes to `leave`."""
        if self._holder is not None:
            return None
        self._holder = object()
        return self._holder

    def leave(self, holder: object) -> None:
        """End a statement by itself: those that have come meanwhile go together."""
        if self._holder is holder:
            self._go_on()

    async def join(self, query: Query, args: tuple[Any, ...]) -> _Row:
        """Send a statement with the next group, and return its row.

        Raises:
            Alone: it has to be sent by itself.
            Exception: whatever a connection raises that was lost, or a statement that took too
                long; whether it was carried out is unknown.
        """
        if self._stuck:
            raise Alone
        group = self._open.get(query)
        if group is None:
            group = _Group(query)
            self._append(group)
        elif args[0] in group.members:
            raise Alone
        turn: asyncio.Future[_Row] = asyncio.get_running_loop().create_future()
        group.members[args[0]] = (args, turn)
        return await turn

    def _append(self, group: _Group) -> None:
        self._open[group.query] = group
        self._queue.append(group)
        loop = asyncio.get_running_loop()
        group.timer = loop.call_later(_PATIENCE_SECONDS, self._overtake, group)

    def _overtake(self, group: _Group) -> None:
        if self._sending is None:  # a statement by itself takes long; the connection is free
            self._go_on()
            return
        self._stuck = True
        self._queue.remove(group)
        self._close(group)
        group.fail(Alone())

    def _take(self) -> _Group:
        """Take what is sent next: at most half of those who wait.

        When all went at once, this process would have nothing to do until all are answered, and
        PostgreSQL nothing after that.
        """
        waiting = sum(len(group.members) for group in self._queue)
        group = self._queue.popleft()
        self._close(group)
        most = min(max(_LEAST, (waiting + 1) // 2), _MOST)
        if len(group.members) > most:
            self._append(group.split(most))
        return group

    def _close(self, group: _Group) -> None:
        """Let nobody join any more."""
        if group.timer is not None:
            group.timer.cancel()
        if self._open.get(group.query) is group:
            del self._open[group.query]

    def _go_on(self) -> None:
        self._holder = self._sending = None
        if self._queue:
            self._holder = self._sending = asyncio.get_running_loop().create_task(self._send_all())

    async def _send_all(self) -> None:
        try:
            while self._queue:
                group = self._take()
                try:
                    await self._send(group)
                except Exception as error:  # noqa: BLE001 - raised where each of them waits
                    group.fail(error)
                self._stuck = False
        finally:
            self._holder = self._sending = None

    async def _send(self, group: _Group) -> None:
        try:
            connection = await self._connections.take(self._timeout)
        except errors.EXPECTED:
            raise Alone from None
        succeeded = False
        started = perf_counter()
        try:
            rows = await connection.fetchmany(group.query.text, group.arguments())
            succeeded = True
        except errors.EXPECTED as error:
            if isinstance(error, asyncpg.InternalClientError):
                terminate(connection)
            if errors.may_have_happened(error):
                raise
            raise Alone from None
        finally:
            seconds = perf_counter() - started
            for _ in group.members:
                self._observe(group.query, seconds)
            if succeeded:
                self._connections.give(connection)
            else:
                await self._connections.give_back(connection)
        group.answer({row[0]: row for row in rows})


class _Group:
    """Statements of one kind, each with who waits for its row, by their first argument."""

    def __init__(self, query: Query) -> None:
        self.query = query
        self.members: dict[Any, tuple[tuple[Any, ...], asyncio.Future[_Row]]] = {}
        self.timer: asyncio.TimerHandle | None = None

    def arguments(self) -> list[tuple[Any, ...]]:
        """The arguments of each statement, in the order in which they are sent."""
        arguments = [args for args, _ in self.members.values()]
        if (place := self.query.together) and len(arguments) > 1:
            arguments.sort(key=lambda args: args[place - 1])
        return arguments

    def split(self, most: int) -> _Group:
        """Keep the first ``most``; the others are the group returned."""
        others = _Group(self.query)
        members = list(self.members.items())
        self.members, others.members = dict(members[:most]), dict(members[most:])
        return others

    def answer(self, rows: dict[Any, asyncpg.Record]) -> None:
        for key, (_, turn) in self.members.items():
            if not turn.done():
                turn.set_result(rows.get(key))

    def fail(self, error: BaseException) -> None:
        for _, turn in self.members.values():
            if not turn.done():
                turn.set_exception(error)
