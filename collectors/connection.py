"""The scrape's own small pool of connections."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import asyncpg

__all__ = ["pool_maker"]


async def _keep_session(_: asyncpg.Connection) -> None:
    # A scrape leaves nothing behind in a session but its transaction, which asyncpg ends.
    return


def pool_maker(
    dsn: str, *, max_size: int = 2, pooler: bool = False, connect_timeout: float = 5.0
) -> Callable[[], Awaitable[asyncpg.pool.Pool[asyncpg.Record]]]:
    """Return what makes the pool at the first scrape; making it connects to nothing yet.

    Args:
        dsn: the database, or a replica of it.
        max_size: connections at most.
        pooler: whether a transaction pooler stands before the database: nothing is prepared then.
        connect_timeout: seconds.
    """

    async def make() -> asyncpg.pool.Pool[asyncpg.Record]:
        pool = asyncpg.create_pool(
            dsn,
            min_size=0,
            max_size=max_size,
            timeout=connect_timeout,
            reset=_keep_session,
            statement_cache_size=0 if pooler else 100,
            max_inactive_connection_lifetime=120,
            server_settings={"application_name": "ains metrics"},
        )
        await pool
        return pool

    return make
