"""One scrape: every collector's queries in one snapshot, and an answer whatever happens.

All database families of a scrape come from one REPEATABLE READ READ ONLY transaction. When a
collector fails, the others are read again in another one; those that took long are kept by a
savepoint instead, which for each in every scrape would be a third of its round trips. A database
that is away leaves the families of the process and ``ains_up 0``. Scrapes that arrive while one
runs share its answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any, Final

import asyncpg
from prometheus_client import Metric
from prometheus_client.registry import Collector

from collectors import exporter
from collectors.base import Built, DatabaseCollector, Family, has_any
from collectors.connection import LOST, Connect, Connections, Unavailable, begin, time_limits
from collectors.exporter import Outcome
from collectors.ledger import Ledger, LedgerState
from collectors.notation import Memory
from collectors.reader import Pauses, Reader
from collectors.replication import CONFLICTS
from collectors.rowmetric import RowMetric

__all__ = ["Outcome", "Scraper", "Snapshot"]

_FIRST_PAUSE: Final = 0.05
_WORTH_GUARDING: Final = 0.1
_LONGEST_PAUSE: Final = 1.0
_MORE_TIME: Final = 1.0
_OUT_OF_TIME: Final = frozenset({"57014", "55P03"})  # statement_timeout, lock_timeout

_Collectors = tuple[DatabaseCollector[Any], ...]
Report = Callable[[str, Exception], None]
"""Is told of the collector (``database``, or a family of the process) that failed, and why."""


@dataclass(slots=True)
class Snapshot:
    """One scrape's answer; `metrics` is what it shows."""

    up: bool
    ledger: LedgerState | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    built: dict[str, Built] = field(default_factory=dict)
    """What each collector that succeeded found, by its name."""
    collectors: _Collectors = ()
    memories: Mapping[Family, Memory] = field(default_factory=dict)
    report: Report = lambda _collector, _error: None

    def metrics(self, *, created: bool) -> list[Metric]:
        """All families, the exporter's own last; ``created`` adds ``_created`` samples."""
        shown: list[Metric] = [
            RowMetric(family, built[family.name], created=created, memory=self.memories.get(family))
            for collector in self.collectors
            if (built := self.built.get(collector.name)) is not None
            for family in collector.families
            if family.name in built
        ]
        return [*shown, *exporter.metrics(self.up, self.outcomes, self.ledger)]

    def failed(self, metric: Metric, error: Exception) -> None:
        """Take note that a family couldn't be rendered: its collector has failed."""
        for collector, outcome in zip(self.collectors, self.outcomes, strict=True):
            if metric.name in {family.base_name for family in collector.families}:
                outcome.error = error
                self.report(collector.name, error)


@dataclass(slots=True)
class _Flight:
    """A scrape that runs, and how many wait for it."""

    collectors: _Collectors
    deadline: float
    granted: float = 0.0
    """The deadline of the limits that the server has last been given."""
    waiting: int = 0
    snapshot: Snapshot | None = None
    failed: dict[str, Outcome] = field(default_factory=dict)
    """The collectors that are left out since they have failed."""

    def remaining(self) -> float:
        """Seconds until the most patient of those who wait gives up."""
        return self.deadline - perf_counter()

    def grant(self) -> float:
        """`remaining`, for limits that the server is given."""
        self.granted = self.deadline
        return self.remaining()

    def is_hasty(self, error: Exception) -> bool:
        """Whether ``error`` comes of limits given before somebody with more time came on board."""
        late = getattr(error, "sqlstate", None) in _OUT_OF_TIME
        return late and self.deadline > self.granted + _MORE_TIME

    def so_far(self) -> Snapshot:
        """The answer of the collectors that are done, for whoever can't wait for the others."""
        late = _down(self.collectors, "no answer in time")
        if self.snapshot is None or not self.snapshot.outcomes:
            return late
        done = len(self.snapshot.outcomes)
        return replace(
            self.snapshot,
            outcomes=[*map(replace, self.snapshot.outcomes), *late.outcomes[done:]],
            built=dict(self.snapshot.built),
        )


_Task = asyncio.Task[Snapshot]


class Scraper:
    """Scrapes one database for one process."""

    def __init__(
        self,
        connect: Connect,
        collectors: Sequence[DatabaseCollector[Any]],
        *,
        in_process: Sequence[Collector] = (),
        timeout: float = 10.0,
        report: Report = lambda _collector, _error: None,
    ) -> None:
        """Scrape over a pool that ``connect`` makes at the first scrape.

        Args:
            connect: makes a small pool for scrapes alone, so that they and the API can't starve
                each other.
            collectors: what is read from the database.
            in_process: what the process itself counts, served whatever happens.
            timeout: seconds, for a scrape that names no limit of its own.
            report: is told of failures.
        """
        self.collectors = tuple(collectors)
        self.in_process = tuple(in_process)
        self.timeout = timeout
        self._connections = Connections(connect)
        self._report = report
        families = [family for collector in collectors for family in collector.families]
        self._ledger = Ledger(families)
        self._memories = {family: Memory(family) for family in families}
        self._flights: dict[_Collectors, tuple[_Flight, _Task]] = {}

    async def close(self) -> None:
        """Give up the scrapes that run, and disconnect."""
        tasks = [task for _, task in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._connections.close()

    def failed(self, metric: Metric, error: Exception) -> None:
        """Take note that a family of the process itself couldn't be rendered."""
        self._report(metric.name, error)

    def describe(self) -> Iterator[Metric]:
        """Yield all database families, without samples."""
        for collector in self.collectors:
            yield from map(RowMetric, collector.families)
        yield from map(RowMetric, exporter.FAMILIES)

    async def scrape(
        self, timeout: float | None = None, names: Collection[str] | None = None
    ) -> Snapshot:
        """Read the database, or share the answer of the scrape that is reading it.

        Never raises for what the database does, and takes ``timeout`` seconds at most. Collectors
        without a sample or family of ``names`` are left out.
        """
        wanted = self._wanted(names)
        if names is not None and not wanted:
            return Snapshot(up=True)
        limit = self.timeout if timeout is None else timeout
        flight, task = self._board(wanted, perf_counter() + limit)
        flight.waiting += 1
        try:
            async with asyncio.timeout(limit):
                return await asyncio.shield(task)
        except TimeoutError:
            return flight.so_far()
        finally:
            flight.waiting -= 1
            if flight.waiting == 0 and not task.done():
                # Nobody waits any more: the query is cancelled in the server too.
                task.cancel()
                self._forget(wanted, task)

    def _wanted(self, names: Collection[str] | None) -> _Collectors:
        if names is None or has_any(exporter.FAMILIES, names):
            return self.collectors
        return tuple(c for c in self.collectors if has_any(c.families, names))

    def _board(self, wanted: _Collectors, deadline: float) -> tuple[_Flight, _Task]:
        """Join the scrape that runs, or start one."""
        if found := self._flights.get(wanted):
            flight, _ = found
            flight.deadline = max(flight.deadline, deadline)
            return found
        flight = _Flight(wanted, deadline)
        task = asyncio.create_task(self._run(flight), name="scrape")
        task.add_done_callback(lambda done: self._forget(wanted, done))
        self._flights[wanted] = flight, task
        return flight, task

    def _forget(self, wanted: _Collectors, task: _Task) -> None:
        if task.done() and not task.cancelled():
            task.exception()  # whoever still waits has it too
        if wanted in self._flights and self._flights[wanted][1] is task:
            del self._flights[wanted]

    async def _run(self, flight: _Flight) -> Snapshot:
        pause = _FIRST_PAUSE
        while True:
            try:
                return await self._read(flight)
            except Unavailable as error:
                self._report("database", error)
                return _down(flight.collectors, str(error))
            except (*LOST, asyncpg.PostgresError) as error:
                # A standby cancels what is in the way of replay, a connection may have ended in
                # the middle; the next snapshot may do.
                if flight.remaining() < 2 * pause:
                    self._report("database", error)
                    return _down(flight.collectors, str(error))
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _read(self, flight: _Flight) -> Snapshot:
        flight.snapshot = None
        async with self._connections.snapshot(flight.grant) as connection:
            while True:
                flight.snapshot = snapshot = Snapshot(
                    True, collectors=flight.collectors, memories=self._memories, report=self._report
                )
                if await self._collect(flight, snapshot, connection):
                    return snapshot
                # A collector has failed, and the transaction with it: the others in another one,
                # or all, when somebody with more time has come on board.
                await begin(connection, flight.grant(), again=True)

    async def _collect(
        self, flight: _Flight, snapshot: Snapshot, connection: asyncpg.Connection
    ) -> bool:
        """Run the collectors that haven't failed; False when the transaction has ended by that."""
        reader, begun = Reader(connection, self._ledger, Pauses()), perf_counter()
        for collector in flight.collectors:
            outcome = flight.failed.get(collector.name)
            if outcome is None:
                outcome, started = Outcome(collector.name), perf_counter()
                guarded = started - begun > _WORTH_GUARDING
                if guarded:
                    limits = time_limits(flight.grant())
                    await connection.execute(f"SAVEPOINT collector; {limits}")
                try:
                    snapshot.built[collector.name] = collector.build(await collector.fetch(reader))
                except Exception as error:  # noqa: BLE001 - reported; the others are served
                    if flight.is_hasty(error):
                        return False
                    self._note_failure(collector.name, outcome, error, connection)
                    if not guarded:
                        flight.failed[collector.name] = outcome
                        return False
                    await connection.execute("ROLLBACK TO SAVEPOINT collector")
                finally:
                    outcome.seconds = perf_counter() - started
                snapshot.ledger = reader.state
            snapshot.outcomes.append(outcome)
        return True

    def _note_failure(
        self, collector: str, outcome: Outcome, error: Exception, connection: asyncpg.Connection
    ) -> None:
        """Take note that a collector has failed, or raise what fails the whole scrape."""
        if connection.is_closed():
            raise ConnectionResetError("connection lost in the middle of a scrape") from error
        if getattr(error, "sqlstate", None) in CONFLICTS:
            raise error
        outcome.error = error
        self._report(collector, error)


def _down(collectors: _Collectors, reason: str) -> Snapshot:
    return Snapshot(
        up=False, outcomes=[Outcome(c.name, error=Unavailable(reason)) for c in collectors]
    )
