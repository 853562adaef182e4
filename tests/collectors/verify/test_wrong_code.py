"""Verification finds code that counts wrong, also where all that it wrote agrees with it."""

import random
import re

import asyncpg
import pytest

from collectors.verify.definition import FAMILIES
from tests.support.verifying import busy, change, fold, of_check, verified


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
            ("r.to_status = 'CANCELLED'", "r.to_status = 'FAILED'"),
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


async def busy_again(db: asyncpg.Connection) -> None:
    await change(db, 30, random.Random(7))


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
