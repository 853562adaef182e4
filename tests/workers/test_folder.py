"""The ledger is folded, by one process at a time, as often as it needs."""

import asyncpg

from ains.db.pool import Database
from ains.workers.maintenance import Folder
from tests.support.databases import eventually


async def add_events(db: asyncpg.Connection, count: int) -> None:
    await db.execute(
        "INSERT INTO tasks (client_id, task_type, capability_required)"
        " SELECT 'c', 't', 'x' FROM generate_series(1, $1)",
        count,
    )


async def open_events(db: asyncpg.Connection) -> int:
    count: int = await db.fetchval("SELECT count(*) FROM task_events_open")
    return count


async def test_full_batch_is_followed_by_another(service_url: str, db: asyncpg.Connection) -> None:
    database = Database(service_url)
    folder = Folder(database, interval=1)
    await add_events(db, 5100)
    assert await folder.step() == 0
    assert await open_events(db) == 100
    assert await folder.step() > 0
    assert await open_events(db) == 0
    assert await db.fetchval("SELECT value FROM metrics.ains_tasks_created_total") == 5100
    await database.close()


async def test_folds_more_often_when_there_is_more_to_fold(
    service_url: str, db: asyncpg.Connection
) -> None:
    database = Database(service_url)
    folder = Folder(database, interval=1)
    assert await folder.step() == 1
    await add_events(db, 3000)
    busy = await folder.step()
    assert busy == 0.5
    assert busy < await folder.step() <= 1
    await database.close()


async def test_waits_while_another_process_folds(service_url: str, db: asyncpg.Connection) -> None:
    database = Database(service_url)
    folder = Folder(database, interval=1)
    await add_events(db, 1)
    async with db.transaction():
        await db.execute("SELECT metrics.fold()")
        assert await folder.step() == 1
    await database.close()


async def test_idle_ledger_is_looked_at(service_url: str, db: asyncpg.Connection) -> None:
    database = Database(service_url)
    await db.execute("UPDATE metrics.fold_state SET folded_at = now() - interval '1 hour'")
    await Folder(database, interval=1).step()

    async def fresh() -> bool:
        recent: bool = await db.fetchval(
            "SELECT folded_at > now() - interval '1 minute' FROM metrics.fold_state"
        )
        return recent

    await eventually(fresh)
    await database.close()
