"""How a family comes about in this very database: its view, what is behind it, its plans now."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any, Final, NamedTuple

import asyncpg

from collectors.base import DatabaseCollector, Family
from collectors.catalog import Entry
from collectors.ledger import Ledger
from collectors.reader import Pauses, Reader, Row

__all__ = ["Explanation", "Plan", "Used", "explain"]

_BEGIN: Final = """
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET LOCAL jit = off;
SET LOCAL max_parallel_workers_per_gather = 0;
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s'
"""
_DEFINITION: Final = "SELECT pg_get_viewdef(to_regclass($1), true)"
_VIEW: Final = "SELECT * FROM {}"
_EXPLAIN: Final = "EXPLAIN (ANALYZE, BUFFERS) {}"
# What a view names is in pg_depend, what is in the text of a function is not: there, names are
# looked for, outside of comments and of messages.
_USED: Final = r"""
WITH RECURSIVE used (class, oid) AS (
    SELECT 'pg_class'::regclass::oid, to_regclass($1)::oid
     UNION
    SELECT n.class, n.oid
      FROM used AS u
     CROSS JOIN LATERAL (
           SELECT d.refclassid, d.refobjid
             FROM pg_rewrite AS r
             JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
            WHERE u.class = 'pg_class'::regclass AND r.ev_class = u.oid AND d.refobjid <> u.oid
              AND d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass)
            UNION
           SELECT k.class, k.oid
             FROM pg_proc AS p
            CROSS JOIN LATERAL regexp_matches(
                  regexp_replace(p.prosrc, $r$--[^\n]*|'[^']*'$r$, '', 'g'),
                  '\m(public|metrics)\.(\w+)', 'g') AS m
             JOIN (SELECT 'pg_class'::regclass::oid, c.oid, c.relnamespace, c.relname
                     FROM pg_class AS c
                    UNION ALL
                   SELECT 'pg_proc'::regclass::oid, f.oid, f.pronamespace, f.proname
                     FROM pg_proc AS f) AS k (class, oid, namespace, name)
               ON k.name = m[2] AND k.namespace = to_regnamespace(m[1])
            WHERE u.class = 'pg_proc'::regclass AND p.oid = u.oid) AS n (class, oid)
)
SELECT CASE c.relkind WHEN 'v' THEN 'view' WHEN 'S' THEN 'sequence' ELSE 'table' END AS kind,
       c.oid::regclass::text AS name,
       CASE WHEN c.relkind = 'r' THEN nullif(c.reltuples, -1)::bigint END AS about_rows,
       CASE WHEN c.relkind = 'r' THEN pg_total_relation_size(c.oid) END AS bytes,
       coalesce(obj_description(c.oid, 'pg_class'), '') AS comment
  FROM used AS u JOIN pg_class AS c ON u.class = 'pg_class'::regclass AND c.oid = u.oid
 WHERE c.oid <> to_regclass($1) AND c.relkind <> 'c'
   AND c.relnamespace IN ('public'::regnamespace, 'metrics'::regnamespace)
 UNION ALL
SELECT 'function', p.oid::regprocedure::text, NULL, NULL,
       coalesce(obj_description(p.oid, 'pg_proc'), '')
  FROM used AS u JOIN pg_proc AS p ON u.class = 'pg_proc'::regclass AND p.oid = u.oid
 WHERE p.pronamespace IN ('public'::regnamespace, 'metrics'::regnamespace)
 ORDER BY 1 DESC, 2
"""


class Used(NamedTuple):
    """Something that a view reads or calls; sizes are those of tables."""

    kind: str
    name: str
    about_rows: int | None
    bytes: int | None
    comment: str


class Plan(NamedTuple):
    """A statement, how it was run just now, and the seconds it took, planning included."""

    statement: str
    plan: list[str]
    seconds: float


@dataclass(slots=True)
class Explanation:
    """What the database says of one family."""

    view: str
    definition: str | None
    """None when there is no such view."""
    used: list[Used] = field(default_factory=list)
    series: int = 0
    view_plan: Plan | None = None
    collector: str = ""
    scrape_plans: list[Plan] = field(default_factory=list)
    """What a scrape sends for all families of this collector together."""

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self) | {
            "used": [used._asdict() for used in self.used],
            "view_plan": self.view_plan and self.view_plan._asdict(),
            "scrape_plans": [plan._asdict() for plan in self.scrape_plans],
        }


class _Recorder(Reader):
    """Takes note of what a collector asks."""

    def __init__(self, connection: asyncpg.Connection, families: Iterable[Family]) -> None:
        super().__init__(connection, Ledger(families), Pauses())
        self.asked: list[tuple[str, tuple[object, ...]]] = []

    async def portions(
        self, query: str, *args: object, few: bool = False
    ) -> AsyncIterator[Sequence[Row]]:
        self.asked.append((query, args))
        async for portion in super().portions(query, *args, few=few):
            yield portion

    async def fetchrow(self, query: str, *args: object) -> asyncpg.Record | None:
        self.asked.append((query, args))
        return await super().fetchrow(query, *args)


async def explain(
    connection: asyncpg.Connection, entry: Entry, collectors: Sequence[DatabaseCollector[Any]]
) -> Explanation | None:
    """Ask the database about a family; None for one that is not from there.

    Runs its view and a scrape's statements, in one transaction that only reads.

    Args:
        connection: outside any transaction.
        entry: the family.
        collectors: those of a scrape; one of them has the family.

    Raises:
        asyncpg.PostgresError, OSError: whatever the database does.
    """
    view = entry.view
    if view is None:
        return None
    await connection.execute(_BEGIN)
    try:
        found = Explanation(view, await connection.fetchval(_DEFINITION, view))
        if found.definition is not None:
            found.used = [Used(*row) for row in await connection.fetch(_USED, view)]
            found.view_plan = await _plan(connection, _VIEW.format(view))
        name = entry.family.name
        families = [family for collector in collectors for family in collector.families]
        for collector in collectors:
            if name in {family.name for family in collector.families}:
                recorder = _Recorder(connection, families)
                built = collector.build(await collector.fetch(recorder))
                found.collector = collector.name
                label_sets = sum(len(portion) for portion in built.get(name, ()))
                found.series = label_sets * entry.samples
                for query, args in recorder.asked:
                    found.scrape_plans.append(await _plan(connection, query, *args))
        return found
    finally:
        if not connection.is_closed():
            await connection.execute("ROLLBACK")


async def _plan(connection: asyncpg.Connection, query: str, *args: object) -> Plan:
    statement = "\n".join(line for line in query.strip().splitlines() if line.strip())
    started = perf_counter()
    lines = await connection.fetch(_EXPLAIN.format(statement), *args)
    return Plan(statement, [line for (line,) in lines], perf_counter() - started)
