"""Waiting for another session of the database, for tests of what happens at the same time."""

import asyncpg

from tests.support.databases import eventually


async def until_blocked(db: asyncpg.Connection, pid: int | None = None) -> None:
    """Wait until a session of this database, or the one named, waits for a lock."""

    async def waits() -> object:
        return await db.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            " AND ($1::integer IS NULL OR pid = $1)",
            pid,
        )

    await eventually(waits)


async def gone(db: asyncpg.Connection, pids: list[int]) -> None:
    """Wait until PostgreSQL has ended these sessions."""

    async def ended() -> object:
        return not await db.fetch("SELECT FROM pg_stat_activity WHERE pid = ANY ($1)", pids)

    await eventually(ended)
