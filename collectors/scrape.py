"""One scrape: every collector's queries in one snapshot, and an answer whatever happens.

All database families of a scrape come from one REPEATABLE READ READ ONLY transaction. A collector
that fails takes nothing with it (savepoint), a database that is away leaves the families of the
process and ``ains_up 0``. Scrapes that arrive while one runs share its answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final

import asyncpg
from prometheus_client import Metric
from prometheus_client.registry import Collector

from collectors import exporter
from collectors.base import DatabaseCollector, Histogram, RowMetric, Scalar
from collectors.ledger import Ledger, LedgerState
from collectors.reader import Pauses, Reader

__all__ = ["Scraper", "Snapshot"]

_BEGIN: Final = """
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET LOCAL jit = off;
SET LOCAL max_parallel_workers_per_gather = 0;
SET LOCAL statement_timeout = {milliseconds};
SET LOCAL lock_timeout = {milliseconds};
SET LOCAL idle_in_transaction_session_timeout = {milliseconds}
"""
_CLOSE_SECONDS: Final = 1.0
_RECOVERY_CONFLICT: Final = "40001"
_RETRY_PAUSE: Final = 0.05
# TimeoutError is an OSError.
_LOST: Final = (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)

Connect = Callable[[], Awaitable["asyncpg.pool.Pool[asyncpg.Record]"]]


class Unavailable(Exception):
    """The database can't be read; the message is for the log."""


@dataclass(slots=True)
class Outcome:
    """What became of one collector."""

    name: str
    data: object = None
    seconds: float = 0.0
    error: Exception | None = None


@dataclass(slots=True)
class Snapshot:
    """One scrape's answer; `metrics` is what it shows."""

    up: bool
    ledger: LedgerState | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    series: list[tuple[DatabaseCollector, Mapping[str, list[Scalar] | list[Histogram]]]] = field(
        default_factory=list
    )

    def metrics(self, *, created: bool) -> list[Metric]:
        """All families, the exporter's own last; ``created`` adds ``_created`` samples."""
        shown: list[Metric] = [
            RowMetric(family, series[family.name], created=created)
            for collector, series in self.series
            for family in collector.families
            if family.name in series
        ]
        results = [(o.name, o.error is None, o.seconds) for o in self.outcomes]
        return [*shown, *exporter.metrics(self.up, results, self.ledger)]


class Scraper:
    """Scrapes one database for one process."""

    def __init__(
        self,
        connect: Connect,
        collectors: Sequence[DatabaseCollector],
        *,
        in_process: Sequence[Collector] = (),
        timeout: float = 10.0,
        report: Callable[[str, Exception], None] = lambda _collector, _error: None,
    ) -> None:
        """Scrape over a pool that ``connect`` makes at the first scrape.

        Args:
            connect: makes a small pool for scrapes alone, so that they and the API can't starve
                each other.
            collectors: what is read from the database.
            in_process: what the process itself counts, served whatever happens.
            timeout: seconds, for a scrape that names no limit of its own.
            report: is told of the collector (or ``database``) that failed, and why.
        """
        self.collectors = tuple(collectors)
        self.in_process = tuple(in_process)
        self.timeout = timeout
        self._connect = connect
        self._report = report
        self._pool: asyncpg.pool.Pool[asyncpg.Record] | None = None
        self._ledger = Ledger()
        self._running: asyncio.Task[Snapshot] | None = None
        self._waiting = 0

    async def close(self) -> None:
        """Give up the scrape that runs, and disconnect."""
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await pool.close()
            except TimeoutError:
                pool.terminate()

    def describe(self) -> list[Metric]:
        """All database families, without samples."""
        return [
            *(RowMetric(family) for collector in self.collectors for family in collector.families),
            *exporter.metrics(False, [], None, every=True),
        ]

    async def scrape(self, timeout: float | None = None) -> Snapshot:
        """Read the database, or share the answer of the scrape that is reading it.

        Never raises for what the database does, and takes ``timeout`` seconds at most.
        """
        limit = self.timeout if timeout is None else timeout
        if self._running is None:
            self._running = asyncio.create_task(self._run(limit), name="scrape")
            self._running.add_done_callback(self._finished)
        task = self._running
        self._waiting += 1
        try:
            async with asyncio.timeout(limit):
                return await asyncio.shield(task)
        except TimeoutError:
            return self._down()
        finally:
            self._waiting -= 1
            if self._waiting == 0 and not task.done():
                # Nobody waits any more: the query is cancelled in the server too.
                task.cancel()
                if self._running is task:
                    self._running = None

    def _finished(self, task: asyncio.Task[Snapshot]) -> None:
        if self._running is task:
            self._running = None

    def _down(self) -> Snapshot:
        return Snapshot(
            up=False,
            outcomes=[Outcome(c.name, error=Unavailable("no answer")) for c in self.collectors],
        )

    async def _run(self, limit: float) -> Snapshot:
        deadline = perf_counter() + limit
        while True:
            try:
                return await self._read(deadline)
            except asyncpg.PostgresError as error:
                # A standby cancels what is in the way of replay; the next snapshot may do.
                if error.sqlstate == _RECOVERY_CONFLICT and perf_counter() < deadline:
                    await asyncio.sleep(_RETRY_PAUSE)
                    continue
                self._report("database", error)
                return self._down()
            except (*_LOST, Unavailable) as error:
                self._report("database", error)
                return self._down()

    async def _read(self, deadline: float) -> Snapshot:
        if self._pool is None:
            self._pool = await self._connect()
        connection = await self._acquire(self._pool, deadline)
        broken = True
        try:
            snapshot = await self._read_all(connection)
            broken = False
            return snapshot
        finally:
            if broken:
                # In the middle of whatever it was: a fresh connection is cheaper than certainty.
                # Closing it also cancels the statement that may still run.
                await asyncio.shield(self._discard(connection))
            else:
                await self._pool.release(connection)

    async def _acquire(self, pool: Any, deadline: float) -> Any:
        """A connection inside a new snapshot; one that died while it was idle is replaced."""
        for last_try in [False] * pool.get_max_size() + [True]:
            connection = await pool.acquire(timeout=max(0.1, deadline - perf_counter()))
            milliseconds = max(1, int((deadline - perf_counter()) * 1000))
            try:
                await connection.execute(_BEGIN.format(milliseconds=milliseconds))
            except (*_LOST, asyncpg.PostgresError):
                await self._discard(connection)
                if last_try:
                    raise
            except BaseException:
                await asyncio.shield(self._discard(connection))
                raise
            else:
                return connection
        raise Unavailable("no connection")

    async def _discard(self, connection: Any) -> None:
        with suppress(Exception):
            async with asyncio.timeout(_CLOSE_SECONDS):
                # Cancels a running statement, then says goodbye; after the time limit just cuts.
                await connection.close(timeout=_CLOSE_SECONDS / 2)
        with suppress(Exception):
            connection.terminate()
        if self._pool is not None:
            with suppress(Exception):
                await self._pool.release(connection)

    async def _read_all(self, connection: Any) -> Snapshot:
        pauses = Pauses()
        reader = Reader(connection, self._ledger, pauses)
        outcomes = [await self._fetch(c, reader, connection) for c in self.collectors]
        await connection.execute("COMMIT")
        snapshot = Snapshot(up=True, ledger=reader.state, outcomes=outcomes)
        for collector, outcome in zip(self.collectors, outcomes, strict=True):
            if outcome.error is not None:
                continue
            started = perf_counter()
            try:
                snapshot.series.append((collector, collector.build(outcome.data)))
            except Exception as error:  # noqa: BLE001 - one collector's mistake is not the others'
                outcome.error = error
                self._report(collector.name, error)
            outcome.seconds += perf_counter() - started
            outcome.data = None
            await pauses.pause()
        return snapshot

    async def _fetch(
        self, collector: DatabaseCollector, reader: Reader, connection: Any
    ) -> Outcome:
        outcome = Outcome(collector.name)
        started = perf_counter()
        await connection.execute("SAVEPOINT collector")
        try:
            outcome.data = await collector.fetch(reader)
        except asyncpg.PostgresError as error:
            if connection.is_closed() or error.sqlstate == _RECOVERY_CONFLICT:
                raise
            outcome.error = error
            self._report(collector.name, error)
            await connection.execute("ROLLBACK TO SAVEPOINT collector")
        except (LookupError, TypeError, ValueError) as error:
            outcome.error = error
            self._report(collector.name, error)
        outcome.seconds = perf_counter() - started
        return outcome
