"""What statements can be run on, and a transaction, in which each is timed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncpg

    from ains.db.sql import Query

Observe = Callable[[str, str, float], None]
"""Is told of every statement: verb, main table, seconds."""


class Statements(ABC):
    """What statements can be run on: :class:`ains.db.pool.Database`, or a :class:`Transaction`."""

    @abstractmethod
    async def _run(self, method: str, query: Query, args: tuple[Any, ...]) -> Any: ...

    async def fetch(self, query: Query, *args: Any) -> list[asyncpg.Record]:
        """All rows."""
        rows: list[asyncpg.Record] = await self._run("fetch", query, args)
        return rows

    async def fetchrow(self, query: Query, *args: Any) -> asyncpg.Record | None:
        """The first row, None without one."""
        row: asyncpg.Record | None = await self._run("fetchrow", query, args)
        return row

    async def fetchval(self, query: Query, *args: Any) -> Any:
        """The first column of the first row, None without one."""
        row = await self._run("fetchrow", query, args)
        return None if row is None else row[0]

    async def execute(self, query: Query, *args: Any) -> int:
        """Run it for its effect; returns the number of rows it reports."""
        count = (await self._run("execute", query, args)).rpartition(" ")[2]
        return int(count) if count.isdigit() else 0


class Transaction(Statements):
    """Statements inside one transaction; see :meth:`ains.db.pool.Database.transaction`."""

    def __init__(self, connection: asyncpg.Connection, observe: Observe) -> None:
        """Statements on ``connection``, reported to ``observe``."""
        self.connection = connection
        self._observe = observe

    async def _run(self, method: str, query: Query, args: tuple[Any, ...]) -> Any:
        started = perf_counter()
        try:
            return await getattr(self.connection, method)(query.text, *args)
        finally:
            self._observe(query.verb, query.table, perf_counter() - started)
