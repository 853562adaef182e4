"""Chains move on in the transaction of the fact that moves them, whoever writes it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from ains.db import chains
from ains.db.embedded import EmbeddedPostgres, temporary_data_dir
from ains.db.migrations import upgrade
from ains.db.pool import Database
from ains.domain.chains import Chain, ChainStatus, SubmitChain
from ains.domain.ids import uuid7
from ains.errors import BusinessRule, NotFound
from tests.support.databases import eventually
from tests.support.waiting import until_blocked

ENDED = ("COMPLETED", "FAILED", "CANCELLED")


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


async def submit(pool: Database, steps: int = 3, **fields: Any) -> UUID:
    """A chain of like steps; ``fields`` are those of each."""
    step = {"task_type": "t", "capability_required": "x", "input_data": {}} | fields
    chain = SubmitChain.model_validate({"name": "n", "client_id": "c", "steps": [step] * steps})
    return (await chains.submit(pool, uuid7(), chain))["chain_id"]


async def task_of(db: asyncpg.Connection, chain: UUID, step: int) -> UUID:
    task = await db.fetchval(
        "SELECT task_id FROM chain_steps WHERE chain_id = $1 AND step_index = $2", chain, step
    )
    assert task is not None
    return UUID(str(task))


async def move(db: asyncpg.Connection, task: UUID, status: str, **values: Any) -> None:
    """Write a new state of a task."""
    row = {"status": status} | values
    if status in {"ASSIGNED", "ACTIVE"}:
        row["assigned_agent_id"] = "a"
    assignments = ", ".join(f"{name} = ${i + 2}" for i, name in enumerate(row))
    await db.execute(f"UPDATE tasks SET {assignments} WHERE task_id = $1", task, *row.values())


async def complete(
    db: asyncpg.Connection, chain: UUID, step: int, result: str | None = None
) -> None:
    await move(db, await task_of(db, chain, step), "COMPLETED", result_data=result)


async def story(pool: Database, chain: UUID) -> tuple[str, list[str]]:
    """The status of a chain and of its steps."""
    shown = await chains.get(pool, chain)
    return shown["status"], [step["status"] for step in shown["steps"]]


async def counted(db: asyncpg.Connection) -> dict[str, int]:
    """How often chains and steps have entered each status; steps in lower case."""
    rows = await db.fetch(
        "SELECT status AS name, value FROM metrics.ains_chains_total UNION ALL"
        " SELECT lower(step_status), value FROM metrics.ains_chain_steps_total"
    )
    return {row["name"]: row["value"] for row in rows if row["value"]}


async def assert_whole(db: asyncpg.Connection) -> None:
    """Every live chain has exactly one live task, that of its step; the ledger balances."""
    wrong = await db.fetch(
        "SELECT c.chain_id, c.status, count(t.task_id) FROM task_chains AS c"
        "  LEFT JOIN chain_steps AS s USING (chain_id)"
        "  LEFT JOIN tasks AS t ON t.task_id = s.task_id"
        "   AND t.status IN ('PENDING', 'ASSIGNED', 'ACTIVE')"
        " GROUP BY 1 HAVING count(t.task_id) <> (c.status IN ('PENDING', 'RUNNING'))::integer"
    )
    assert wrong == []
    wrong = await db.fetch(
        "SELECT s.* FROM chain_steps AS s JOIN task_chains AS c USING (chain_id)"
        " WHERE c.status IN ('COMPLETED', 'FAILED', 'CANCELLED')"
        "   AND s.status IN ('PENDING', 'RUNNING')"
    )
    assert wrong == []
    active = await db.fetchval(
        "SELECT count(*) FROM task_chains WHERE status IN ('PENDING', 'RUNNING')"
    )
    assert await db.fetchval("SELECT value FROM metrics.ains_chains_active") == active
    entered = await counted(db)
    assert entered.get("PENDING", 0) == active + sum(entered.get(status, 0) for status in ENDED)


async def test_steps_run_one_after_the_other(db: asyncpg.Connection, pool: Database) -> None:
    chain = await submit(pool)
    assert await story(pool, chain) == ("PENDING", ["PENDING"] * 3)
    for step in range(3):
        task = await task_of(db, chain, step)
        await move(db, task, "ASSIGNED")
        assert (await story(pool, chain))[0] == "RUNNING"
        assert (await story(pool, chain))[1][step] == "RUNNING"
        await move(db, task, "ACTIVE")
        await move(db, task, "COMPLETED", result_data=f"[{step}]")
        await assert_whole(db)
    assert await story(pool, chain) == ("COMPLETED", ["COMPLETED"] * 3)
    shown = await chains.get(pool, chain)
    assert shown["current_step"] == shown["total_steps"] == 3
    assert shown["started_at"] is not None
    assert shown["completed_at"] is not None
    assert await db.fetchval("SELECT count(*) FROM tasks") == 3
    assert await counted(db) == {
        "PENDING": 1, "RUNNING": 1, "COMPLETED": 1, "running": 3, "completed": 3,
    }  # fmt: skip


async def test_task_of_a_step_is_what_the_step_says(db: asyncpg.Connection, pool: Database) -> None:
    chain = await submit(pool, 1, priority=9, timeout_seconds=7, max_retries=1, input_data={"x": 1})
    rows = await db.fetch("SELECT * FROM tasks")
    task = rows[0]
    assert (task["client_id"], task["task_type"], task["capability_required"]) == ("c", "t", "x")
    assert (task["priority"], task["timeout_seconds"], task["max_retries"]) == (9, 7, 1)
    assert task["input_data"] == '{"x":1}'
    assert task["metadata"] == f'{{"chain_id" : "{chain}", "step_index" : 0}}'
    assert task["task_id"].version == 7


async def test_next_step_gets_the_previous_output_to_the_letter(
    db: asyncpg.Connection, pool: Database
) -> None:
    given = {"keep": 1.0, "previous_output": "mine", "deep": {"a": [None, "\u2028ü"]}}
    chain = await submit(pool, 2, use_previous_output=True, input_data=given)
    first = await task_of(db, chain, 0)
    assert '"previous_output":"mine"' in await db.fetchval(
        "SELECT input_data FROM tasks WHERE task_id = $1", first
    )
    result = '{"z": 1, "a" : 12345678901234567890.10, "a":2,"\\u00e9":1e400}'
    await move(db, first, "COMPLETED", result_data=result)
    second = await task_of(db, chain, 1)
    text = await db.fetchval("SELECT input_data FROM tasks WHERE task_id = $1", second)
    assert text.count("previous_output") == 1
    assert f'"previous_output" : {result}' in text
    assert '"keep" : 1.0' in text
    assert '"deep" : {"a":[null,"\u2028ü"]}' in text


@pytest.mark.parametrize("result", [None, "null", "[]", '"text"', "0"])
async def test_any_result_can_be_the_previous_output(
    db: asyncpg.Connection, pool: Database, result: str | None
) -> None:
    chain = await submit(pool, 2, use_previous_output=True)
    await complete(db, chain, 0, result)
    text = await db.fetchval(
        "SELECT input_data FROM tasks WHERE task_id = $1", await task_of(db, chain, 1)
    )
    assert text == f'{{ "previous_output" : {result or "null"} }}'


async def test_step_gets_no_output_that_it_didn_t_ask_for(
    db: asyncpg.Connection, pool: Database
) -> None:
    chain = await submit(pool, 2, input_data={"x": 1})
    await complete(db, chain, 0, "1")
    inputs = await db.fetch("SELECT DISTINCT input_data::text FROM tasks")
    assert [row[0] for row in inputs] == ['{"x":1}']


async def test_retried_step_keeps_its_chain_running(db: asyncpg.Connection, pool: Database) -> None:
    chain = await submit(pool, 2, max_retries=1)
    task = await task_of(db, chain, 0)
    for expected in ("RUNNING", "FAILED"):
        await move(db, task, "ASSIGNED")
        await db.execute("SELECT end_attempts(ARRAY[$1::uuid], 'timeout', 'too slow')", task)
        assert (await story(pool, chain))[0] == expected
        await assert_whole(db)
    assert await story(pool, chain) == ("FAILED", ["FAILED", "CANCELLED"])
    assert (await chains.get(pool, chain))["error_message"] == "Step 0 failed: too slow"
    assert await counted(db) == {
        "PENDING": 1, "RUNNING": 1, "FAILED": 1, "running": 1, "failed": 1, "cancelled": 1,
    }  # fmt: skip


async def test_requeued_step_keeps_its_chain_running(
    db: asyncpg.Connection, pool: Database
) -> None:
    chain = await submit(pool)
    task = await task_of(db, chain, 0)
    await move(db, task, "ASSIGNED")
    await move(db, task, "PENDING", assigned_agent_id=None)
    assert await story(pool, chain) == ("RUNNING", ["RUNNING", "PENDING", "PENDING"])
    await move(db, task, "ASSIGNED")
    assert (await counted(db))["running"] == 1


@pytest.mark.parametrize(
    ("statement", "status", "step", "message"),
    [
        (
            "UPDATE tasks SET status = 'FAILED', failure_reason = 'expired'",
            "FAILED", "FAILED", "Step 1 failed: expired",
        ),
        (
            "UPDATE tasks SET status = 'CANCELLED', cancel_reason = 'no use'",
            "CANCELLED", "CANCELLED", "Step 1 was cancelled: no use",
        ),
        ("DELETE FROM tasks", "CANCELLED", "CANCELLED", "Step 1 was cancelled: deleted"),
        ("TRUNCATE tasks CASCADE", "CANCELLED", "CANCELLED", "Step 1 was cancelled: deleted"),
    ],
)  # fmt: skip
async def test_chain_ends_with_its_step_s_task(
    db: asyncpg.Connection, pool: Database, statement: str, status: str, step: str, message: str
) -> None:
    chain = await submit(pool)
    await complete(db, chain, 0)
    where = "" if "TRUNCATE" in statement else " WHERE status = 'PENDING'"
    await db.execute(statement + where)
    assert await story(pool, chain) == (status, ["COMPLETED", step, "CANCELLED"])
    shown = await chains.get(pool, chain)
    assert shown["error_message"] == message
    assert [result["step_index"] for result in shown["step_results"]] == [0, 1]
    await assert_whole(db)


async def test_results_outlive_their_tasks(db: asyncpg.Connection, pool: Database) -> None:
    chain = await submit(pool, 2)
    await complete(db, chain, 0, '{"x" : 1}')
    await complete(db, chain, 1, "2")
    await db.execute("DELETE FROM tasks")
    results = (await chains.get(pool, chain))["step_results"]
    assert [result["result_data"] for result in results] != [None, None]
    texts = await db.fetch("SELECT result_data FROM chain_steps ORDER BY step_index")
    assert [row[0] for row in texts] == ['{"x" : 1}', "2"]
    await assert_whole(db)


async def test_ended_chain_stays_ended(db: asyncpg.Connection, pool: Database) -> None:
    """Its task may be retried, as any task, but the chain does not go on."""
    chain = await submit(pool)
    task = await task_of(db, chain, 0)
    await move(db, task, "FAILED")
    await move(db, task, "PENDING")
    await move(db, task, "COMPLETED")
    assert await story(pool, chain) == ("FAILED", ["FAILED", "CANCELLED", "CANCELLED"])
    assert await db.fetchval("SELECT count(*) FROM tasks") == 1
    with pytest.raises(asyncpg.CheckViolationError, match="stays ended"):
        await db.execute("UPDATE task_chains SET status = 'RUNNING'")


async def test_step_that_completed_runs_only_once(db: asyncpg.Connection, pool: Database) -> None:
    """Whatever is done to its task later."""
    chain = await submit(pool)
    await complete(db, chain, 0)
    first = await task_of(db, chain, 0)
    for status in ("PENDING", "COMPLETED", "FAILED", "CANCELLED", "COMPLETED"):
        await move(db, first, status)
    await db.execute("DELETE FROM tasks WHERE task_id = $1", first)
    assert await db.fetchval("SELECT count(*) FROM tasks") == 1
    assert await story(pool, chain) == ("RUNNING", ["COMPLETED", "PENDING", "PENDING"])
    await assert_whole(db)


async def test_steps_of_many_chains_end_in_one_statement(
    db: asyncpg.Connection, pool: Database
) -> None:
    made = [await submit(pool, 2) for _ in range(20)]
    for turn in (1, 2):
        await db.execute("UPDATE tasks SET status = 'COMPLETED' WHERE status = 'PENDING'")
        await assert_whole(db)
        assert await db.fetchval("SELECT count(*) FROM tasks") == 20 * 2
        assert {(await story(pool, chain))[0] for chain in made} == {
            "RUNNING" if turn == 1 else "COMPLETED"
        }


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


async def test_cancellation_waits_for_a_step_that_completes(
    db: asyncpg.Connection, pool: Database
) -> None:
    """The step's end is not committed yet: the next step's task is cancelled too."""
    chain = await submit(pool)
    transaction = db.transaction()
    await transaction.start()
    await complete(db, chain, 0)
    cancelling = asyncio.create_task(chains.cancel(pool, chain))
    async with pool.acquire() as watcher:
        await until_blocked(watcher)
    await transaction.commit()
    await cancelling
    assert await story(pool, chain) == ("CANCELLED", ["COMPLETED", "CANCELLED", "CANCELLED"])
    assert await db.fetchval("SELECT count(*) FROM tasks") == 2
    await assert_whole(db)


async def test_cancellation_waits_for_the_last_step_that_completes(
    db: asyncpg.Connection, pool: Database
) -> None:
    chain = await submit(pool, 1)
    transaction = db.transaction()
    await transaction.start()
    await complete(db, chain, 0)
    cancelling = asyncio.create_task(chains.cancel(pool, chain))
    async with pool.acquire() as watcher:
        await until_blocked(watcher)
    await transaction.commit()
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


async def test_chain_that_is_ended_by_hand_takes_its_task_along(
    db: asyncpg.Connection, pool: Database
) -> None:
    chain = await submit(pool)
    await move(db, await task_of(db, chain, 0), "ACTIVE")
    await db.execute("UPDATE task_chains SET status = 'CANCELLED'")
    assert await story(pool, chain) == ("CANCELLED", ["CANCELLED"] * 3)
    assert await db.fetchval("SELECT status FROM tasks") == "CANCELLED"
    await assert_whole(db)


@pytest.mark.parametrize(
    "statement", ["DELETE FROM task_chains", "TRUNCATE task_chains CASCADE", "TRUNCATE chain_steps"]
)
async def test_live_chain_that_is_deleted_counts_as_cancelled(
    db: asyncpg.Connection, pool: Database, statement: str
) -> None:
    running, ended = await submit(pool), await submit(pool, 1)
    await move(db, await task_of(db, running, 0), "ACTIVE")
    await complete(db, ended, 0)
    await db.execute(statement)
    assert await db.fetchval("SELECT count(*) FROM tasks WHERE status = 'CANCELLED'") == 1
    assert await counted(db) == {
        "PENDING": 2, "RUNNING": 2, "COMPLETED": 1, "CANCELLED": 1,
        "running": 2, "completed": 1, "cancelled": 3,
    }  # fmt: skip
    assert await db.fetchval("SELECT value FROM metrics.ains_chains_active") == 0


async def test_deleting_ended_chains_changes_no_counter(
    db: asyncpg.Connection, pool: Database
) -> None:
    for status in ENDED:
        await move(db, await task_of(db, await submit(pool), 0), "ACTIVE")
        await db.execute("UPDATE tasks SET status = $1 WHERE status = 'ACTIVE'", status)
    await db.execute("UPDATE tasks SET status = 'CANCELLED' WHERE status = 'PENDING'")
    before = await counted(db)
    await db.execute("DELETE FROM task_chains")
    assert await counted(db) == before
    await db.execute("SELECT metrics.fold()")
    assert await counted(db) == before
    assert await db.fetchval("SELECT count(*) FROM chain_steps") == 0


async def test_step_can_t_be_deleted_without_its_chain(
    db: asyncpg.Connection, pool: Database
) -> None:
    await submit(pool)
    with pytest.raises(asyncpg.RestrictViolationError, match="cannot be deleted alone"):
        await db.execute("DELETE FROM chain_steps WHERE step_index = 2")


@pytest.mark.parametrize(
    "wrong", ["priority = 11", "timeout_seconds = 0", "max_retries = -1", "input_data = '[]'"]
)
async def test_step_that_could_not_become_a_task_is_refused(
    db: asyncpg.Connection, pool: Database, wrong: str
) -> None:
    """At once: otherwise the agent that completes the step before would get the error."""
    await submit(pool)
    with pytest.raises(asyncpg.CheckViolationError):
        await db.execute(f"UPDATE chain_steps SET {wrong} WHERE step_index = 1")


async def test_duration_is_observed_by_final_status(db: asyncpg.Connection, pool: Database) -> None:
    """Of those that started; of a completed one always."""
    for status in ENDED:
        chain = await submit(pool, 1)
        await move(db, await task_of(db, chain, 0), "ACTIVE")
        await db.execute(
            "UPDATE task_chains SET started_at = now() - interval '45 seconds' WHERE chain_id = $1",
            chain,
        )
        await move(db, await task_of(db, chain, 0), status)
    await chains.cancel(pool, await submit(pool))
    await db.execute("SELECT metrics.fold()")
    buckets = await db.fetch(
        "SELECT chain_status, value FROM metrics.ains_chain_duration_seconds WHERE le = '30.0'"
        " UNION ALL"
        " SELECT chain_status, value FROM metrics.ains_chain_duration_seconds WHERE le = '60.0'"
    )
    assert sorted(map(tuple, buckets)) == sorted((status, n) for status in ENDED for n in (0, 1))


async def test_uuid7_is_one_and_grows(db: asyncpg.Connection) -> None:
    rows = await db.fetch(
        "SELECT uuid7() AS id, extract(epoch FROM clock_timestamp()) * 1000 AS now, pg_sleep(0.002)"
        " FROM generate_series(1, 20)"
    )
    ids = [UUID(str(row["id"])) for row in rows]
    assert ids == sorted(ids)
    for id_, row in zip(ids, rows, strict=True):
        assert (id_.version, id_.variant) == (7, "specified in RFC 4122")
        assert abs((id_.int >> 80) - int(row["now"])) < 1000


async def test_rolled_back_completion_starts_nothing(
    db: asyncpg.Connection, pool: Database, database_url: str
) -> None:
    chain = await submit(pool)
    other = await asyncpg.connect(database_url)
    await other.execute("BEGIN")
    await complete(other, chain, 0)
    await db.execute("SELECT pg_terminate_backend($1)", other.get_server_pid())
    other.terminate()

    async def completed_again() -> object:
        await complete(db, chain, 0, "1")
        return True

    await eventually(completed_again)
    assert await db.fetchval("SELECT count(*) FROM tasks") == 2
    await assert_whole(db)


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
