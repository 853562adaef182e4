"""How far a replica that is scraped stands behind its primary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import asyncpg

if TYPE_CHECKING:
    from datetime import datetime

    from collectors.reader import Reader

__all__ = ["CONFLICTS", "lag"]

CONFLICTS: Final = frozenset({"40001", "40P01"})
"""SQLSTATEs with which a standby cancels what is in the way of replay: rows and locks, buffers."""

# Whatever was received but not replayed is behind. Where all is replayed, that is current only
# while the primary is connected: without a receiver nobody knows what it did since. (Of the
# receiver, a role without pg_read_all_stats sees no more than that it is there.)
_LAG: Final = """
SELECT CASE
           WHEN pg_last_wal_receive_lsn() <= pg_last_wal_replay_lsn()
                AND EXISTS (SELECT FROM pg_stat_wal_receiver)
           THEN 0
           ELSE extract(
               epoch FROM clock_timestamp() - greatest(pg_last_xact_replay_timestamp(), $1))
       END::float8 AS seconds
"""


async def lag(reader: Reader, known: datetime) -> float | None:
    """Seconds since the last transaction of the primary that this standby has replayed.

    0 when it has replayed all it was sent and the primary is connected. The clocks of the two
    servers are compared.

    Args:
        reader: reads on the standby.
        known: a time at which the primary is known to have written what is replayed: nothing may
            have been since the standby started.

    Returns:
        None where replication isn't PostgreSQL's own, and those functions refuse.

    Raises:
        asyncpg.PostgresError: replay was in the way.
    """
    try:
        async with reader.savepoint():
            row = await reader.fetchrow(_LAG, known)
    except asyncpg.PostgresError as error:
        if error.sqlstate in CONFLICTS:
            raise
        return None
    return None if row is None else max(0.0, row["seconds"])
