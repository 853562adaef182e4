"""Brings a database to the schema that this version of AINS needs.

The migrations are alembic's, in ``alembic/`` at the top of a checkout and in ``ains/_alembic/`` of
an installed wheel. Their SQL stands in ``alembic/sql/<revision>/*.sql``.
"""

from __future__ import annotations

import asyncio
import re
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import asyncpg

from ains.errors import SchemaTooNew, ServerTooOld

if TYPE_CHECKING:
    from alembic.config import Config

LOCK_KEY = 0x41494E53  # "AINS": the advisory lock under which one process migrates at a time

OLDEST_SERVER = 15
CONNECT_SECONDS = 10.0

_ALEMBIC = Lock()  # its configuration lives in its modules: one run at a time in a process
_REVISION = re.compile(r"^(\d{4})_\w+\.py$")


@cache
def script_location() -> Path:
    """The folder with ``env.py``: the checkout's, or the one inside the installed package."""
    package = Path(__file__).resolve().parent.parent
    for place in (package / "_alembic" / "alembic", package.parent / "alembic"):
        if (place / "env.py").is_file():
            return place
    raise FileNotFoundError("AINS was installed without its migrations; install it again")


@cache
def revisions() -> tuple[str, ...]:
    """All revisions this version knows, oldest first: ``0001``, ``0002`` and so on."""
    names = (path.name for path in (script_location() / "versions").iterdir())
    return tuple(sorted(match[1] for name in names if (match := _REVISION.match(name))))


def head() -> str:
    """The revision that this version of AINS needs."""
    return revisions()[-1]


async def current(connection: asyncpg.Connection) -> str | None:
    """The revision of a database, None when it was never migrated."""
    if await connection.fetchval("SELECT to_regclass('public.ains_schema_version')") is None:
        return None
    revision = await connection.fetchval("SELECT version_num FROM public.ains_schema_version")
    return None if revision is None else str(revision)


async def upgrade(dsn: str) -> str | None:
    """Migrate the database to :func:`head`, and return the revision it had before.

    Costs one short query when there is nothing to do. Processes that call it at the same time wait
    for each other.

    Raises:
        ServerTooOld: the server is older than PostgreSQL 15.
        SchemaTooNew: the database was migrated by a newer AINS.
    """
    # Nothing is prepared, and all is read in one transaction: works through a pooler too.
    connection = await asyncpg.connect(dsn, timeout=CONNECT_SECONDS, statement_cache_size=0)
    try:
        version = connection.get_server_version()
        if version.major < OLDEST_SERVER:
            raise ServerTooOld(
                f"The database server is PostgreSQL {version.major}; "
                f"AINS needs {OLDEST_SERVER} or newer."
            )
        async with connection.transaction():
            before = await current(connection)
    finally:
        await connection.close()
    if before == head():
        return before
    if before is not None and before not in revisions():
        raise SchemaTooNew(
            f"The database has schema {before}, this AINS knows schemas up to {head()}. "
            "Upgrade AINS, or point AINS_DATABASE_URL at another database."
        )
    await asyncio.to_thread(_run_alembic, dsn)
    return before


def _run_alembic(dsn: str) -> None:
    # Imported here: SQLAlchemy and alembic cost half a second, and most starts migrate nothing.
    from alembic import command
    from alembic.config import Config

    config: Config = Config()
    config.set_main_option("script_location", str(script_location()).replace("%", "%%"))
    config.attributes["database_url"] = dsn
    with _ALEMBIC:
        command.upgrade(config, "head")


def sqlalchemy_url(dsn: str) -> str:
    """The same database as SQLAlchemy spells it: ``postgresql+asyncpg://…``."""
    return re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql+asyncpg://", dsn)


def run_scripts(revision: str) -> None:
    """Run ``alembic/sql/<revision>/*.sql`` in the order of their names, inside the migration.

    asyncpg runs several statements at once only without parameters, so the scripts go to it as
    they are.
    """
    from alembic import context, op

    for script in sorted((script_location() / "sql" / revision).glob("*.sql")):
        text = script.read_text("utf-8")
        if context.is_offline_mode():
            op.execute(text)
            continue
        adapted = op.get_bind().connection.dbapi_connection
        if adapted is None:
            raise RuntimeError("the migration lost its connection")
        adapted.run_async(lambda connection, sql=text: connection.execute(sql))
