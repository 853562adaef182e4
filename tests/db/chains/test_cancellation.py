"""A chain that is cancelled takes its task along, whatever happens to that meanwhile."""

import asyncio
from uuid import UUID

import asyncpg
import pytest

from ains.db import chains
from ains.db.pool import Database
from ains.domain.chains import ChainCancelled
from ains.domain.ids import uuid7
from ains.errors import BusinessRule, NotFound
from tests.support.chains import ENDED, assert_whole, complete, move, story, submit, task_of
from tests.support.waiting import until_blocked


@pytest.mark.parametrize("state", ["PENDING", "ASSIGNED", "ACTIVE", "retried"])
async def test_cancelling_a_chain_cancels_its_task(
    db: asyncpg.Connection, pool: Database, state: str
) -> None:
    chain = await submit(pool)
    await complete(db, chain, 0)
    task = await task_of(db, chain, 1)
    if state == "retried":
        await move(db, task, "ASSIGNED")
        await db.execute("SELECT end_attempts(ARRAY[$1::uuid], 'timeout')", task)
    elif state != "PENDING":
        await move(db, task, state)
    await chains.cancel(pool, chain)
    assert await story(pool, chain) == ("CANCELLED", ["COMPLETED", "CANCELLED", "CANCELLED"])
    row = (await db.fetch("SELECT * FROM tasks WHERE task_id = $1", task))[0]
    assert (row["status"], row["cancel_reason"]) == ("CANCELLED", "chain cancelled")
    assert row["next_retry_at"] is row["deadline_at"] is None
    assert (await chains.get(pool, chain))["error_message"] is None
    await assert_whole(db)


@pytest.mark.parametrize("status", ENDED)
async def test_ended_chain_can_t_be_cancelled(
    db: asyncpg.Connection, pool: Database, status: str
) -> None:
    chain = await submit(pool, 1)
    await move(db, await task_of(db, chain, 0), status)
    with pytest.raises(BusinessRule, match=status):
        await chains.cancel(pool, chain)
    assert (await story(pool, chain))[0] == status
    with pytest.raises(NotFound):
        await chains.cancel(pool, uuid7())


async def test_chain_without_a_live_task_can_be_cancelled(
    db: asyncpg.Connection, pool: Database
) -> None:
    """Somebody has written chains by hand."""
    chain = uuid7()
    await db.execute(
        "INSERT INTO task_chains (chain_id, name, client_id, total_steps) VALUES ($1, 'n', 'c', 1)",
        chain,
    )
    await chains.cancel(pool, chain)
    assert (await story(pool, chain))[0] == "CANCELLED"
    await assert_whole(db)


async def cancelling_when_step_completes(
    db: asyncpg.Connection, pool: Database, chain: UUID
) -> asyncio.Task[ChainCancelled]:
    """A cancellation that has waited for the first step's end to be committed, and now goes on."""
    async with db.transaction():
        await complete(db, chain, 0)
        cancelling = asyncio.create_task(chains.cancel(pool, chain))
        async with pool.acquire() as watcher:
            await until_blocked(watcher)
    return cancelling


async def test_cancellation_waits_for_a_step_that_completes(
    db: asyncpg.Connection, pool: Database
) -> None:
    """The step's end is not committed yet: the next step's task is cancelled too."""
    chain = await submit(pool)
    cancelling = await cancelling_when_step_completes(db, pool, chain)
    await cancelling
    assert await story(pool, chain) == ("CANCELLED", ["COMPLETED", "CANCELLED", "CANCELLED"])
    assert await db.fetchval("SELECT count(*) FROM tasks") == 2
    await assert_whole(db)


async def test_cancellation_waits_for_the_last_step_that_completes(
    db: asyncpg.Connection, pool: Database
) -> None:
    chain = await submit(pool, 1)
    cancelling = await cancelling_when_step_completes(db, pool, chain)
    with pytest.raises(BusinessRule, match="COMPLETED"):
        await cancelling


async def test_step_that_completes_waits_for_a_cancellation(
    db: asyncpg.Connection, pool: Database
) -> None:
    """And is too late then: no further task is created."""
    chain = await submit(pool)
    task = await task_of(db, chain, 0)
    async with pool.transaction() as transaction:
        await chains.cancel(transaction, chain)
        completing = asyncio.create_task(
            db.execute(
                "UPDATE tasks SET status = 'COMPLETED' WHERE task_id = $1 AND status = 'PENDING'",
                task,
            )
        )
        async with pool.acquire() as watcher:
            await until_blocked(watcher)
    assert await completing == "UPDATE 0"
    assert await db.fetchval("SELECT count(*) FROM tasks") == 1
    await assert_whole(db)
