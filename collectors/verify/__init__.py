"""Counts everything again, and says where the database's sums or a scrape differ.

One REPEATABLE READ transaction that only reads, so it runs beside any load, at a hot standby, and
for a role that may read the ledgers and the schema ``metrics``. Partitions of the ledgers can't be
dropped meanwhile: for a snapshot that is older, they would be empty, not full.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any, Final

import asyncpg

from collectors.base import DatabaseCollector, Family
from collectors.ledger import LEDGERS, Ledger
from collectors.reader import Pauses, Reader
from collectors.verify import definition, facts, shown, state
from collectors.verify.facts import Progress, Recount
from collectors.verify.invariants import invariants
from collectors.verify.report import CHECKS, Difference, Key, Report, Sum, compare, labels_of

__all__ = ["CHECKS", "Difference", "Progress", "Report", "Unverifiable", "verify"]

_LOCK_SECONDS: Final = 10
_ATTEMPTS: Final = 3
_CLOSED: Final = ", ".join(f"public.{ledger}_events_closed" for ledger in LEDGERS)
# LOCK comes before the snapshot, which a partition must not be dropped behind.
_BEGIN: Final = f"""
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET LOCAL jit = off;
SET LOCAL work_mem = '64MB';
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;
SET LOCAL lock_timeout = '{_LOCK_SECONDS}s';
LOCK TABLE {_CLOSED} IN ACCESS SHARE MODE
"""
_UNREADABLE: Final = """
SELECT name FROM unnest($1::text[]) AS n (name)
 WHERE NOT coalesce(has_table_privilege(to_regclass(name), 'SELECT'), false)
"""
_MIGRATED: Final = "SELECT to_regclass('metrics.pruned') IS NOT NULL"
_NEEDED: Final = (
    *(f"public.{ledger}_events_{part}" for ledger in LEDGERS for part in ("open", "closed")),
    "metrics.totals",
    "metrics.pruned",
    "metrics.series",
)


class Unverifiable(Exception):
    """Nothing can be said: the database won't let itself be read."""


async def verify(
    connection: asyncpg.Connection,
    collectors: Sequence[DatabaseCollector[Any]],
    progress: Progress = lambda _done, _all: None,
) -> Report:
    """Count again and compare, in one transaction on ``connection``.

    Args:
        connection: outside any transaction.
        collectors: what scrapes show.
        progress: is told how far the closed facts have been read.

    Raises:
        Unverifiable: the ledgers may not be read, or no snapshot lasted long enough.
        asyncpg.PostgresError, OSError: whatever else the database does.
    """
    if not await connection.fetchval(_MIGRATED):
        raise Unverifiable("The database lacks AINS's tables, or newer ones; run `ains migrate`.")
    unreadable = {name for (name,) in await connection.fetch(_UNREADABLE, _NEEDED)}
    if unreadable:
        raise Unverifiable(f"This role may not read {', '.join(sorted(unreadable))}.")
    tables = {f"public.{table}": table for table in state.TABLES}
    hidden = {tables[name] for (name,) in await connection.fetch(_UNREADABLE, [*tables])}
    for attempt in range(_ATTEMPTS):
        started = perf_counter()
        try:
            await connection.execute(_BEGIN)
            report = await _Verification(connection, collectors).run(hidden, progress)
        except asyncpg.SerializationError as error:
            # A standby that replays, or an open part that was rotated; the next snapshot may do.
            if attempt + 1 == _ATTEMPTS:
                raise Unverifiable(f"No snapshot lasted long enough: {error}.") from error
        except asyncpg.LockNotAvailableError as error:
            raise Unverifiable(
                f"A lock on the ledgers wasn't to be had for {_LOCK_SECONDS} s."
            ) from error
        else:
            report.seconds = perf_counter() - started
            return report
        finally:
            if not connection.is_closed():
                await connection.execute("ROLLBACK")
    raise AssertionError


class _Verification:
    """One snapshot, from first to last."""

    def __init__(
        self, connection: asyncpg.Connection, collectors: Sequence[DatabaseCollector[Any]]
    ) -> None:
        self.connection = connection
        self.collectors = collectors
        self.families: dict[str, Family] = {f.name: f for c in collectors for f in c.families}
        self.reader = Reader(connection, Ledger(self.families.values()), Pauses())
        self.report = Report()

    async def run(self, hidden: set[str], progress: Progress) -> Report:
        reader, report, families = self.reader, self.report, self.families
        [(report.standby,)] = await reader.fetch("SELECT pg_is_in_recovery()")
        labels = await definition.shown_labels(reader)
        by_python: dict[Key, Sum] = {}

        # The locks on the open parts end here: nobody who wants to rotate them waits for the rest.
        await self.connection.execute("SAVEPOINT open_parts")
        open_facts = await facts.open_facts(reader)
        open_keys = await facts.keys_of_open(reader)
        for ledger in LEDGERS:
            report.open_facts += await definition.count(
                reader, ledger, "open", families, labels, by_python
            )
        series = await facts.stored(reader, "series")
        scrape = await shown.scraped(reader, self.collectors)
        views = await shown.against_views(reader, families, scrape)
        await self.connection.execute("ROLLBACK TO SAVEPOINT open_parts")

        totals = await facts.stored(reader, "totals")
        pruned = await facts.stored(reader, "pruned")
        tables = {table for table in state.TABLES if table not in hidden}
        rows = await state.against_tables(reader, tables, families, labels, scrape)
        closed = await facts.closed_facts(self.connection, progress)
        report.facts = report.open_facts
        for ledger in LEDGERS:
            report.facts += await definition.count(
                reader, ledger, "closed", families, labels, by_python
            )
        report.series = len({key[:3] for key in series.sums})
        report.skipped += [f"{name}: this role may not read the table" for name in sorted(hidden)]

        found = report.differences
        found += await facts.repeated(reader, open_keys)
        found += self._compare("ledger", pruned.with_(closed), totals)
        found += compare("definition", families, by_python, closed.with_(open_facts).sums)
        found += self._compare("series", totals.with_(open_facts), series)
        found += shown.against_series(families, scrape, series.sums)
        found += views
        found += rows
        found += invariants(scrape)
        return report

    def _compare(self, check: str, expected: Recount, found: Recount) -> list[Difference]:
        different = list(compare(check, self.families, expected.sums, found.sums))
        for key in sorted(expected.first.keys() & found.first.keys()):
            one, other = expected.first[key], found.first[key]
            if one != other:
                labels = labels_of(self.families.get(key[0]), key)
                difference = Difference(check, key[0], labels, "first_at", f"{one}", f"{other}")
                different.append(difference)
        return different
