"""What ended long ago is deleted, what still matters stays, and no metric notices."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from ains.db import retention
from ains.db.pool import Database
from ains.domain.retention import Ages
from collectors.agents import AgentCollector
from collectors.chains import ChainCollector
from collectors.connection import pool_maker
from collectors.scrape import Scraper
from collectors.tasks import TaskCollector
from collectors.webhooks import WebhookCollector
from tests.support.retention import count, ended_tasks, fold, grow_old, unbalanced
from tests.support.rows import add_agent, add_task
from tests.support.scraped import assert_invariants, scrape

DAYS = timedelta(days=1)
MONTH = Ages(chains=30, tasks=30, deliveries=30)


@pytest.fixture
async def scraper(database_url: str) -> AsyncIterator[Scraper]:
    made = Scraper(
        pool_maker(database_url),
        [TaskCollector(), AgentCollector(), ChainCollector(), WebhookCollector()],
    )
    yield made
    await made.close()


async def prune(pool: Database, ages: Ages = MONTH, **options: Any) -> Counter[str]:
    deleted: Counter[str] = Counter()
    async for batch in retention.prune(pool, ages, datetime.now(UTC), **options):
        deleted[batch.kind] += batch.deleted
    return deleted


async def old_task(db: asyncpg.Connection, days: float, **columns: Any) -> UUID:
    """A task that ended that many days ago, a day after it was created."""
    end = datetime.now(UTC) - days * DAYS
    row = {"status": "COMPLETED", "assigned_agent_id": "a", "completed_at": end}
    return await add_task(db, **row | {"created_at": end - DAYS} | columns)


async def depend(db: asyncpg.Connection, task: UUID, on: UUID) -> None:
    await db.execute(
        "INSERT INTO task_dependencies (task_id, depends_on) VALUES ($1, $2)", task, on
    )


async def chain(db: asyncpg.Connection, days: float | None, steps: int = 2) -> UUID:
    """A chain that was completed that many days ago; None: its first step has just been."""
    key = uuid4()
    step = '{"task_type": "t", "capability_required": "x"}'
    await db.execute(f"SELECT submit_chain($1, 'n', 'c', '[{', '.join([step] * steps)}]')", key)
    for _ in range(1 if days is None else steps):
        await db.execute(
            "UPDATE tasks SET status = 'COMPLETED', assigned_agent_id = 'a' "
            "WHERE status = 'PENDING' "
            "AND task_id IN (SELECT task_id FROM chain_steps WHERE chain_id = $1)",
            key,
        )
    age = (days or 90) * DAYS
    await db.execute(
        "UPDATE tasks SET created_at = created_at - $2::interval, updated_at = updated_at - $2 "
        "WHERE task_id IN (SELECT task_id FROM chain_steps WHERE chain_id = $1)",
        key,
        age,
    )
    await db.execute(
        "UPDATE task_chains SET created_at = created_at - $2::interval, "
        "completed_at = completed_at - $2::interval WHERE chain_id = $1",
        key,
        age,
    )
    return key


async def deliveries(db: asyncpg.Connection, number: int, days: float, status: str) -> None:
    """Deliveries of that age with one attempt each, made as long ago."""
    await add_agent(db, "c")
    webhook = await db.fetchval(
        "INSERT INTO webhooks (webhook_id, agent_id, url, host, events, secret) "
        "VALUES (gen_random_uuid(), 'c', 'https://h/', 'h', '{task.created}', 's') "
        "RETURNING webhook_id"
    )
    await db.execute(
        "WITH d AS (INSERT INTO webhook_deliveries "
        " (webhook_id, host, event_type, subject_id, payload, status, created_at) "
        " SELECT $1, 'h', 'task.created', gen_random_uuid(), '{}', $3, now() - $4::interval "
        " FROM generate_series(1, $2::integer) RETURNING delivery_id) "
        "INSERT INTO webhook_attempts (delivery_id, attempted_at, duration_us, outcome) "
        "SELECT delivery_id, now() - $4, 5, 'success' FROM d",
        webhook,
        number,
        status,
        days * DAYS,
    )


async def test_no_metric_changes(pool: Database, db: asyncpg.Connection, scraper: Scraper) -> None:
    await ended_tasks(db, 2500, 40 * DAYS)
    await ended_tasks(db, 60, 10 * DAYS)
    await deliveries(db, 30, 40, "success")
    await chain(db, 40)
    await chain(db, None)
    for _ in range(7):
        await add_task(db)
    await grow_old(db, 40 * DAYS)
    await fold(db)
    before = await scrape(scraper)
    done = await prune(pool, Ages(chains=30, tasks=30, deliveries=30, facts=30))
    assert {"chains": 1, "tasks": 2502, "deliveries": 30}.items() <= done.items()
    assert done["facts"] > 5000
    after = await scrape(scraper)
    passing = {key for key in {*before, *after} if key[0].startswith("ains_scrape")}
    assert {k: v for k, v in before.items() if k not in passing} == {
        k: v for k, v in after.items() if k not in passing
    }
    assert_invariants(after)
    assert await unbalanced(db) == []
    assert await count(db, "tasks") == 60 + 2 + 7


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED", "CANCELLED"])
async def test_age_counts_from_the_end(pool: Database, db: asyncpg.Connection, status: str) -> None:
    await old_task(db, 31, status=status)
    kept = await old_task(db, 29, status=status, created_at=datetime.now(UTC) - 90 * DAYS)
    assert await prune(pool) == {"tasks": 1}
    assert await db.fetchval("SELECT task_id FROM tasks") == kept


async def test_task_that_somebody_ended_by_hand(pool: Database, db: asyncpg.Connection) -> None:
    past = datetime.now(UTC) - 40 * DAYS
    await old_task(db, 31, status="FAILED", completed_at=None, updated_at=past)
    await old_task(db, 31, status="FAILED", completed_at=None)
    assert await prune(pool) == {"tasks": 1}


async def test_live_tasks_stay_however_old(pool: Database, db: asyncpg.Connection) -> None:
    for status in ("PENDING", "ASSIGNED", "ACTIVE"):
        await old_task(db, 300, status=status, updated_at=datetime.now(UTC) - 300 * DAYS)
    assert await prune(pool) == {}


async def test_zero_days_keep_for_ever(pool: Database, db: asyncpg.Connection) -> None:
    await old_task(db, 300)
    await chain(db, 300)
    await fold(db)
    assert await prune(pool, Ages()) == {}
    assert await prune(pool, Ages(facts=30)) == {}


async def test_a_dependency_stays_as_long_as_its_dependents(
    pool: Database, db: asyncpg.Connection
) -> None:
    """However remotely they depend: c, which ended of late, on old b, and b on old a."""
    a, b, c = await old_task(db, 50), await old_task(db, 40), await old_task(db, 10)
    waiting, done = await add_task(db), await old_task(db, 60)
    other = await old_task(db, 50)
    for task, on in ((c, b), (b, a), (waiting, done), (other, done)):
        await depend(db, task, on)
    assert await prune(pool) == {"tasks": 1}
    kept = {row["task_id"] for row in await db.fetch("SELECT task_id FROM tasks")}
    assert kept == {a, b, c, waiting, done}
    assert await count(db, "task_dependencies") == 3


async def test_a_whole_graph_goes_at_once(pool: Database, db: asyncpg.Connection) -> None:
    tasks = [await old_task(db, 60 - n / 10) for n in range(40)]
    for task, on in zip(tasks[1:], tasks, strict=False):
        await depend(db, task, on)
    assert await prune(pool) == {"tasks": 40}
    assert await count(db, "task_dependencies") == 0


async def test_a_task_stays_as_long_as_its_chain(pool: Database, db: asyncpg.Connection) -> None:
    live, old = await chain(db, None), await chain(db, 40)
    assert await prune(pool, Ages(tasks=30)) == {}
    assert await prune(pool, MONTH) == {"chains": 1, "tasks": 2}
    steps = await db.fetch("SELECT chain_id, task_id FROM chain_steps WHERE task_id IS NOT NULL")
    assert {step["chain_id"] for step in steps} == {live}
    assert await db.fetchval("SELECT count(*) FROM task_chains WHERE chain_id = $1", old) == 0
    assert {step["task_id"] for step in steps} == {
        row["task_id"] for row in await db.fetch("SELECT task_id FROM tasks")
    }


async def test_deliveries_go_with_their_attempts(pool: Database, db: asyncpg.Connection) -> None:
    await deliveries(db, 1100, 40, "success")
    await db.execute("UPDATE webhook_deliveries SET status = 'failed' WHERE sequence % 2 = 0")
    await db.execute("UPDATE webhook_deliveries SET status = 'pending' WHERE sequence % 100 = 0")
    # Redelivered by hand, without success.
    await db.execute(
        "INSERT INTO webhook_attempts (delivery_id, attempted_at, duration_us, outcome) "
        "SELECT delivery_id, now(), 5, 'timeout' FROM webhook_deliveries WHERE sequence % 100 = 1"
    )
    assert await prune(pool) == {"deliveries": 1100 - 11 - 11}
    assert await count(db, "webhook_attempts") == 11 + 22


async def test_what_somebody_has_locked_stays(
    pool: Database, database_url: str, db: asyncpg.Connection
) -> None:
    task = await old_task(db, 40)
    await old_task(db, 40)
    other = await asyncpg.connect(database_url)
    async with other.transaction():
        await other.execute("SELECT FROM tasks WHERE task_id = $1 FOR UPDATE", task)
        assert await prune(pool) == {"tasks": 1}
    assert await prune(pool) == {"tasks": 1}
    await other.close()


async def test_several_at_once(pool: Database, db: asyncpg.Connection) -> None:
    await ended_tasks(db, 3500, 40 * DAYS)
    await fold(db)
    everything = Ages(chains=30, tasks=30, deliveries=30, facts=30)
    done = sum(await asyncio.gather(*(prune(pool, everything) for _ in range(3))), Counter())
    assert (done["tasks"], done["facts"]) == (3500, 7000)
    assert await unbalanced(db) == []


async def test_one_that_gives_way_leaves_it_to_another(
    pool: Database, database_url: str, db: asyncpg.Connection
) -> None:
    await old_task(db, 40)
    other = await asyncpg.connect(database_url)
    async with other.transaction():
        assert await other.fetchval(
            "SELECT pg_try_advisory_xact_lock(hashtextextended('ains.retention', 0))"
        )
        assert await prune(pool, give_way=True) == {}
    assert await prune(pool, give_way=True) == {"tasks": 1}
    await other.close()


async def test_count_says_what_would_be_deleted(pool: Database, db: asyncpg.Connection) -> None:
    await ended_tasks(db, 25, 40 * DAYS)
    await old_task(db, 5)
    await chain(db, 40)
    await chain(db, None)
    await deliveries(db, 5, 40, "failed")
    a, b = await old_task(db, 50), await add_task(db)
    await depend(db, b, a)
    await fold(db)
    everything = Ages(chains=30, tasks=30, deliveries=30, facts=30)
    done: Counter[str] = Counter()
    for ages in (Ages(), Ages(tasks=30), Ages(chains=30, tasks=30), everything):
        expected = await retention.count(pool, ages, datetime.now(UTC))
        done = await prune(pool, ages)
        assert {kind: done[kind] for kind in expected} == expected
    assert (done["deliveries"], done["facts"]) == (5, 50)
