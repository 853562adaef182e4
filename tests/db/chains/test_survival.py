"""Chains stay whole among a crowd of writers, and when their server is killed."""

import asyncio
import os
import signal

import asyncpg
import pytest

from ains.db import chains
from ains.db.embedded import EmbeddedPostgres, temporary_data_dir
from ains.db.migrations import upgrade
from ains.db.pool import Database
from ains.domain.chains import Chain, ChainStatus
from ains.errors import BusinessRule
from tests.support.chains import ENDED, assert_whole, complete, story, submit
from tests.support.databases import eventually


@pytest.mark.embedded
async def test_killed_server_loses_and_repeats_no_step() -> None:
    """kill -9 of the backend in the middle of the transaction that completes a step."""
    with temporary_data_dir() as directory:
        server = await EmbeddedPostgres.start(directory, fast=True)
        await upgrade(server.dsn)
        pool = Database(server.dsn)
        chain = await submit(pool)
        for step in range(3):
            connection = await asyncpg.connect(server.dsn)
            await connection.execute("BEGIN")
            await complete(connection, chain, step, "1")
            os.kill(connection.get_server_pid(), signal.SIGKILL)
            connection.terminate()

            async def back() -> object:
                try:
                    db = await asyncpg.connect(server.dsn)
                    count = await db.fetchval("SELECT count(*) FROM tasks")
                    await db.close()
                except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    return False
                return count == step + 1  # noqa: B023 - called within the turn

            await eventually(back)
            connection = await asyncpg.connect(server.dsn)
            await complete(connection, chain, step, "1")
            await assert_whole(connection)
            await connection.close()
        assert (await story(pool, chain))[0] == ChainStatus.COMPLETED
        await pool.close()
        await server.stop()


async def test_crowd_that_completes_fails_and_cancels_leaves_every_chain_whole(
    db: asyncpg.Connection, pool: Database
) -> None:
    """No chain is stuck, no step runs twice."""
    made = [await submit(pool, 4, use_previous_output=True) for _ in range(30)]
    following = {"PENDING": "ASSIGNED", "ASSIGNED": "ACTIVE", "ACTIVE": "COMPLETED"}

    async def work(number: int) -> None:
        while True:
            async with pool.acquire() as connection:
                row = await connection.fetchrow(
                    "SELECT task_id, status FROM tasks"
                    " WHERE status IN ('PENDING', 'ASSIGNED', 'ACTIVE') ORDER BY random() LIMIT 1"
                )
                if row is None:
                    return
                await connection.execute(
                    "UPDATE tasks SET status = $2, assigned_agent_id = 'a', result_data = '1'"
                    " WHERE task_id = $1 AND status = $3",
                    row["task_id"],
                    "FAILED" if number == 0 else following[row["status"]],
                    row["status"],
                )
            await asyncio.sleep(0.05 if number == 0 else 0)

    async def cancel() -> None:
        for chain in made[::3]:
            await asyncio.sleep(0.02)
            try:
                await chains.cancel(pool, chain)
            except BusinessRule:
                continue

    await asyncio.gather(cancel(), *(work(number) for number in range(5)))
    await assert_whole(db)
    shown: list[Chain] = [await chains.get(pool, chain) for chain in made]
    assert {chain["status"] for chain in shown} <= set(ENDED)
    assert "COMPLETED" in {chain["status"] for chain in shown}
    assert "CANCELLED" in {chain["status"] for chain in shown}
    tasks = await db.fetch(
        "SELECT metadata ->> 'chain_id', metadata ->> 'step_index' FROM tasks"
        " GROUP BY 1, 2 HAVING count(*) > 1"
    )
    assert tasks == []
