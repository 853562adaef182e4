"""Whatever brings the tables back brings every counter back, and it counts on from there."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from ains.db.migrations import ROLES, grant_roles, upgrade
from ains.metrics import database_collectors
from collectors.connection import pool_maker
from collectors.scrape import Scraper
from collectors.verify import Difference, verify
from tests.support.cluster import Cluster, cluster, standby_of
from tests.support.databases import as_user, with_database
from tests.support.history import add_history
from tests.support.load import Load
from tests.support.recount import impossible_histories
from tests.support.retention import count, ended_tasks, fold, prune
from tests.support.scraped import Values, assert_invariants, assert_monotone, lasting, total, values
from tests.support.serving import serving

DAYS = timedelta(days=1)
TASK = {"client_id": "c", "task_type": "new", "capability_required": "x", "input_data": {}}


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def scraping(dsn: str) -> AsyncIterator[Scraper]:
    scraper = Scraper(pool_maker(dsn), database_collectors())
    try:
        yield scraper
    finally:
        await scraper.close()


async def shown(scraper: Scraper) -> Values:
    """One scrape, with the times at which its series began."""
    snapshot = await scraper.scrape()
    assert [outcome.error for outcome in snapshot.outcomes] == [None] * 5
    found = values(snapshot.metrics(created=True))
    assert_invariants(found)
    return lasting(found)


async def wrong(db: asyncpg.Connection) -> Sequence[Difference]:
    """What `ains metrics verify` finds."""
    return (await verify(db, database_collectors())).differences


async def with_history(server: Cluster) -> None:
    """Facts that are pruned, closed in partitions and in the default one, and open."""
    await upgrade(server.dsn)
    await grant_roles(server.dsn)
    async with connected(server.dsn) as db:
        await db.execute("SELECT metrics.make_partitions()")
        await ended_tasks(db, 30, 40 * DAYS)
        await ended_tasks(db, 30, 5 * DAYS)
        await fold(db)
        await prune(db, 30 * DAYS)
        await add_history(db)
        await fold(db)
        await add_history(db)
        assert await count(db, "metrics.pruned")
        for ledger in ("task", "chain", "webhook"):
            assert await count(db, f"{ledger}_events_closed")
            assert await count(db, f"{ledger}_events_open")


async def assert_counts_on(dsn: str, before: Values) -> None:
    """New work adds up, facts have numbers of their own, and history is kept as ever."""
    async with connected(dsn) as db, scraping(dsn) as scraper:
        assert await shown(scraper) == before
        assert await wrong(db) == []
        await add_history(db)
        after = await shown(scraper)
        assert_monotone(before, after)
        created = "ains_tasks_created_total"
        # Twenty tasks and the first steps of three chains; of these, some have their second.
        assert total(after, created) >= total(before, created) + 23
        await fold(db)
        assert await shown(scraper) == after
        assert await wrong(db) == []
        for ledger, key in (
            ("task", "(at, task_id, to_status)"),
            ("chain", "event_id"),
            ("webhook", "event_id"),
        ):
            twice = f"SELECT count(*) - count(DISTINCT {key}) FROM {ledger}_events"
            assert await db.fetchval(twice) == 0
        await db.execute("SELECT metrics.make_partitions($1)", datetime.now(UTC).date() + 9 * DAYS)
        assert await db.fetchval("SELECT metrics.rotate()")
        assert await shown(scraper) == after
        await prune(db, -DAYS)
        assert await shown(scraper) == after
        assert await wrong(db) == []


async def make_roles(server: Cluster) -> None:
    await server.execute(*(f"CREATE ROLE {role} NOLOGIN" for role in ROLES), database="postgres")


@pytest.mark.parametrize(
    ("major", "form"),
    [(None, "custom"), (None, "plain"), (15, "custom")],
    ids=["same version", "as SQL", "newer major version"],
)
async def test_dump_restores_every_counter_into_a_fresh_server(
    major: int | None, form: str
) -> None:
    async with cluster(major) as old, cluster() as new:
        await with_history(old)
        async with scraping(old.dsn) as scraper:
            before = await shown(scraper)
        await make_roles(new)
        # The server's own pg_dump: that of 18.6 can't dump 15.20, which is of a later date.
        dump = old.run("pg_dump", f"--format={form}", old.dsn)
        if form == "custom":
            new.run("pg_restore", "--exit-on-error", f"--dbname={new.dsn}", given=dump)
        else:
            new.run("psql", "-qX", "--set=ON_ERROR_STOP=1", new.dsn, given=dump)
        await old.stop()
        await new.execute("CREATE ROLE service LOGIN IN ROLE ains_app")
        await new.execute("CREATE ROLE prometheus LOGIN IN ROLE ains_scraper")
        async with scraping(as_user(new.dsn, "prometheus")) as scraper:
            assert await shown(scraper) == before
        await assert_counts_on(new.dsn, before)
        async with serving(
            database_url=as_user(new.dsn, "service"),
            metrics_database_url=as_user(new.dsn, "prometheus"),
        ) as server:
            async with server.http.post(f"{server.url}/ains/tasks", json=TASK) as response:
                assert response.status == 200
            found = await server.scrape()
            assert total(found, "ains_tasks_created_total", task_type="new") == 1


async def test_dumps_beside_writers_folds_and_rotations_are_whole() -> None:
    async with cluster() as server:
        await upgrade(server.dsn)
        await grant_roles(server.dsn)
        stopping = False
        rotations = 0

        async def write() -> None:
            async with connected(server.dsn) as db:
                while not stopping:
                    await db.execute(
                        "INSERT INTO tasks (client_id, task_type, capability_required)"
                        " SELECT 'c', 't', 'x' FROM generate_series(1, 5)"
                    )

        async def keep_up() -> None:
            nonlocal rotations
            async with connected(server.dsn) as db:
                while not stopping:
                    await fold(db)
                    rotations += await db.fetchval("SELECT metrics.rotate()")
                    await asyncio.sleep(0.001)

        others = [asyncio.create_task(work()) for work in (write, write, keep_up)]
        dumps = []
        for _ in range(4):
            before = rotations
            async with asyncio.timeout(20):
                while rotations == before:
                    await asyncio.sleep(0.01)
            dumps.append(
                await asyncio.to_thread(server.run, "pg_dump", "--format=custom", server.dsn)
            )
        stopping = True
        await asyncio.gather(*others)
        counted = []
        for number, dump in enumerate(dumps):
            await server.execute(f"CREATE DATABASE restored_{number}", database="postgres")
            dsn = with_database(server.dsn, f"restored_{number}")
            server.run("pg_restore", "--exit-on-error", f"--dbname={dsn}", given=dump)
            async with connected(dsn) as db:
                counted.append(await count(db, "tasks"))
                assert await wrong(db) == []
        assert sorted(set(counted)) == counted, "each has more than the one before"


async def test_another_role_can_own_what_is_restored() -> None:
    async with cluster() as server:
        await server.execute(
            "CREATE ROLE first LOGIN CREATEROLE",
            "CREATE ROLE second LOGIN",
            "ALTER DATABASE ains OWNER TO first",
            "CREATE DATABASE restored OWNER second",
            database="postgres",
        )
        first, second = server.url("ains", "first"), server.url("restored", "second")
        await upgrade(first)
        await grant_roles(first)
        async with connected(first) as db:
            await add_history(db)
            await fold(db)
            await add_history(db)
        async with scraping(first) as scraper:
            before = await shown(scraper)
        dump = server.run("pg_dump", "--format=custom", first)
        server.run(
            "pg_restore",
            *("--exit-on-error", "--no-owner", "--no-privileges", "--role=second"),
            f"--dbname={server.url('restored')}",
            given=dump,
        )
        await server.execute(
            "DROP DATABASE ains WITH (FORCE)", "DROP ROLE first", database="postgres"
        )
        await grant_roles(second)
        await assert_counts_on(second, before)


async def test_process_is_not_fooled_when_its_database_is_replaced() -> None:
    """It keeps totals by their generation; a restored database goes through the same ones again."""
    async with cluster() as server, scraping(server.dsn) as scraper:
        await with_history(server)
        await shown(scraper)
        dump = server.run("pg_dump", "--format=custom", server.dsn)

        async def go_on(times: int) -> None:
            async with connected(server.dsn) as db:
                for _ in range(times):
                    await add_history(db)
                    await fold(db)

        async def assert_not_fooled() -> None:
            await go_on(1)
            async with scraping(server.dsn) as new:
                assert await shown(scraper) == await shown(new)

        await go_on(1)
        kept = await shown(scraper)
        for replace in (
            # In place, and as another database of the same name.
            ["--clean", "--if-exists", f"--dbname={server.dsn}"],
            ["--clean", "--create", f"--dbname={server.url('postgres')}"],
        ):
            async with connected(server.url("postgres")) as admin:
                await admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'ains'"
                )
            server.run("pg_restore", "--exit-on-error", *replace, given=dump)
            await assert_not_fooled()
            found = await shown(scraper)
            assert set(found) == set(kept)


async def test_promoted_standby_counts_on_where_replication_ended() -> None:
    """Its primary dies under load; what it had not sent is lost together with what was counted."""
    async with cluster() as primary:
        await upgrade(primary.dsn)
        async with standby_of(primary) as standby:
            hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
            url = f"postgresql://postgres@{hosts}/ains?target_session_attrs=read-write"
            async with serving(database_url=url, access_log="off") as server:
                load = Load([server.url])
                async with load.running():
                    await load.until_accepted(100)
                    async with scraping(standby.dsn) as scraper:
                        before = await shown(scraper)
                        await primary.kill()
                        at_the_end = await shown(scraper)
                    await asyncio.to_thread(standby.promote)
                    await load.until_accepted(50)
                async with connected(standby.dsn) as db:

                    async def left() -> int:
                        return await count(db, "tasks WHERE status <> 'COMPLETED'")

                    await load.work_off(left, 30)
                    found = await server.scrape()
                    assert_invariants(found)
                    for replicated in (before, at_the_end):
                        assert_monotone(replicated, found)
                    assert total(found, "ains_tasks_created_total") == await count(db, "tasks")
                    assert total(found, "ains_tasks_completed_total") == await count(db, "tasks")
                    assert await impossible_histories(db) == []
                    assert await wrong(db) == []
                    await fold(db)
                    assert await wrong(db) == []
