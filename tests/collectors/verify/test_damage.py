"""Verification finds what was done to rows and views, and names the family."""

import asyncpg
import pytest

from tests.support.verifying import busy, fold, of_check, verified

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
            "DELETE FROM task_events_closed WHERE from_status = '' AND at = ("
            "SELECT min(at) FROM task_events_closed WHERE from_status = '')"
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
