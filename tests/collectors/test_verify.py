"""Verification is clean after anything that may happen, and finds whatever may not."""

import asyncio
import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import cycle

import asyncpg
import pytest

from ains.metrics import database_collectors
from collectors.verify import Difference, Report, Unverifiable, verify
from collectors.verify.definition import FAMILIES
from tests.support.retention import ended_tasks, make_day
from tests.support.rows import add_task
from tests.torture.actions import Writer, act
from tests.torture.upkeep import upkeep
from tests.torture.world import lay_ground
from tests.torture.writers import write_for_ever


async def verified(db: asyncpg.Connection) -> Report:
    return await verify(db, database_collectors())


async def busy(db: asyncpg.Connection, seed: int = 1, changes: int = 150) -> None:
    """Tasks, chains and webhooks that live through something."""
    await lay_ground(db)
    await change(db, changes, random.Random(seed))
    await db.execute("""
        INSERT INTO task_chains (chain_id, name, client_id, total_steps)
        SELECT gen_random_uuid(), 'n', 'c', 1 FROM generate_series(1, 6);
        INSERT INTO chain_steps (chain_id, step_index, task_type, capability_required)
        SELECT chain_id, 0, 't', 'x' FROM task_chains WHERE client_id = 'c';
        INSERT INTO webhooks (webhook_id, agent_id, url, host, events, secret)
        VALUES (gen_random_uuid(), 'w0-0', 'http://a', 'a', '{task.created}', 's');
        INSERT INTO webhook_deliveries (webhook_id, host, event_type, subject_id, payload)
        SELECT webhook_id, 'a', 'task.created', gen_random_uuid(), '{}'
          FROM webhooks, generate_series(1, 5);
        INSERT INTO webhook_attempts (delivery_id, attempted_at, duration_us, outcome)
        SELECT delivery_id, now(), 100000 * row_number() OVER (), 'success'
          FROM webhook_deliveries LIMIT 3;
        UPDATE webhook_deliveries SET status = 'success'
         WHERE delivery_id IN (SELECT delivery_id FROM webhook_attempts);
        UPDATE task_chains SET status = 'RUNNING', started_at = now() - interval '45 s'
         WHERE chain_id IN (SELECT chain_id FROM task_chains WHERE client_id = 'c' LIMIT 3);
        UPDATE task_chains SET status = 'FAILED' WHERE client_id = 'c' AND status = 'RUNNING'
    """)


async def change(db: asyncpg.Connection, times: int, rng: random.Random) -> None:
    """Tasks and chains do something."""
    for _ in range(times):
        await act(db, rng, Writer("w0-0", "ghost", 20))


async def fold(db: asyncpg.Connection) -> None:
    while await db.fetchval("SELECT metrics.fold(100)"):
        pass


async def facts(db: asyncpg.Connection) -> int:
    """How many facts the ledgers have."""
    number: int = await db.fetchval(
        "SELECT (SELECT count(*) FROM task_events) + (SELECT count(*) FROM chain_events)"
        " + (SELECT count(*) FROM webhook_events)"
    )
    return number


@asynccontextmanager
async def role(
    db: asyncpg.Connection, database_url: str, *grants: str
) -> AsyncIterator[asyncpg.Connection]:
    """A connection of a role that may do no more than this."""
    name = f"verifier_{random.SystemRandom().randrange(10**9)}"
    await db.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'p'")
    for grant in grants:
        await db.execute(f"GRANT {grant} TO {name}")
    connection = await asyncpg.connect(database_url, user=name, password="p")
    try:
        yield connection
    finally:
        await connection.close()
        await db.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


async def test_clean_when_empty(db: asyncpg.Connection) -> None:
    report = await verified(db)
    assert report.differences == []
    assert (report.facts, report.series, report.skipped) == (0, 0, [])


async def test_clean_with_sums_that_a_float_cannot_hold(db: asyncpg.Connection) -> None:
    """Ten million tasks that take a quarter of an hour each add up to as much."""
    await db.execute("""
        INSERT INTO tasks (client_id, task_type, capability_required, status,
                           started_at, completed_at)
        SELECT 'c', 't' || n, 'x', 'COMPLETED',
               now() - interval '290 years' - n * interval '1 us', now()
          FROM generate_series(1, 50) AS n
    """)
    assert (await verified(db)).differences == []


@pytest.mark.parametrize("folded", [False, True], ids=["all open", "half folded"])
async def test_clean_whatever_happened(db: asyncpg.Connection, folded: bool) -> None:
    await busy(db)
    if folded:
        await db.execute("SELECT metrics.fold(100)")
    report = await verified(db)
    assert report.differences == []
    assert report.facts == await facts(db)
    assert (report.open_facts < report.facts) == folded
    assert report.series > 50


async def test_clean_after_rows_were_deleted_and_history_pruned(db: asyncpg.Connection) -> None:
    await busy(db)
    await fold(db)
    await db.execute("DELETE FROM tasks; DELETE FROM task_chains; DELETE FROM agents")
    async with db.transaction():
        await db.execute("""
            SELECT metrics.add_pruned(
                ARRAY(SELECT ROW (e.*)::task_events_open FROM task_events_closed AS e
                       ORDER BY event_id LIMIT 100), '{}', '{}');
            DELETE FROM task_events_closed
             WHERE event_id IN (SELECT event_id FROM task_events_closed ORDER BY event_id LIMIT 100)
        """)
    report = await verified(db)
    assert report.differences == []


async def test_portions_and_partitions_are_counted_once_each(
    db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collectors.verify.facts._PORTION_PAGES", 2)
    await db.execute("""
        CREATE TABLE task_events_closed_past PARTITION OF task_events_closed
        FOR VALUES FROM ('2001-01-01') TO ('2002-01-01')
    """)
    await busy(db)
    await fold(db)
    await db.execute("""
        UPDATE task_events_closed SET at = '2001-06-01' WHERE event_id % 3 = 0
    """)
    report = await verified(db)
    assert [d for d in report.differences if d.part != "first_at"] == []
    assert report.facts == await facts(db)


async def test_clean_with_capped_labels(db: asyncpg.Connection) -> None:
    await db.execute("UPDATE metrics.settings SET label_limit = 2")
    await busy(db, changes=40)
    await fold(db)
    for number in range(4):
        await add_task(db, task_type=f"late-{number}", client_id=f"late-{number}")
        await fold(db)
    await add_task(db, task_type="last", client_id="last")
    shown = await db.fetchval(
        "SELECT sum(value) FROM metrics.ains_tasks_created_total WHERE task_type = 'other'"
    )
    assert shown == 5
    assert (await verified(db)).differences == []


def of_check(report: Report, check: str) -> list[Difference]:
    return [d for d in report.differences if d.check == check]


DAMAGE = {
    "changed total": (
        (
            "UPDATE metrics.totals SET n = n + 1 WHERE (family, label_1, label_2) IN ("
            "SELECT family, label_1, label_2 FROM metrics.totals"
            " WHERE family = 'ains_tasks_created_total' LIMIT 1)"
        ),
        "ledger",
        "ains_tasks_created_total",
    ),
    "changed sum": (
        "UPDATE metrics.totals SET sum_us = sum_us + 1 WHERE family = 'ains_task_queue_seconds'",
        "ledger",
        "ains_task_queue_seconds",
    ),
    "changed first fact": (
        "UPDATE metrics.totals SET first_at = first_at - interval '1 s'",
        "ledger",
        "ains_tasks_completed_total",
    ),
    "lost row": (
        (
            "DELETE FROM task_events_closed WHERE event_id = ("
            "SELECT min(event_id) FROM task_events_closed WHERE event = 'created')"
        ),
        "ledger",
        "ains_tasks_created_total",
    ),
    "doubled row": (
        "INSERT INTO webhook_events_closed SELECT * FROM webhook_events_closed LIMIT 1",
        "unique",
        "webhook_events",
    ),
    "open and closed": (
        "INSERT INTO chain_events_open SELECT * FROM chain_events_closed LIMIT 1",
        "unique",
        "chain_events",
    ),
    "gauge in the totals": (
        "UPDATE metrics.totals SET n = n - 1 WHERE family = 'ains_tasks_in_queue'",
        "state",
        "ains_tasks_in_queue",
    ),
    "counter below its rows": (
        "UPDATE metrics.totals SET n = n - 1000 WHERE family = 'ains_chains_total'",
        "state",
        "ains_chains_total",
    ),
    "triggers off": (
        (
            "ALTER TABLE tasks DISABLE TRIGGER USER;"
            "DELETE FROM tasks WHERE status = 'PENDING';"
            "ALTER TABLE tasks ENABLE TRIGGER USER"
        ),
        "state",
        "ains_tasks_in_queue",
    ),
    "views that call everybody alive": (
        (
            "CREATE OR REPLACE VIEW metrics.agent_counts AS SELECT s.status, s.agents,"
            " s.agents + 1 AS active FROM (SELECT 'BUSY'::text AS status, count(*) AS agents"
            " FROM agents) AS s"
        ),
        "state",
        "ains_agents_active",
    ),
    "view of another trust": (
        (
            "CREATE OR REPLACE VIEW metrics.ains_agent_trust_score AS SELECT a.agent_id::text,"
            " a.display_name::text, a.trust_score::double precision + 0.1 AS value"
            " FROM agents AS a"
        ),
        "state",
        "ains_agent_trust_score",
    ),
    "view of another task": (
        (
            "CREATE OR REPLACE VIEW metrics.ains_task_oldest_pending_timestamp_seconds AS"
            " SELECT 0::double precision AS value"
        ),
        "state",
        "ains_task_oldest_pending_timestamp_seconds",
    ),
    "series without open facts": (
        (
            "INSERT INTO tasks (client_id, task_type, capability_required) VALUES ('c', 't', 'x');"
            "CREATE OR REPLACE VIEW metrics.series AS SELECT family, label_1, label_2, bucket, n,"
            " sum_us, first_at FROM metrics.totals"
        ),
        "series",
        "ains_tasks_created_total",
    ),
    "total that no scrape reads": (
        "UPDATE metrics.totals SET generation = -9 WHERE family = 'ains_tasks_created_total'",
        "scrape",
        "ains_tasks_created_total",
    ),
    "wrong view": (
        (
            "CREATE OR REPLACE VIEW metrics.ains_tasks_cancelled_total AS"
            " SELECT s.label_1 AS task_type, s.n + 1 AS value FROM metrics.series AS s"
            " WHERE s.family = 'ains_tasks_cancelled_total'"
        ),
        "view",
        "ains_tasks_cancelled_total",
    ),
    "lost view": (
        "DROP VIEW metrics.ains_tasks_reopened_total",
        "view",
        "ains_tasks_reopened_total",
    ),
    "families that disagree": (
        "UPDATE metrics.totals SET n = n + 1 WHERE family = 'ains_tasks_completed_total'",
        "invariant",
        "durations of completed tasks = tasks completed, of 't0'",
    ),
}


@pytest.mark.parametrize(("statement", "check", "family"), DAMAGE.values(), ids=DAMAGE)
async def test_finds(db: asyncpg.Connection, statement: str, check: str, family: str) -> None:
    await busy(db)
    await fold(db)
    await db.execute(statement)
    report = await verified(db)
    assert family in {d.family for d in of_check(report, check)}, report.differences


async def test_both_definitions_know_the_same_families(db: asyncpg.Connection) -> None:
    source = await db.fetchval(
        "SELECT string_agg(prosrc, '') FROM pg_proc WHERE proname LIKE '%_contributions'"
    )
    assert set(re.findall(r"'(ains_\w+)'", source)) == FAMILIES


async def redefine(db: asyncpg.Connection, function: str, *changes: tuple[str, str]) -> None:
    source = await db.fetchval("SELECT pg_get_functiondef($1::regproc)", function)
    for old, new in changes:
        assert old in source
        source = source.replace(old, new, 1)
    await db.execute(source)


async def test_finds_a_fold_that_leaves_one_contribution_out(db: asyncpg.Connection) -> None:
    await redefine(
        db,
        "metrics.fold",
        ("ON CONFLICT", "WHERE c.family <> 'ains_tasks_failed_total' ON CONFLICT"),
    )
    await busy(db)
    await fold(db)
    report = await verified(db)
    assert {d.family for d in of_check(report, "ledger")} == {"ains_tasks_failed_total"}


@pytest.mark.parametrize(
    ("change", "family"),
    [
        (
            ("CASE r.event WHEN 'cancelled'", "CASE r.event WHEN 'reopened'"),
            "ains_tasks_cancelled_total",
        ),
        (("width_bucket(value_us - 1", "width_bucket(value_us"), "ains_chain_duration_seconds"),
    ],
    ids=["wrong event", "bounds left out of their buckets"],
)
async def test_finds_a_wrong_definition_though_everything_agrees_with_it(
    db: asyncpg.Connection, change: tuple[str, str], family: str
) -> None:
    function = "metrics.bucket" if "bucket" in change[0] else "metrics.task_contributions"
    await redefine(db, function, change)
    await busy(db)
    await db.execute(
        "INSERT INTO task_chains (chain_id, name, client_id, total_steps, status, started_at,"
        " completed_at) VALUES (gen_random_uuid(), 'n', 'c', 1, 'COMPLETED', now(),"
        " now() + interval '30 s')"
    )
    await fold(db)
    report = await verified(db)
    assert of_check(report, "ledger") == of_check(report, "series") == []
    assert {d.family for d in of_check(report, "definition")} >= {family}


@pytest.mark.parametrize("first", ["totals", "delete"])
async def test_finds_a_fold_in_two_transactions_that_was_killed_in_between(
    db: asyncpg.Connection, database_url: str, first: str
) -> None:
    """What `metrics.fold` would be without its one transaction."""
    await busy(db)
    await fold(db)
    await busy_again(db)
    broken = await asyncpg.connect(database_url)
    if first == "totals":
        await broken.execute("""
            INSERT INTO metrics.totals AS t
                (family, label_1, label_2, bucket, n, sum_us, first_at, generation)
            SELECT family, label_1, label_2, bucket, n, sum_us, first_at, 99 FROM metrics.task_tail
                ON CONFLICT (family, label_1, label_2, bucket) DO UPDATE
               SET n = t.n + excluded.n, sum_us = t.sum_us + excluded.sum_us
        """)
    else:
        await broken.execute("""
            WITH gone AS (DELETE FROM task_events_open RETURNING *)
            INSERT INTO task_events_closed SELECT * FROM gone
        """)
    # Here the other half would follow.
    await db.execute("SELECT pg_terminate_backend($1)", broken.get_server_pid())
    report = await verified(db)
    assert len(of_check(report, "ledger")) > 5
    assert of_check(report, "state")


async def busy_again(db: asyncpg.Connection) -> None:
    await change(db, 30, random.Random(7))


async def test_works_for_a_role_that_sees_no_tasks(
    db: asyncpg.Connection, database_url: str
) -> None:
    await busy(db)
    await db.execute("SELECT metrics.fold(200)")
    ledgers = ", ".join(
        f"{kind}_events_{part}"
        for kind in ("task", "chain", "webhook")
        for part in ("open", "closed")
    )
    grants = (
        f"SELECT ON {ledgers}",
        "USAGE ON SCHEMA metrics",
        "SELECT ON ALL TABLES IN SCHEMA metrics",
    )
    async with role(db, database_url, *grants, "SELECT ON SEQUENCE metrics.rotations") as verifier:
        report = await verified(verifier)
        assert report.differences == []
        assert report.facts > 100
        assert len(report.skipped) == 6
        await db.execute("UPDATE metrics.totals SET n = n + 1")
        assert of_check(await verified(verifier), "ledger")


async def test_works_for_the_service_which_reads_partitions_by_way_of_their_ledger(
    db: asyncpg.Connection, service_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collectors.verify.facts._PORTION_PAGES", 2)
    await db.execute("SELECT metrics.make_partitions()")
    await busy(db)
    await fold(db)
    await db.execute("UPDATE task_events_closed SET at = '2001-01-01' WHERE event_id % 3 = 0")
    partitions = await db.fetchval("SELECT count(DISTINCT tableoid) FROM task_events_closed")
    assert partitions == 2
    service = await asyncpg.connect(service_url)
    try:
        report = await verified(service)
    finally:
        await service.close()
    assert [d for d in report.differences if d.part != "first_at"] == []
    assert (report.facts, report.skipped) == (await facts(db), [])


async def test_says_so_when_it_may_not_read(scraper_url: str) -> None:
    scraper = await asyncpg.connect(scraper_url)
    try:
        with pytest.raises(Unverifiable, match="task_events_closed"):
            await verified(scraper)
    finally:
        await scraper.close()


async def in_the_middle(
    monkeypatch: pytest.MonkeyPatch,
    db: asyncpg.Connection,
    database_url: str,
    *statements: str,
) -> tuple[Report, list[object]]:
    """A verification during which somebody else does this, after the open facts were read."""
    answers: list[object] = []

    async def interrupt(*_: object) -> list[Difference]:
        other = await asyncpg.connect(database_url)
        try:
            answers.extend([await other.fetchval(statement) for statement in statements])
        finally:
            await other.close()
        return []

    monkeypatch.setattr("collectors.verify.state.against_tables", interrupt)
    return await verified(db), answers


async def test_open_parts_can_be_folded_and_rotated_meanwhile(
    db: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await busy(db)
    await db.execute("SELECT metrics.fold(100)")
    report, answers = await in_the_middle(
        monkeypatch, db, database_url, "SELECT metrics.fold(10)", "SELECT metrics.rotate()"
    )
    assert answers == [10, True]
    assert report.differences == []
    assert report.open_facts > 30


async def test_partitions_can_be_pruned_but_not_dropped_meanwhile(
    db: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the verification's snapshot the facts are still there."""
    await make_day(db, (datetime.now(UTC) - timedelta(days=9)).date())
    await ended_tasks(db, 100, timedelta(days=9))
    await fold(db)
    report, answers = await in_the_middle(
        monkeypatch,
        db,
        database_url,
        "SELECT metrics.prune_ledger(now())",
        "SELECT metrics.prune_ledger(now())",
        "SELECT metrics.drop_partitions('0')",
    )
    assert report.facts > 100
    assert report.differences == []
    assert answers == [report.facts, 0, None]
    assert await db.fetchval("SELECT count(*) FROM metrics.drop_partitions('0')") == 1


async def retain(database_url: str) -> None:
    """Facts of other days come, are folded, pruned, and their partitions made and dropped."""
    connection = await asyncpg.connect(database_url)
    try:
        for days in cycle((9, 8, 7)):
            name = f"task_events_closed_{days}"
            day = f"(now() AT TIME ZONE 'UTC')::date - {days}"
            bounds = await connection.fetchrow(f"SELECT {day} AS first, {day} + 1 AS next")
            assert bounds is not None
            with suppress(asyncpg.CheckViolationError, asyncpg.DuplicateTableError):
                await connection.execute(
                    f"CREATE TABLE {name} PARTITION OF task_events_closed"
                    f" FOR VALUES FROM ('{bounds['first']}Z') TO ('{bounds['next']}Z')"
                )
            await ended_tasks(connection, 20, timedelta(days=days))
            await connection.fetchval("SELECT metrics.fold()")
            await connection.fetchval("SELECT metrics.prune_ledger(now() - interval '8 days', 30)")
            await connection.fetch("SELECT metrics.drop_partitions('0')")
    finally:
        await connection.close()


async def test_clean_at_any_moment_of_a_busy_database(
    database_url: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside writers that fail, folds, and retention; each time another snapshot."""
    monkeypatch.setattr("collectors.verify.facts._PORTION_PAGES", 4)
    await lay_ground(db)
    work = [upkeep(database_url, random.Random(4)), retain(database_url)]
    for n in range(4):
        writer = Writer(f"w0-{n}", "ghost", 20)
        work.append(write_for_ever(database_url, random.Random(n), writer))
    tasks = [asyncio.create_task(one) for one in work]
    reports: list[Report] = []
    try:
        while len(reports) < 10 or reports[-1].facts < 2000:
            reports.append(await verified(db))
            assert reports[-1].differences == []
            for task in tasks:
                assert not task.done(), task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    assert await db.fetchval("SELECT count(*) FROM metrics.pruned") > 0
    assert (await verified(db)).differences == []
