"""What collectors read with: one snapshot of the database, in short slices of work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import asyncpg

if TYPE_CHECKING:
    from collectors.ledger import Ledger, LedgerState, Totals
    from collectors.series import Families

__all__ = ["Pauses", "Reader"]

_SLICE_SECONDS: Final = 0.0001
_PORTION: Final = 250

Row = tuple[Any, ...] | asyncpg.Record
"""What is kept should be a plain tuple: the garbage collector tracks asyncpg's records."""


class Pauses:
    """Gives the event loop its turn when work has gone on for a while."""

    def __init__(self, slice_seconds: float = _SLICE_SECONDS) -> None:
        """Work at most ``slice_seconds`` at a time."""
        self._slice = slice_seconds
        self._started = perf_counter()

    @property
    def due(self) -> bool:
        """Whether the slice is used up."""
        return perf_counter() - self._started > self._slice

    async def pause(self) -> None:
        """Let others run, if the slice is used up."""
        if self.due:
            await asyncio.sleep(0)
            self._started = perf_counter()


class Reader:
    """What a collector reads with: one snapshot, and the ledgers as it has them."""

    def __init__(self, connection: asyncpg.Connection, ledger: Ledger, pauses: Pauses) -> None:
        """Read over ``connection``, which is inside the scrape's transaction."""
        self._connection = connection
        self._ledger = ledger
        self._pauses = pauses
        self._state: LedgerState | None = None
        self._totals: Totals | None = None
        self._families: dict[str, Families | Exception] = {}

    @property
    def state(self) -> LedgerState | None:
        """The state of the ledgers, when a collector has read it."""
        return self._state

    async def pause(self) -> None:
        """Let others run, if this scrape has worked for a while."""
        await self._pauses.pause()

    async def portions(
        self, query: str, *args: object, few: bool = False
    ) -> AsyncIterator[Sequence[Row]]:
        """Yield all rows of a query, some hundred at a time; ``few`` come at once.

        A cursor costs one round trip more, and nobody else is served while rows are decoded.
        """
        if few:
            yield await self._connection.fetch(query, *args)
            return
        cursor = await self._connection.cursor(query, *args)
        while records := await cursor.fetch(_PORTION):
            yield records
            if len(records) < _PORTION:
                return
            await self.pause()

    async def fetch(self, query: str, *args: object, few: bool = False) -> list[Row]:
        """All rows of a query; ``few`` as for `portions`."""
        portions = self.portions(query, *args, few=few)
        return [tuple(record) async for portion in portions for record in portion]

    async def fetchrow(self, query: str, *args: object) -> asyncpg.Record | None:
        """The first row of a query."""
        return await self._connection.fetchrow(query, *args)

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Statements that may fail without taking the snapshot with them."""
        await self._connection.execute("SAVEPOINT attempt")
        try:
            yield
        except asyncpg.PostgresError:
            await self._connection.execute("ROLLBACK TO SAVEPOINT attempt")
            raise

    async def ledger_state(self) -> LedgerState:
        """The state of the ledgers in this snapshot."""
        if self._state is None:
            self._state = await self._ledger.state(self)
        return self._state

    async def totals(self) -> Totals:
        """The totals in this snapshot."""
        if self._totals is None:
            self._totals = await self._ledger.totals(self, await self.ledger_state())
        return self._totals

    async def ledger(self, name: str) -> Families:
        """The series of a ledger (``task``, ``chain``, ``webhook``), read once for all collectors.

        Raises:
            asyncpg.PostgresError, LookupError: the same for every collector that asks.
        """
        if name not in self._families:
            try:
                self._families[name] = await self._ledger.read(self, name)
            except (asyncpg.PostgresError, LookupError) as error:
                self._families[name] = error
        found = self._families[name]
        if isinstance(found, Exception):
            raise found
        return found
