"""What collectors read with: one snapshot of the database, in short slices of work."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Final

import asyncpg

if TYPE_CHECKING:
    from collectors.ledger import Ledger, LedgerState, Series

__all__ = ["Pauses", "Reader"]

_SLICE_SECONDS: Final = 0.002


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
        self._series: dict[str, Mapping[str, Series] | Exception] = {}

    @property
    def state(self) -> LedgerState | None:
        """The state of the ledgers, when a collector has read it."""
        return self._state

    async def pause(self) -> None:
        """Let others run, if this scrape has worked for a while."""
        await self._pauses.pause()

    async def fetch(self, query: str, *args: object) -> Sequence[asyncpg.Record]:
        """All rows of a query."""
        rows = await self._connection.fetch(query, *args)
        await self.pause()
        return rows

    async def fetchrow(self, query: str, *args: object) -> asyncpg.Record | None:
        """The first row of a query."""
        return await self._connection.fetchrow(query, *args)

    async def ledger_state(self) -> LedgerState:
        """The state of the ledgers in this snapshot."""
        if self._state is None:
            self._state = await self._ledger.state(self)
        return self._state

    async def ledger(self, name: str) -> Mapping[str, Series]:
        """The series of a ledger (``task``, ``chain``, ``webhook``), read once for all collectors.

        Raises:
            asyncpg.PostgresError: as for the collector that asked first.
        """
        if name not in self._series:
            try:
                self._series[name] = await self._ledger.read(self, name)
            except asyncpg.PostgresError as error:
                self._series[name] = error
        found = self._series[name]
        if isinstance(found, Exception):
            raise found
        return found
