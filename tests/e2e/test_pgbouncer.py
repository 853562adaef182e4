"""The service behind a PgBouncer in transaction mode, which no setting tells of."""

import asyncio
import json

import asyncpg

from ains.db.migrations import head, upgrade
from ains.workers.listener import Listener
from tests.support.databases import Databases
from tests.support.load import Load
from tests.support.pgbouncer import needs_pgbouncer, pgbouncer
from tests.support.recount import differences, impossible_histories
from tests.support.scraped import assert_invariants, total
from tests.support.serving import ains, serving

pytestmark = needs_pgbouncer


async def test_service_works_through_it(databases: Databases) -> None:
    async with (
        databases.clone(empty=True) as dsn,
        pgbouncer(dsn) as through,
        serving(database_url=through, dispatch_interval="0.05") as server,
    ):
        load = Load([server.url], clients=6)
        async with load.running():
            await load.until_accepted(150)
            assert_invariants(await server.scrape())
        db = await asyncpg.connect(dsn)

        async def left() -> int:
            count: int = await db.fetchval("SELECT count(*) FROM tasks WHERE status <> 'COMPLETED'")
            return count

        await load.work_off(left, 30)
        detail = json.loads((await server.get("/health/detail"))[2])
        assert detail["status"] == "healthy"
        assert detail["dispatcher"]["notifications"] == "polling"
        found = await server.scrape()
        assert total(found, "ains_tasks_completed_total") == len(load.accepted)
        assert set(load.answers) == {200}, load.answers
        assert not load.broken
        assert '"level":"error"' not in server.output
        assert '"level":"warning"' not in server.output
        assert await differences(db) == []
        assert await impossible_histories(db) == []
        await db.close()


async def test_many_migrate_at_once_through_it(databases: Databases) -> None:
    async with databases.clone(empty=True) as dsn, pgbouncer(dsn) as through:
        async with asyncio.timeout(20):
            await asyncio.gather(*(upgrade(through) for _ in range(3)))
        for _ in range(2):  # over one session; processes name their statements alike
            done = await asyncio.to_thread(ains, "migrate", database_url=through)
            assert done.stdout == f"The schema is up to date ({head()}).\n", done.stderr
        db = await asyncpg.connect(dsn)
        locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        assert await db.fetchval(locks) == 0, "a lock stayed behind in the pooler's session"
        await db.close()


async def test_nobody_listens_through_it(database_url: str, db: asyncpg.Connection) -> None:
    """LISTEN would stay in a session that belongs to everybody."""
    async with pgbouncer(database_url) as through:
        listener = Listener(through, lambda: None)
        async with asyncio.timeout(5):
            await listener.run()
        assert listener.state == "polling"
        listening = "SELECT count(*) FROM pg_stat_activity WHERE query ILIKE 'LISTEN%'"
        assert await db.fetchval(listening + " AND datname = current_database()") == 0
