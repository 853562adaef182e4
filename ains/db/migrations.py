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

from ains.errors import DatabaseUnavailable, SchemaTooNew, ServerTooOld

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

LOCK_KEY = 0x41494E53  # "AINS": the advisory lock under which one process migrates at a time

OLDEST_SERVER = 15
CONNECT_SECONDS = 10.0

ROLES = ("ains_app", "ains_scraper")
"""The roles that `grant_roles` makes."""

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
    """The revision of a database, None when it was never migrated.

    Raises:
        DatabaseUnavailable: this role may not look.
    """
    version_table = "to_regclass('public.ains_schema_version')"
    [(user, table)] = await connection.fetch(f"SELECT current_user, {version_table}::text")
    if table is None:
        return None
    try:
        revision = await connection.fetchval("SELECT version_num FROM public.ains_schema_version")
    except asyncpg.InsufficientPrivilegeError:
        raise DatabaseUnavailable(
            f"The role {user} may not read the tables of AINS. Make it a member of the role that "
            f"may: GRANT ains_app TO {user}; `ains migrate --roles` makes that one."
        ) from None
    return None if revision is None else str(revision)


async def upgrade(dsn: str) -> str | None:
    """Migrate the database to :func:`head`, and return the revision it had before.

    Costs a few short queries when there is nothing to do, and needs no rights but those of
    ``ains_app`` then. Processes that call it at the same time wait for each other.

    Raises:
        ServerTooOld: the server is older than PostgreSQL 15.
        SchemaTooNew: the database was migrated by a newer AINS.
        DatabaseUnavailable: this role may not migrate, or not even look.
    """
    connection = await _connect(dsn)
    try:
        version = connection.get_server_version()
        if version.major < OLDEST_SERVER:
            raise ServerTooOld(
                f"The database server is PostgreSQL {version.major}; "
                f"AINS needs {OLDEST_SERVER} or newer."
            )
        async with connection.transaction():
            user = await connection.fetchval("SELECT current_user")
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
    try:
        await asyncio.to_thread(_run_alembic, dsn)
    except Exception as error:
        if not _was_denied(error):
            raise
        raise DatabaseUnavailable(
            f"The schema is {before or 'not there'}, this AINS needs {head()}, and the role {user} "
            "may not change it. Run `ains migrate` as the role that owns it."
        ) from error
    return before


async def grant_roles(dsn: str) -> None:
    """Make the roles of :data:`ROLES` and give them their privileges, see ``roles.sql``.

    Later migrations renew the privileges by themselves.

    Raises:
        DatabaseUnavailable: this role may not do that.
    """
    connection = await _connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute(f"SELECT pg_advisory_xact_lock({LOCK_KEY})")
            await connection.execute(_roles_script().read_text("utf-8"))
    except asyncpg.InsufficientPrivilegeError as error:
        raise DatabaseUnavailable(
            f"The roles {' and '.join(ROLES)} can't be given their privileges: {error}."
        ) from None
    finally:
        await connection.close()


async def _connect(dsn: str) -> asyncpg.Connection:
    # Nothing is prepared, and all is done in one transaction: works through a pooler too.
    return await asyncpg.connect(dsn, timeout=CONNECT_SECONDS, statement_cache_size=0)


def _was_denied(error: BaseException | None) -> bool:
    # SQLAlchemy wraps what asyncpg raises.
    while error is not None:
        if isinstance(error, asyncpg.InsufficientPrivilegeError):
            return True
        error = getattr(error, "orig", None) or error.__cause__
    return False


def _run_alembic(dsn: str) -> None:
    # Imported here: SQLAlchemy and alembic cost half a second, and most starts migrate nothing.
    from alembic import command
    from alembic.config import Config

    config: Config = Config()
    config.set_main_option("script_location", str(script_location()).replace("%", "%%"))
    config.attributes["database_url"] = dsn
    with _ALEMBIC:
        command.upgrade(config, "head")


def run_scripts(revision: str) -> None:
    """Run ``alembic/sql/<revision>/*.sql`` in the order of their names, inside the migration."""
    from alembic import context, op

    for script in sorted((script_location() / "sql" / revision).glob("*.sql")):
        if context.is_offline_mode():
            op.execute(script.read_text("utf-8"))
        else:
            _run_script(op.get_bind(), script)


def renew_grants(connection: Connection) -> None:
    """Give the roles what they need of the schema as it is now, if this database uses them."""
    from sqlalchemy import text

    used = """
        SELECT count(*) FROM pg_catalog.pg_namespace AS n, aclexplode(n.nspacl) AS a
         WHERE n.nspname = 'metrics' AND a.grantee = to_regrole('ains_app')
    """
    if connection.scalar(text(used)):
        _run_script(connection, _roles_script())


def _roles_script() -> Path:
    return script_location() / "sql" / "roles.sql"


def _run_script(connection: Connection, script: Path) -> None:
    # asyncpg runs several statements at once only without parameters, so it gets them as they are.
    adapted = connection.connection.dbapi_connection
    if adapted is None:
        raise RuntimeError("the migration lost its connection")
    sql = script.read_text("utf-8")
    adapted.run_async(lambda driver: driver.execute(sql))
