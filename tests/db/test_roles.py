"""The service and Prometheus have the rights they need, and no more."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from ains.db import migrations
from ains.errors import DatabaseUnavailable
from tests.support.cluster import cluster
from tests.support.databases import Databases, as_user
from tests.support.rows import add_agent, add_task
from tests.support.scraped import total
from tests.support.serving import ains, serving

ANYTHING = "SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER"
TASK = {"client_id": "c", "task_type": "t", "capability_required": "x", "input_data": {}}


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def denied(connection: asyncpg.Connection, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(statement)


async def names(db: asyncpg.Connection, query: str) -> set[str]:
    return {row[0] for row in await db.fetch(query)}


async def test_scraper_reads_the_metrics_and_nothing_else(
    db: asyncpg.Connection, scraper_url: str
) -> None:
    # As where nobody may use the schema public without being told.
    await db.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    await add_agent(db)
    task = await add_task(db, input_data='{"secret": 1}')
    async with connected(scraper_url) as scraper:
        seen = await names(
            scraper,
            f"SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'v', 'm', 'p')"
            f" AND relnamespace = 'public'::regnamespace"
            f" AND (has_table_privilege(oid, '{ANYTHING}')"
            f"      OR has_any_column_privilege(oid, 'SELECT, INSERT, UPDATE, REFERENCES'))",
        )
        assert seen == set()
        written = await names(
            scraper,
            "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'metrics'::regnamespace"
            " AND relkind IN ('r', 'v', 'm', 'p') AND has_table_privilege(oid, "
            " 'INSERT, UPDATE, DELETE, TRUNCATE')",
        )
        assert written == set()
        views = await names(
            scraper,
            "SELECT format('%I.%I', schemaname, viewname) FROM pg_views"
            " WHERE schemaname = 'metrics'",
        )
        for view in views:
            await scraper.fetch(f"SELECT * FROM {view}")
        assert len(views) > 20
        for statement in (
            "SELECT input_data FROM public.tasks",
            "SELECT * FROM public.task_events",
            "SELECT metrics.fold()",
            "SELECT metrics.rotate()",
            "UPDATE metrics.settings SET agent_ttl = '1 day'",
            "DELETE FROM metrics.totals",
            f"SELECT public.end_attempts('{{{task}}}', 'x')",
            "CREATE TABLE metrics.mine ()",
        ):
            await denied(scraper, statement)
        callable_ = await names(
            scraper,
            "SELECT oid::regprocedure::text FROM pg_proc WHERE prosecdef"
            " AND has_function_privilege(oid, 'EXECUTE')",
        )
        assert callable_ == set()


async def test_service_owns_nothing_and_changes_no_table(
    db: asyncpg.Connection, service_url: str
) -> None:
    await add_task(db)
    async with connected(service_url) as service:
        for statement in (
            "CREATE TABLE public.mine ()",
            "CREATE TABLE metrics.mine ()",
            "CREATE SCHEMA mine",
            "ALTER TABLE public.tasks DISABLE TRIGGER USER",
            "ALTER TABLE public.tasks ADD COLUMN mine integer",
            "SET session_replication_role = replica",
            "TRUNCATE public.tasks CASCADE",
            "DROP TABLE public.tasks CASCADE",
            "CREATE TRIGGER mine BEFORE UPDATE ON public.tasks EXECUTE FUNCTION public.uuid7()",
            # What has been counted stays counted.
            "UPDATE metrics.totals SET n = 0",
            "DELETE FROM public.task_events_open",
            "DELETE FROM public.task_events_closed",
            "UPDATE public.ains_schema_version SET version_num = '9999'",
        ):
            await denied(service, statement)
        assert await service.fetchval("SELECT metrics.fold()") == 1
        rights = (
            "SELECT oid::regclass::text FROM pg_class AS c"
            " WHERE relnamespace IN ('public'::regnamespace, 'metrics'::regnamespace)"
            " AND relkind IN ('r', 'v', 'm', 'p') AND NOT relispartition"
        )
        unread = await names(service, f"{rights} AND NOT has_table_privilege(oid, 'SELECT')")
        assert unread == set(), "roles.sql has forgotten these"
        changed = await names(
            service, f"{rights} AND has_table_privilege(oid, 'TRUNCATE, REFERENCES, TRIGGER')"
        )
        assert changed == set()


async def test_functions_with_their_owners_rights_choose_what_they_call(
    db: asyncpg.Connection,
) -> None:
    """Else whoever may make a table or a function could be run with those rights."""
    loose = await names(
        db,
        "SELECT oid::regprocedure::text FROM pg_proc WHERE prosecdef"
        " AND NOT coalesce(proconfig::text LIKE '%search_path=pg_catalog, pg_temp%', false)",
    )
    assert loose == set()


async def test_later_migrations_renew_the_privileges(
    databases: Databases, db: asyncpg.Connection, database_url: str, scraper_url: str
) -> None:
    await db.execute("CREATE VIEW metrics.later AS SELECT 1 AS value")
    await db.execute("REVOKE UPDATE ON public.tasks FROM ains_app")
    await asyncio.to_thread(migrations._run_alembic, database_url)
    assert await db.fetchval("SELECT has_table_privilege('ains_app', 'tasks', 'UPDATE')")
    async with connected(scraper_url) as scraper:
        assert await scraper.fetchval("SELECT value FROM metrics.later") == 1
    async with databases.clone(empty=True) as other:
        await migrations.upgrade(other)
        async with connected(other) as unused:
            can = "SELECT has_schema_privilege('ains_app', 'metrics', 'USAGE')"
            assert not await unused.fetchval(can), "nobody asked for roles there"


async def test_migrate_makes_the_roles_as_often_as_it_is_told(databases: Databases) -> None:
    async with databases.clone(empty=True) as dsn:
        for _ in range(2):
            done = await asyncio.to_thread(ains, "migrate", "--roles", database_url=dsn)
            assert (done.returncode, done.stderr) == (0, "")
            assert "ains_app" in done.stdout
        async with connected(databases.as_member(dsn, "ains_scraper")) as scraper:
            assert await scraper.fetchval("SELECT value FROM metrics.ains_agents_total") == 0
        # At once, as when several databases of a server are migrated.
        await asyncio.gather(*(migrations.grant_roles(dsn) for _ in range(4)))


async def test_service_that_may_not_migrate_says_who_may_and_waits(databases: Databases) -> None:
    async with databases.clone(empty=True) as dsn:
        service = databases.as_member(dsn, "ains_app")
        done = await asyncio.to_thread(ains, "migrate", database_url=service)
        assert done.returncode == 1
        assert "may not change it. Run `ains migrate` as the role that owns it" in done.stderr
        assert "Traceback" not in done.stderr
        async with serving(ready=False, database_url=service) as server:
            await server.until("/health", 200)
            assert "Run `ains migrate`" in (await server.get("/health/ready"))[2]
            await migrations.upgrade(dsn)

            async def refused() -> bool:
                return "GRANT ains_app" in (await server.get("/health/ready"))[2]

            async with asyncio.timeout(20):
                while not await refused():
                    await asyncio.sleep(0.05)
            await migrations.grant_roles(dsn)
            await server.until("/health/ready", 200)
            assert "Traceback" not in server.output


@pytest.mark.parametrize("major", [15, None], ids=["15", "newest"])
async def test_owner_who_is_no_superuser_makes_and_lends_the_roles(major: int | None) -> None:
    """As on a managed server; since PostgreSQL 16 CREATEROLE extends to one's own roles only."""
    async with cluster(major) as server:
        await server.execute(
            "CREATE ROLE owner LOGIN",
            "CREATE DATABASE theirs OWNER owner",
            database="postgres",
        )
        dsn = server.url("theirs", "owner")
        await migrations.upgrade(dsn)
        with pytest.raises(DatabaseUnavailable, match="administrator run: CREATE ROLE ains_app"):
            await migrations.grant_roles(dsn)
        await server.execute("ALTER ROLE owner CREATEROLE")
        await migrations.grant_roles(dsn)
        await server.execute("ALTER ROLE owner NOCREATEROLE")
        await migrations.grant_roles(dsn)  # they are there
        await server.execute("ALTER ROLE owner CREATEROLE")
        async with connected(dsn) as owner:
            await owner.execute("CREATE ROLE service LOGIN IN ROLE ains_app")
            await owner.execute("CREATE ROLE prometheus LOGIN IN ROLE ains_scraper")
        async with serving(
            database_url=as_user(dsn, "service"), metrics_database_url=as_user(dsn, "prometheus")
        ) as running:
            async with running.http.post(f"{running.url}/ains/tasks", json=TASK) as response:
                assert response.status == 200
            assert total(await running.scrape(), "ains_tasks_created_total") == 1
            assert "refuses AINS" not in running.output
