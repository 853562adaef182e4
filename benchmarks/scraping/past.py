"""Databases with a past: the same series, live tasks and open facts, whatever the number of tasks.

What is older than a fold is written without triggers, tasks and facts from one generator, and
folded by `metrics.fold`; what lives, and the facts that are left open, come by the triggers. That
the two agree is seen when the peers' answers are compared.
"""

import hashlib
from pathlib import Path
from time import perf_counter
from typing import Final

import asyncpg

from benchmarks.support.database import CLIENT, Cluster, add_agents, connected

__all__ = ["AGENTS", "LIFECYCLES", "LIVE", "prepared"]

AGENTS: Final = 50
LIVE: Final = 400
LIFECYCLES: Final = 125
"""Each leaves four open facts."""

_ROOT: Final = Path(__file__).resolve().parents[2]
_BLOCK: Final = 25_000

# Every type meets every client and every agent within 10,000 tasks, and every bucket of its
# histograms; so there is no series that a larger database has and a smaller one has not.
_GENERATOR: Final = """
CREATE FUNCTION pg_temp.past(total bigint, first bigint, last bigint)
RETURNS TABLE (task_id uuid, client_id text, task_type text, status text, priority integer,
               agent_id text, reason text, queue_us bigint, duration_us bigint,
               created_at timestamptz, assigned_at timestamptz, started_at timestamptz,
               completed_at timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT ('018f0000-0000-7000-8000-' || lpad(to_hex(i), 12, '0'))::uuid,
           'client-' || hundreds % 20, 'type-' || i % 10, status, 1 + (agent % 10)::integer,
           CASE WHEN ran THEN 'bench-agent-' || 1 + agent END,
           CASE WHEN status = 'FAILED'
                THEN ('{agent_error,timeout,out_of_memory,bad_input}'::text[])[1 + agent % 4] END,
           queue_us, duration_us, created,
           created + queue_us * interval '1 us',
           created + (queue_us + 9000) * interval '1 us',
           CASE WHEN ran THEN created + (queue_us + 9000 + duration_us) * interval '1 us'
                ELSE created + interval '1 minute' END
      FROM (SELECT i, agent, hundreds, status, created, status <> 'CANCELLED' AS ran,
                   CASE WHEN status <> 'CANCELLED' THEN i % 997 + 1000 *
                       ('{3,8,30,80,300,700,3000,8000,20000,45000,200000,400000}'::bigint[])
                       [1 + (5 * agent + hundreds) % 12] END AS queue_us,
                   CASE WHEN status <> 'CANCELLED' THEN i % 997 + 1000000 *
                       ('{0,3,8,20,45,90,200,450,1200,2700,5000}'::bigint[])
                       [1 + (agent + hundreds) % 11] END AS duration_us
              FROM (SELECT i, i / 10 % 50 AS agent, i / 500 AS hundreds,
                           CASE WHEN x < 2 THEN 'FAILED' WHEN x = 2 THEN 'CANCELLED'
                                ELSE 'COMPLETED' END AS status,
                           date_trunc('day', now()) - interval '31 days'
                               + i * (interval '30 days' / total) AS created
                      FROM generate_series(first, last) AS i
                     CROSS JOIN LATERAL (
                           SELECT (i / 500 + i / 10000 * 7 + i % 10 * 3) % 20 AS x) AS x
                    OFFSET 0) AS kind
            OFFSET 0) AS task
$$
"""
_TASKS: Final = """
INSERT INTO tasks (task_id, client_id, task_type, capability_required, status, priority,
                   assigned_agent_id, last_agent_id, failure_reason, input_data, result_data,
                   created_at, queued_at, assigned_at, started_at, completed_at, updated_at)
SELECT task_id, client_id, task_type, 'benchmark', status, priority, agent_id, agent_id, reason,
       '{"text": "what there was to do"}', '{"text": "what came of it"}',
       created_at, created_at, assigned_at, started_at, completed_at, completed_at
  FROM coming
"""
_FACTS: Final = """
INSERT INTO task_events_open
    (at, task_id, task_type, client_id, agent_id, from_status, to_status, priority, took_us,
     details)
SELECT f.at, p.task_id, p.task_type, p.client_id,
       CASE WHEN f.event = 'created' THEN '' ELSE coalesce(p.agent_id, '') END,
       f.from_status, f.to_status, p.priority,
       CASE WHEN f.event IN ('completed', 'failed') THEN p.duration_us
            WHEN f.event = 'assigned' THEN p.queue_us END,
       CASE WHEN f.event IN ('timed_out', 'failed')
            THEN ROW (p.reason, 0, p.priority, 0)::task_event_details END
  FROM coming AS p
 CROSS JOIN LATERAL (VALUES
       ('created', p.created_at, '', 'PENDING'),
       ('assigned', p.assigned_at, 'PENDING', 'ASSIGNED'),
       ('started', p.started_at, 'ASSIGNED', 'ACTIVE'),
       ('timed_out', CASE p.reason WHEN 'timeout' THEN p.completed_at - interval '1 us' END,
        'ACTIVE', 'ACTIVE'),
       (lower(p.status), p.completed_at,
        CASE WHEN p.status = 'CANCELLED' THEN 'PENDING' ELSE 'ACTIVE' END, p.status)
       ) AS f (event, at, from_status, to_status)
 WHERE f.at IS NOT NULL
"""
# What an agent's row says of its work.
_AGENTS: Final = """
UPDATE agents AS a
   SET total_tasks_completed = t.completed, total_tasks_failed = t.failed,
       last_heartbeat = 'infinity'
  FROM (SELECT assigned_agent_id AS agent_id,
               count(*) FILTER (WHERE status = 'COMPLETED') AS completed,
               count(*) FILTER (WHERE status = 'FAILED') AS failed
          FROM tasks GROUP BY 1) AS t
 WHERE a.agent_id = t.agent_id
"""
_OTHERS: Final = """
DELETE FROM coming
 WHERE task_id NOT IN (SELECT task_id FROM coming WHERE status = 'COMPLETED'
                        ORDER BY task_id LIMIT $1)
"""
_ENTER: Final = """
INSERT INTO tasks (task_id, client_id, task_type, capability_required, priority, input_data,
                   created_at, queued_at)
SELECT task_id, client_id, task_type, 'benchmark', priority, '{"text": "what there is to do"}',
       created_at, created_at
  FROM coming
"""
_ASSIGN: Final = """
UPDATE tasks AS t
   SET status = 'ASSIGNED', assigned_agent_id = c.agent_id, last_agent_id = c.agent_id,
       assigned_at = c.assigned_at, updated_at = now()
  FROM (SELECT * FROM coming ORDER BY task_id LIMIT $1) AS c WHERE t.task_id = c.task_id
"""
_START: Final = """
UPDATE tasks AS t SET status = 'ACTIVE', started_at = c.started_at, updated_at = now()
  FROM (SELECT * FROM coming ORDER BY task_id LIMIT $1) AS c WHERE t.task_id = c.task_id
"""
_COMPLETE: Final = """
UPDATE tasks AS t
   SET status = 'COMPLETED', completed_at = c.completed_at, updated_at = now(),
       result_data = '{"text": "what came of it"}'
  FROM coming AS c WHERE t.task_id = c.task_id
"""
_BLOCKED: Final = """
WITH root AS (
    INSERT INTO tasks (client_id, task_type, capability_required, created_at, queued_at)
    VALUES ('client-1', 'type-1', 'nobody', '2020-01-01', '2020-01-01') RETURNING task_id
),
waiting AS (
    INSERT INTO tasks (client_id, task_type, capability_required, is_blocked)
    SELECT 'client-1', 'type-1', 'nobody', true FROM generate_series(1, $1) RETURNING task_id
)
INSERT INTO task_dependencies (task_id, depends_on)
SELECT waiting.task_id, root.task_id FROM waiting, root
"""
_WEBHOOK: Final = """
INSERT INTO webhooks (webhook_id, agent_id, url, host, events, secret)
VALUES (gen_random_uuid(), $1, 'http://localhost/', 'localhost', '{task.created}', 'nobody''s')
"""
# Not due for years, so that no worker tries them.
_PENDING: Final = """
INSERT INTO webhook_deliveries
    (webhook_id, host, event_type, subject_id, payload, next_attempt_at)
SELECT w.webhook_id, w.host, 'task.created', gen_random_uuid(), '{"type": "task.created"}',
       now() + interval '10 years'
  FROM webhooks AS w, generate_series(1, $1)
"""
_INDEXES: Final = """
SELECT i.indexrelid::regclass::text AS name, pg_get_indexdef(i.indexrelid) AS definition
  FROM pg_index AS i
 WHERE i.indrelid = 'tasks'::regclass
   AND NOT EXISTS (SELECT FROM pg_constraint AS c WHERE c.conindid = i.indexrelid)
"""
_KEPT: Final = """
SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()
"""


async def prepared(cluster: Cluster, tasks: int, *, waiting: int = 10) -> str:
    """The URL of a database with so many ended tasks, made now or left by an earlier run.

    ``waiting`` is the number of blocked tasks, and of pending webhook deliveries.
    """
    name = f"bench_past_{tasks}_{waiting}"
    mark = f"benchmark {_fingerprint()}"
    if await _mark_of(cluster.database(name)) == mark:
        return cluster.database(name)
    started = perf_counter()
    url = await cluster.create(name)
    async with connected(url) as connection:
        await add_agents(url, AGENTS)
        await connection.execute("SET synchronous_commit = off; SET maintenance_work_mem = '1GB'")
        await connection.execute("SET work_mem = '256MB'; SET jit = off")
        await connection.execute(_GENERATOR)
        await connection.execute("CREATE TEMP TABLE coming AS SELECT * FROM pg_temp.past(1, 1, 0)")
        await _ended(connection, tasks)
        await connection.execute(_AGENTS)
        await _live(connection, tasks, waiting)
        await _folded(connection)
        await _open(connection, tasks)
        await connection.execute("VACUUM (FREEZE, ANALYZE)")
        await connection.execute(f"COMMENT ON DATABASE {name} IS '{mark}'")
        await connection.execute("CHECKPOINT")
    print(f"{tasks:,} tasks made in {perf_counter() - started:.0f} s", flush=True)
    return url


def _fingerprint() -> str:
    """Of everything that decides what is in a database."""
    found = hashlib.sha256(Path(__file__).read_bytes())
    for script in sorted((_ROOT / "alembic" / "sql").rglob("*.sql")):
        found.update(script.read_bytes())
    return found.hexdigest()[:16]


async def _mark_of(url: str) -> str | None:
    try:
        connection = await asyncpg.connect(url)
    except asyncpg.InvalidCatalogNameError:
        return None
    try:
        mark: str | None = await connection.fetchval(_KEPT)
        return mark
    finally:
        await connection.close()


async def _ended(connection: asyncpg.Connection, tasks: int) -> None:
    indexes = await connection.fetch(_INDEXES)
    for index in indexes:
        await connection.execute(f"DROP INDEX {index['name']}")
    await connection.execute("SET session_replication_role = replica")
    for first in range(0, tasks, _BLOCK):
        await _choose(connection, tasks, first, min(_BLOCK, tasks - first))
        await connection.execute(_TASKS)
        await connection.execute(_FACTS)
        await _folded(connection)
        # Else the next block's facts land behind the dead ones.
        await connection.execute("VACUUM task_events_open")
    await connection.execute("SET session_replication_role = origin")
    for index in indexes:
        await connection.execute(index["definition"])
    await connection.execute("ANALYZE")


async def _folded(connection: asyncpg.Connection) -> None:
    while await connection.fetchval("SELECT metrics.fold($1)", 4 * _BLOCK):
        pass


async def _choose(connection: asyncpg.Connection, tasks: int, first: int, number: int) -> None:
    """Have the table ``coming`` hold ``number`` tasks from the ``first`` on."""
    await connection.execute("TRUNCATE coming")
    last = first + number - 1
    await connection.execute(
        "INSERT INTO coming SELECT * FROM pg_temp.past($1, $2, $3)", tasks, first, last
    )


async def _choose_some(connection: asyncpg.Connection, tasks: int, first: int, number: int) -> None:
    """Likewise, but only such as complete."""
    await _choose(connection, tasks, first, 2 * number)
    await connection.execute(_OTHERS, number)


async def _live(connection: asyncpg.Connection, tasks: int, waiting: int) -> None:
    """Half of them PENDING, a quarter ASSIGNED, a quarter ACTIVE."""
    await _choose_some(connection, tasks, tasks, LIVE)
    await connection.execute(_ENTER)
    await connection.execute(_ASSIGN, LIVE // 2)
    await connection.execute(_START, LIVE // 4)
    await connection.execute(_BLOCKED, waiting)
    await connection.execute(_WEBHOOK, CLIENT)
    await connection.execute(_PENDING, waiting)


async def _open(connection: asyncpg.Connection, tasks: int) -> None:
    await _choose_some(connection, tasks, tasks + 2 * LIVE, LIFECYCLES)
    await connection.execute(_ENTER)
    await connection.execute(_ASSIGN, LIFECYCLES)
    await connection.execute(_START, LIFECYCLES)
    await connection.execute(_COMPLETE)
