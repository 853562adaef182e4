"""Alembic environment: asyncpg, one migration run at a time.

`ains migrate` and the service call :func:`ains.db.migrations.upgrade`, which passes the database
URL; the `alembic` command takes it from AINS_DATABASE_URL.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import asyncpg
from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from ains.database_url import DatabaseUrl
from ains.db.migrations import LOCK_KEY, renew_grants

config = context.config


def _migrate(connection: Connection) -> None:
    context.configure(connection=connection, version_table="ains_schema_version")
    with context.begin_transaction():
        # Replicas that start at once migrate one after the other; the second finds nothing to do.
        # The lock ends with the transaction: one of a session would stay behind in a pooler.
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})
        context.run_migrations()
        renew_grants(connection)


async def _online(url: str) -> None:
    async def connect(**options: Any) -> asyncpg.Connection:
        # By asyncpg, as the service does: SQLAlchemy knows no URL with several hosts.
        return await asyncpg.connect(url, **options)

    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        poolclass=NullPool,
        # Named statements would collide behind a pooler.
        connect_args={
            "prepared_statement_cache_size": 0,
            "statement_cache_size": 0,
            "prepared_statement_name_func": lambda: "",
        },
    )
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_migrate)
    finally:
        await engine.dispose()


if context.is_offline_mode():
    context.configure(dialect_name="postgresql", version_table="ains_schema_version")
    with context.begin_transaction():
        context.run_migrations()
else:
    database_url = config.attributes.get("database_url") or os.environ.get("AINS_DATABASE_URL")
    if not database_url:
        raise SystemExit(
            "Set AINS_DATABASE_URL, or use `ains migrate`, which also knows the embedded database."
        )
    asyncio.run(_online(DatabaseUrl(database_url).reveal()))
