"""The ledger counts what happened, whoever wrote it and however."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from ains.domain.states import TRANSITIONS, TaskStatus
from tests.support.rows import add_task

Series = Mapping[tuple[str, str, str], int]


async def series(db: asyncpg.Connection) -> Series:
    """Every series of the ledger, buckets of histograms added up, zeros left out."""
    rows = await db.fetch(
        "SELECT family, label_1, label_2, sum(n)::bigint AS n FROM metrics.series GROUP BY 1, 2, 3"
    )
    return {(r["family"], r["label_1"], r["label_2"]): r["n"] for r in rows if r["n"]}


def total(found: Series, family: str) -> int:
    return sum(n for (name, _, _), n in found.items() if name == family)


def assert_balanced(found: Series) -> None:
    """The first two invariants of the metric contract."""
    entered = total(found, "ains_tasks_created_total") + total(found, "ains_tasks_reopened_total")
    left = sum(
        total(found, f"ains_tasks_{name}")
        for name in ("completed_total", "failed_total", "cancelled_total", "in_queue", "in_flight")
    )
    assert entered == left
    observed = sum(
        n
        for (name, _, status), n in found.items()
        if name == "ains_task_duration_seconds" and status == "COMPLETED"
    )
    assert observed == total(found, "ains_tasks_completed_total")


async def new_task(db: asyncpg.Connection, **values: Any) -> str:
    row = {"client_id": "c", "task_type": "t", "capability_required": "x"} | values
    columns = ", ".join(row)
    places = ", ".join(f"${i + 1}" for i in range(len(row)))
    return str(
        await db.fetchval(
            f"INSERT INTO tasks ({columns}) VALUES ({places}) RETURNING task_id", *row.values()
        )
    )


async def set_status(db: asyncpg.Connection, task: str, status: str, **values: Any) -> None:
    row = {"status": status} | values
    assignments = ", ".join(f"{name} = ${i + 2}" for i, name in enumerate(row))
    await db.execute(f"UPDATE tasks SET {assignments} WHERE task_id = $1", task, *row.values())


async def test_type_of_the_status_knows_the_states_of_the_state_machine(
    db: asyncpg.Connection,
) -> None:
    definition = await db.fetchval(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'task_status_known'"
    )
    assert set(definition.split("'")[1::2]) == set(TaskStatus)


@pytest.mark.parametrize(
    ("before", "after"),
    [(before, after) for before in TaskStatus for after in TaskStatus if before != after],
    ids=str,
)
async def test_any_transition_balances(
    db: asyncpg.Connection, before: TaskStatus, after: TaskStatus
) -> None:
    """Also those that AINS never makes: somebody in psql may."""
    task = await new_task(db, status=before, assigned_agent_id="a")
    assert_balanced(await series(db))
    await set_status(db, task, after)
    found = await series(db)
    assert_balanced(found)
    ended = {TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED}
    assert total(found, "ains_tasks_reopened_total") == (before in ended)


async def test_one_fact_for_each_transition_of_the_state_machine(db: asyncpg.Connection) -> None:
    for before, after in TRANSITIONS:
        task = await new_task(db, status=before, assigned_agent_id="a")
        count = "SELECT count(*) FROM task_events WHERE task_id = $1"
        facts = await db.fetchval(count, task)
        await set_status(db, task, after)
        assert await db.fetchval(count, task) == facts + 1


async def test_a_task_that_is_assigned_at_once_is_one_fact(db: asyncpg.Connection) -> None:
    task = await new_task(
        db,
        status="ASSIGNED",
        assigned_agent_id="a",
        queued_at=datetime(2026, 1, 1, tzinfo=UTC),
        assigned_at=datetime(2026, 1, 1, 0, 0, 2, tzinfo=UTC),
    )
    facts = await db.fetch(
        "SELECT event, from_status, to_status, agent_id, queue_us FROM task_events"
        " WHERE task_id = $1",
        task,
    )
    assert [tuple(fact) for fact in facts] == [("created", "", "ASSIGNED", "a", 2_000_000)]
    assert await series(db) == {
        ("ains_tasks_created_total", "t", "c"): 1,
        ("ains_task_queue_seconds", "t", ""): 1,
        ("ains_tasks_in_flight", "ASSIGNED", ""): 1,
    }


async def test_counter_survives_deletion_of_ended_tasks(db: asyncpg.Connection) -> None:
    for status in ("COMPLETED", "FAILED", "CANCELLED"):
        await new_task(db, status=status, assigned_agent_id="a")
    before = await series(db)
    await db.execute("DELETE FROM tasks")
    assert await series(db) == before
    await db.execute("SELECT metrics.fold()")
    assert await series(db) == before


@pytest.mark.parametrize("statement", ["DELETE FROM tasks", "TRUNCATE tasks CASCADE"])
async def test_deleting_live_tasks_counts_as_cancelled(
    db: asyncpg.Connection, statement: str
) -> None:
    for status in ("PENDING", "ASSIGNED", "ACTIVE", "COMPLETED"):
        await new_task(db, status=status, assigned_agent_id="a")
    await db.execute(statement)
    found = await series(db)
    assert total(found, "ains_tasks_cancelled_total") == 3
    assert total(found, "ains_tasks_in_queue") == total(found, "ains_tasks_in_flight") == 0
    assert_balanced(found)


async def test_failure_in_psql_without_a_reason_is_unknown(db: asyncpg.Connection) -> None:
    task = await new_task(db)
    await set_status(db, task, "FAILED")
    assert (await series(db))["ains_tasks_failed_total", "t", "unknown"] == 1


async def test_queue_gauge_follows_priority(db: asyncpg.Connection) -> None:
    task = await new_task(db, priority=3)
    await db.execute("UPDATE tasks SET priority = 9 WHERE task_id = $1", task)
    found = await series(db)
    assert ("ains_tasks_in_queue", "3", "") not in found
    assert found["ains_tasks_in_queue", "9", ""] == 1
    await set_status(db, task, "ASSIGNED", assigned_agent_id="a", priority=1)
    assert total(await series(db), "ains_tasks_in_queue") == 0


async def test_queue_gauge_follows_priority_through_a_detour(db: asyncpg.Connection) -> None:
    """From one end to another a task passes through the queue, at its new priority."""
    task = await new_task(db, status="COMPLETED", priority=3)
    await set_status(db, task, "FAILED", priority=9)
    found = await series(db)
    assert [key for key in found if key[0] == "ains_tasks_in_queue"] == []


async def test_blocked_gauge_counts_pending_tasks_only(db: asyncpg.Connection) -> None:
    task = await new_task(db, is_blocked=True)
    assert total(await series(db), "ains_tasks_blocked") == 1
    await set_status(db, task, "CANCELLED")
    assert total(await series(db), "ains_tasks_blocked") == 0
    await set_status(db, task, "PENDING")
    assert total(await series(db), "ains_tasks_blocked") == 1
    await db.execute("UPDATE tasks SET is_blocked = false")
    assert total(await series(db), "ains_tasks_blocked") == 0


async def test_failed_attempts_are_retried_until_none_is_left(db: asyncpg.Connection) -> None:
    await db.execute(
        "INSERT INTO agents (agent_id, display_name, endpoint, public_key, signature)"
        " VALUES ('a', 'A', 'http://a', '00', '00')"
    )
    overdue = await db.fetchval("SELECT now() - interval '1 second'")
    task = await new_task(db, max_retries=2)
    for expected in ("PENDING", "PENDING", "FAILED"):
        await set_status(db, task, "ASSIGNED", assigned_agent_id="a", deadline_at=overdue)
        status = await db.fetchval(
            "SELECT status FROM end_attempts(ARRAY[$1::uuid], 'timeout')", task
        )
        assert status == expected
    found = await series(db)
    assert found["ains_task_retries_total", "t", "1"] == 1
    assert found["ains_task_retries_total", "t", "2"] == 1
    assert found["ains_task_timeouts_total", "t", ""] == 3
    assert found["ains_tasks_failed_total", "t", "timeout"] == 1
    assert found["ains_agent_tasks_failed_total", "a", ""] == 1
    assert_balanced(found)
    trust = await db.fetchval("SELECT trust_score FROM agents")
    assert trust == 0.45  # only the failure for good costs trust


@pytest.mark.parametrize(
    ("policy", "delays"),
    [
        ("exponential", [2, 4, 8, 16, 32, 60, 60]),
        ("linear", [5, 10, 15, 20, 25, 30, 35]),
        ("fixed", [10] * 7),
    ],
)
async def test_retry_delay_follows_the_policy(
    db: asyncpg.Connection, policy: str, delays: list[int]
) -> None:
    found = [
        (await db.fetchval("SELECT retry_delay($1, $2)", policy, n)).total_seconds()
        for n in range(1, 8)
    ]
    assert found == delays


@pytest.mark.parametrize(
    ("microseconds", "bucket"), [(0, 0), (1_000_000, 0), (1_000_001, 1), (3_600_000_001, 10)]
)
async def test_bucket_bounds_are_inclusive(
    db: asyncpg.Connection, microseconds: int, bucket: int
) -> None:
    found = await db.fetchval(
        "SELECT metrics.bucket('ains_task_duration_seconds', $1)", microseconds
    )
    assert found == bucket


async def test_clock_that_jumps_back_shrinks_no_sum(db: asyncpg.Connection) -> None:
    task = await new_task(db, status="ACTIVE", assigned_agent_id="a")
    await db.execute("UPDATE tasks SET started_at = now() + interval '1 hour'")
    await set_status(db, task, "COMPLETED")
    assert (
        await db.fetchval(
            "SELECT sum_us FROM metrics.series WHERE family = 'ains_task_duration_seconds'"
        )
        == 0
    )


async def test_fold_changes_no_value_and_moves_every_fact(db: asyncpg.Connection) -> None:
    for status in TaskStatus:
        for _ in range(3):
            await new_task(db, status=status, assigned_agent_id="a")
    before = await series(db)
    facts = await db.fetchval("SELECT count(*) FROM task_events")
    moved = 0
    while batch := await db.fetchval("SELECT metrics.fold(7)"):
        moved += batch
    assert moved == facts == await db.fetchval("SELECT count(*) FROM task_events_closed")
    assert await series(db) == before
    assert await db.fetchval("SELECT count(*) FROM metrics.task_tail") == 0


async def test_second_folder_leaves_the_work_to_the_first(
    db: asyncpg.Connection, database_url: str
) -> None:
    await new_task(db)
    other = await asyncpg.connect(database_url)
    try:
        async with db.transaction():
            assert await db.fetchval("SELECT metrics.fold()") == 1
            assert await other.fetchval("SELECT metrics.fold()") is None
        assert await other.fetchval("SELECT metrics.fold()") == 0
    finally:
        await other.close()


async def test_key_of_a_task_cannot_change(db: asyncpg.Connection) -> None:
    await new_task(db)
    for change in ("task_id = gen_random_uuid()", "task_type = 'other'", "client_id = 'other'"):
        with pytest.raises(asyncpg.RestrictViolationError, match="cannot be changed"):
            await db.execute(f"UPDATE tasks SET {change}")
    await db.execute("UPDATE tasks SET task_type = task_type, client_id = client_id")
    await db.execute("INSERT INTO task_dependencies SELECT task_id, gen_random_uuid() FROM tasks")
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):  # whoever refuses it first
        await db.execute("UPDATE tasks SET task_id = gen_random_uuid()")


async def test_no_trigger_has_tasks_locked_before_they_change(db: asyncpg.Connection) -> None:
    """One BEFORE UPDATE would, whichever columns it is for, and have each lock logged."""
    before_row_update = 1 | 2 | 16  # TRIGGER_TYPE_... of PostgreSQL's pg_trigger.h
    assert not await db.fetch(
        "SELECT tgname FROM pg_trigger WHERE tgrelid = 'tasks'::regclass AND tgtype & $1 = $1",
        before_row_update,
    )


async def test_update_of_ten_thousand_rows_is_not_quadratic(db: asyncpg.Connection) -> None:
    """The facts of a row cost the same, however many rows a statement changes."""
    task = await new_task(db)
    for status in ("CANCELLED", "PENDING", "CANCELLED", "PENDING", "CANCELLED", "PENDING"):
        await set_status(db, task, status)
    await db.execute(
        "INSERT INTO tasks (client_id, task_type, capability_required)"
        " SELECT 'c', 't', 'x' FROM generate_series(1, 10000)"
    )
    await db.execute("SET statement_timeout = '5s'")  # a nested loop takes three times that
    await db.execute("UPDATE tasks SET status = 'CANCELLED'")
    assert total(await series(db), "ains_tasks_cancelled_total") == 3 + 10001


async def test_everything_is_commented(db: asyncpg.Connection) -> None:
    silent = await db.fetch(
        """
        SELECT c.oid::regclass::text || coalesce('.' || a.attname, '') AS name
          FROM pg_class AS c
          JOIN pg_namespace AS n ON n.oid = c.relnamespace
          LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
               AND NOT a.attisdropped AND NOT c.relispartition
         WHERE n.nspname IN ('public', 'metrics') AND c.relkind IN ('r', 'p', 'v')
           AND (obj_description(c.oid, 'pg_class') IS NULL
                OR a.attnum IS NOT NULL AND col_description(c.oid, a.attnum) IS NULL)
         UNION ALL
        SELECT p.oid::regprocedure::text
          FROM pg_proc AS p
          JOIN pg_namespace AS n ON n.oid = p.pronamespace
         WHERE n.nspname IN ('public', 'metrics') AND obj_description(p.oid, 'pg_proc') IS NULL
        """
    )
    assert [row["name"] for row in silent] == []


@pytest.mark.parametrize("status", ["ASSIGNED", "ACTIVE"])
async def test_task_in_flight_has_an_agent(db: asyncpg.Connection, status: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError, match="has no agent"):
        await add_task(db, status=status)
    task = await add_task(db, status=status, assigned_agent_id="a")
    with pytest.raises(asyncpg.CheckViolationError, match="has no agent"):
        await db.execute("UPDATE tasks SET assigned_agent_id = NULL WHERE task_id = $1", task)
    assert await db.fetchval("SELECT assigned_agent_id FROM tasks") == "a"
