"""The open parts of the ledgers get new files without a fact lost, counted twice or hidden."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from ains.db.pool import Database
from ains.workers import maintenance
from ains.workers.maintenance import Compactor, Folder
from collectors.scrape import Scraper
from tests.support.databases import eventually
from tests.support.scraped import scrape, total

A_TASK = "INSERT INTO tasks (client_id, task_type, capability_required) VALUES ('c', 't', 'x')"
CREATED = "SELECT coalesce(sum(value), 0)::bigint FROM metrics.ains_tasks_created_total"
SIZE = "SELECT pg_relation_size('task_events_open')"


@asynccontextmanager
async def connect(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def add_tasks(db: asyncpg.Connection, count: int) -> None:
    for _ in range(count):
        await db.execute(A_TASK)


async def test_rotation_changes_no_value(db: asyncpg.Connection) -> None:
    await add_tasks(db, 3)
    assert await db.fetchval("SELECT metrics.rotate()")
    assert await db.fetchval(SIZE) == 0
    assert await db.fetchval(CREATED) == 3
    await add_tasks(db, 2)
    assert await db.fetchval(CREATED) == 5
    assert await db.fetchval("SELECT count(*) FROM task_events") == 5


async def test_older_snapshot_gets_an_error_and_no_wrong_number(
    database_url: str, db: asyncpg.Connection
) -> None:
    await add_tasks(db, 3)
    async with connect(database_url) as other:
        async with other.transaction(isolation="repeatable_read"):
            await other.fetch("SELECT 1 FROM agents")  # has its snapshot, and no lock that matters
            assert await db.fetchval("SELECT metrics.rotate()")
            with pytest.raises(asyncpg.SerializationError, match="since this transaction"):
                async with other.transaction():
                    await other.fetchval(CREATED)
            with pytest.raises(asyncpg.SerializationError):
                async with other.transaction():
                    await other.fetch("SELECT * FROM metrics.ledger_state")
            for ledger in ("task", "chain", "webhook"):
                with pytest.raises(asyncpg.SerializationError):
                    async with other.transaction():
                        await other.fetch(f"SELECT * FROM {ledger}_events")
        assert await other.fetchval(CREATED) == 3


async def test_history_can_be_read_by_who_may_read_nothing_else(db: asyncpg.Connection) -> None:
    await add_tasks(db, 3)
    async with db.transaction():
        await db.execute("""
            CREATE ROLE historian; GRANT SELECT ON task_events TO historian; SET ROLE historian
        """)
        assert await db.fetchval("SELECT count(*) FROM task_events") == 3
        await db.execute("RESET ROLE; DROP OWNED BY historian; DROP ROLE historian")


async def test_reader_of_the_ledger_is_not_disturbed(
    database_url: str, db: asyncpg.Connection
) -> None:
    await add_tasks(db, 3)
    async with connect(database_url) as other, other.transaction(isolation="repeatable_read"):
        assert await other.fetchval(CREATED) == 3
        await db.execute("SELECT metrics.fold()")
        assert not await db.fetchval("SELECT metrics.rotate()")
        assert await other.fetchval(CREATED) == 3


async def test_dump_is_left_alone(database_url: str, db: asyncpg.Connection) -> None:
    name = {"application_name": "pg_dump"}
    dump = await asyncpg.connect(database_url, server_settings=name)
    assert not await db.fetchval("SELECT metrics.rotate()")
    await dump.close()

    async def rotated() -> bool:
        done: bool = await db.fetchval("SELECT metrics.rotate()")
        return done

    await eventually(rotated)


async def test_idle_session_of_a_backup_service_is_in_nobody_s_way(
    database_url: str, db: asyncpg.Connection
) -> None:
    """A pool keeps its connections, and their name, between two backups."""
    name = {"application_name": "backup-service"}
    pooled = await asyncpg.connect(database_url, server_settings=name)
    await pooled.execute("SELECT 1")
    assert await db.fetchval("SELECT metrics.is_dumped()")
    definition = await db.fetchval("SELECT pg_get_functiondef('metrics.is_dumped'::regproc)")
    assert "10 seconds" in definition
    await db.execute(definition.replace("10 seconds", "0.2 seconds"))
    await asyncio.sleep(0.3)
    assert await db.fetchval("SELECT metrics.rotate()")
    async with pooled.transaction():
        await pooled.execute("SELECT 1")
        await asyncio.sleep(0.3)
        assert not await db.fetchval("SELECT metrics.rotate()")
    await pooled.close()


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
async def test_facts_are_moved_by_nobody_whose_snapshot_is_older_than_his_locks(
    database_url: str, db: asyncpg.Connection, level: str
) -> None:
    """What a writer commits while a rotation waits for its lock would be thrown away."""
    calls = ("fold()", "rotate()", "prune_ledger(now())", "drop_partitions()")
    async with connect(database_url) as other:
        await other.execute(f"SET default_transaction_isolation = '{level}'")
        await add_tasks(other, 1)
        for call in calls:
            with pytest.raises(asyncpg.InvalidTransactionStateError, match=level):
                await other.execute(f"SELECT metrics.{call}")
    for call in calls:
        await db.execute(f"SELECT metrics.{call}")
    assert await db.fetchval(CREATED) == 1


async def test_dump_that_comes_in_the_middle_misses_nothing(
    database_url: str, db: asyncpg.Connection
) -> None:
    """It has its snapshot, and waits for its locks until the rotation has ended."""
    await add_tasks(db, 3)
    await db.execute("""
        CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NEW; END $$;
        CREATE TRIGGER wait BEFORE UPDATE ON metrics.fold_state FOR EACH ROW EXECUTE FUNCTION wait()
    """)
    async with connect(database_url) as rotator:
        async with db.transaction():
            await db.execute("SELECT pg_advisory_xact_lock(4711)")
            rotating = asyncio.create_task(rotator.fetchval("SELECT metrics.rotate()"))
            await eventually(
                lambda: db.fetchval(
                    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                    " AND pid = $1",
                    rotator.get_server_pid(),
                )
            )
            name = {"application_name": "pg_dump"}
            dump = await asyncpg.connect(database_url, server_settings=name)
            dumping = dump.transaction(isolation="repeatable_read", readonly=True)
            await dumping.start()
            totals = "SELECT count(*) FROM metrics.totals"
            assert await dump.fetchval(totals) == 0
        assert not await rotating
    assert await dump.fetchval("SELECT count(*) FROM task_events_open") == 3
    assert await dump.fetchval(totals) == 0
    await dumping.rollback()
    await dump.close()
    assert await db.fetchval("SELECT happened = seen FROM metrics.rotation_state")
    assert await db.fetchval(CREATED) == 3


async def test_writer_in_the_way_is_not_waited_for(
    database_url: str, db: asyncpg.Connection
) -> None:
    async with connect(database_url) as other:
        async with other.transaction():
            await add_tasks(other, 1)
            assert not await db.fetchval("SELECT metrics.rotate()")
        assert await db.fetchval("SELECT metrics.rotate()")
    assert await db.fetchval(CREATED) == 1


async def test_rotation_that_was_rolled_back_is_forgotten_by_the_next_fold(
    db: asyncpg.Connection,
) -> None:
    await add_tasks(db, 2)
    transaction = db.transaction()
    await transaction.start()
    assert await db.fetchval("SELECT metrics.rotate()")
    await transaction.rollback()
    with pytest.raises(asyncpg.SerializationError):
        await db.fetchval(CREATED)
    await db.execute("SELECT metrics.fold()")
    assert await db.fetchval(CREATED) == 2


async def test_scrape_that_met_a_rotation_begins_again(
    database_url: str, db: asyncpg.Connection, scraper: Scraper
) -> None:
    await add_tasks(db, 2)
    await db.execute("SELECT setval('metrics.rotations', 7)")  # as a rotation on its way has
    scraping = asyncio.create_task(scrape(scraper))
    await asyncio.wait([scraping], timeout=0.2)
    assert not scraping.done()
    await db.execute("SELECT metrics.fold()")
    assert total(await scraping, "ains_tasks_created_total") == 2


async def test_nothing_is_lost_when_writers_and_scrapes_go_on(
    database_url: str, db: asyncpg.Connection, scraper: Scraper
) -> None:
    written = 0
    stopping = False

    async def write() -> None:
        nonlocal written
        async with connect(database_url) as other:
            while not stopping:
                await add_tasks(other, 1)
                written += 1

    async def watch() -> None:
        last = 0.0
        while not stopping:
            now = total(await scrape(scraper), "ains_tasks_created_total")
            assert now >= last
            last = now

    tasks = [asyncio.create_task(run()) for run in (write, write, watch)]
    rotated = 0
    while rotated < 10:
        rotated += await db.fetchval("SELECT metrics.rotate()")
        await asyncio.sleep(0.01)
    stopping = True
    await asyncio.gather(*tasks)
    assert written > 0
    assert await db.fetchval(CREATED) == written
    assert await db.fetchval("SELECT count(*) FROM task_events") == written


async def test_open_part_stays_small_while_an_old_transaction_is_open(
    database_url: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_ROOMY", 50_000)
    monkeypatch.setattr(maintenance, "_BLOATED", 100_000)
    database = Database(database_url)
    folder, compactor = Folder(database, interval=1), Compactor(database)
    batch = A_TASK.replace("VALUES ('c', 't', 'x')", "SELECT 'c', 't', 'x'")
    async with connect(database_url) as old, old.transaction(isolation="repeatable_read"):
        await old.fetch("SELECT 1 FROM agents")
        sizes = []
        for _ in range(10):
            await db.execute(batch + " FROM generate_series(1, 400)")
            await folder.step()
            await compactor.step()
            sizes.append(await db.fetchval(SIZE))
    assert max(sizes) < 200_000
    assert await db.fetchval("SELECT last_value FROM metrics.rotations") > 1
    assert await db.fetchval(CREATED) == 4000
    await database.close()


async def test_vacuum_is_enough_without_old_transactions(
    database_url: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_ROOMY", 50_000)
    database = Database(database_url)
    folder, compactor = Folder(database, interval=1), Compactor(database)
    batch = A_TASK.replace("VALUES ('c', 't', 'x')", "SELECT 'c', 't', 'x'")
    for _ in range(20):
        await db.execute(batch + " FROM generate_series(1, 400)")
        await folder.step()
        await compactor.step()
    assert await db.fetchval(SIZE) < 200_000
    assert await db.fetchval("SELECT last_value FROM metrics.rotations") == 0
    await database.close()
