"""The ledgers' facts counted again by the database's own contribution functions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from collectors.ledger import LEDGERS
from collectors.verify.report import Difference, Key, Sum, add

if TYPE_CHECKING:
    import asyncpg

    from collectors.reader import Reader, Row

__all__ = [
    "Progress",
    "Recount",
    "closed_facts",
    "keys_of_open",
    "open_facts",
    "repeated",
    "stored",
]

# Some ten thousand facts: an array of a few megabytes in the backend.
_PORTION_PAGES: Final = 256

# Whoever may read a ledger need not be allowed to read its partitions by name. Then the bound lets
# the planner leave the others out, except for those of the default partition.
_PARTITIONS: Final = """
SELECT t.relid::oid,
       CASE WHEN p.by_name THEN t.relid::text ELSE $1 END AS source,
       CASE WHEN NOT p.by_name THEN pg_get_partition_constraintdef(t.relid) END AS bound,
       pg_relation_size(t.relid) / current_setting('block_size')::bigint AS pages
  FROM pg_partition_tree($1::text::regclass) AS t
 CROSS JOIN LATERAL has_table_privilege(t.relid, 'SELECT') AS p (by_name)
 WHERE t.isleaf
"""
_PORTION: Final = """
SELECT c.family, c.label_1, c.label_2, c.bucket, c.n, c.sum_us, c.first_at
  FROM metrics.{ledger}_contributions((
           SELECT array_agg(ROW (e.*)::public.{ledger}_events_open)
             FROM {source} AS e
            WHERE tableoid = $1 AND ctid >= $2 AND ctid < $3 AND ({bound}))) AS c
"""
_OPEN: Final = """
SELECT c.family, c.label_1, c.label_2, c.bucket, c.n, c.sum_us, c.first_at
  FROM metrics.{ledger}_contributions((
           SELECT array_agg(o) FROM public.{ledger}_events_open AS o)) AS c
 WHERE metrics.is_current_snapshot()
"""
# What tells a fact from all others, and the type of that.
_KEYS: Final[Mapping[str, Mapping[str, str]]] = {
    "task": {"at": "timestamptz", "task_id": "uuid", "to_status": "text"},
    "chain": {"event_id": "bigint"},
    "webhook": {"event_id": "bigint"},
}
_OPEN_KEYS: Final = """
SELECT {arrays} FROM public.{ledger}_events_open WHERE metrics.is_current_snapshot()
"""
_REPEATED: Final = """
SELECT {key}, count(*)
  FROM (SELECT {key} FROM public.{ledger}_events_closed
         UNION ALL
        SELECT * FROM unnest({arrays})) AS f
 GROUP BY {key} HAVING count(*) > 1 ORDER BY {key}
"""
_STORED: Final = "SELECT family, label_1, label_2, bucket, n, sum_us, first_at FROM metrics.{}"

Progress = Callable[[int, int], None]
"""Is told how many pages of how many have been read."""


class Recount(NamedTuple):
    """Sums, and when the first fact of each happened."""

    sums: dict[Key, Sum]
    first: dict[Key, datetime]

    @classmethod
    def empty(cls) -> Recount:
        """Nothing counted yet."""
        return cls({}, {})

    def add(self, row: Row) -> None:
        """Add one row of ``metrics.contribution``, ``totals`` or ``pruned``."""
        family, label_1, label_2, bucket, n, sum_us, first_at = row
        key = (family, label_1, label_2, bucket)
        add(self.sums, key, n, sum_us)
        self.first[key] = min(self.first.get(key, first_at), first_at)

    def with_(self, other: Recount) -> Recount:
        """Both together."""
        both = Recount(dict(self.sums), dict(self.first))
        for key, (n, sum_us) in other.sums.items():
            both.add((*key, n, sum_us, other.first[key]))
        return both


async def stored(reader: Reader, table: str) -> Recount:
    """The rows of ``totals``, ``pruned`` or ``series``."""
    return await _read(reader.portions(_STORED.format(table)), Recount.empty())


async def open_facts(reader: Reader) -> Recount:
    """What the open facts of all ledgers add.

    Raises:
        asyncpg.SerializationError: an open part was emptied since the snapshot was taken.
    """
    found = Recount.empty()
    for ledger in LEDGERS:
        await _read(reader.portions(_OPEN.format(ledger=ledger)), found)
    return found


async def closed_facts(connection: asyncpg.Connection, progress: Progress) -> Recount:
    """What the closed facts of all ledgers add; arrays of them stay small.

    Without cursors: each would keep its array until the end of the transaction.
    """
    found = Recount.empty()
    partitions = [
        (ledger, *row)
        for ledger in LEDGERS
        for row in await connection.fetch(_PARTITIONS, f"public.{ledger}_events_closed")
    ]
    pages_of_all = sum(pages for *_, pages in partitions)
    done = 0
    for ledger, relation, source, bound, pages in partitions:
        query = _PORTION.format(ledger=ledger, source=source, bound=bound or "true")
        for first in range(0, pages, _PORTION_PAGES):
            last = first + _PORTION_PAGES
            for row in await connection.fetch(query, relation, (first, 0), (last, 0)):
                found.add(row)
            done += min(_PORTION_PAGES, pages - first)
            progress(done, pages_of_all)
    return found


async def _read(rows: AsyncIterator[Sequence[Row]], into: Recount) -> Recount:
    async for portion in rows:
        for row in portion:
            into.add(row)
    return into


async def keys_of_open(reader: Reader) -> dict[str, Row]:
    """What identifies the open facts, by ledger: an array for each column of the key."""
    found = {}
    for ledger in LEDGERS:
        arrays = ", ".join(f"coalesce(array_agg({column}), '{{}}')" for column in _KEYS[ledger])
        [found[ledger]] = await reader.fetch(_OPEN_KEYS.format(arrays=arrays, ledger=ledger))
    return found


async def repeated(reader: Reader, open_keys: Mapping[str, Row]) -> list[Difference]:
    """Facts that are in the ledger more than once: counted twice, they would still add up."""
    found = []
    for ledger, keys in open_keys.items():
        still_open = set(zip(*keys, strict=True))
        columns = _KEYS[ledger]
        query = _REPEATED.format(
            ledger=ledger,
            key=", ".join(columns),
            arrays=", ".join(f"${n}::{kind}[]" for n, kind in enumerate(columns.values(), 1)),
        )
        for *key, n in await reader.fetch(query, *keys):
            where = "open and closed" if tuple(key) in still_open else "closed"
            its = dict(zip(columns, map(str, key), strict=True))
            found.append(Difference("unique", f"{ledger}_events", its, where, "1", str(n)))
    return found
