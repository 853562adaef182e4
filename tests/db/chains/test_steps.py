"""Steps follow each other, in the transaction of the fact that moves them, whoever writes it."""

from uuid import UUID

import asyncpg
import pytest

from ains.db import chains
from ains.db.pool import Database
from tests.support.chains import assert_whole, complete, counted, move, story, submit, task_of
from tests.support.databases import eventually


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
