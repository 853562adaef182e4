"""What a writer does to the tables: every statement also notes in torture.moves what it did."""

import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import NamedTuple

import asyncpg

TYPES = ("t0", "t1", "t2", "t3", "t4")
"""Tasks that nobody but writers moves; their counters are known exactly."""
STEP = "step"
"""Tasks of chains; agents over HTTP move them as well."""
LEFT = "left"
"""Tasks that nobody works on: the service takes them from agents that are lost."""
LISTENER = "listener"
"""A client whose webhook is told everything."""
REASONS = ("agent_error", "out_of_memory", "bad_input")

_SUBMIT = """
WITH made AS (
    INSERT INTO tasks (client_id, task_type, capability_required, priority, status,
                       assigned_agent_id, failure_reason,
                       created_at, queued_at, updated_at, completed_at)
    SELECT $1::text, $2::text, 'nobody', (1 + n % 10)::smallint, $3::text,
           CASE WHEN $3::text IN ('PENDING', 'CANCELLED') THEN NULL ELSE $4::text END,
           CASE WHEN $3::text = 'FAILED' THEN $5::text END,
           torture.now(), torture.now(), torture.now(),
           CASE WHEN $3::text IN ('COMPLETED', 'FAILED', 'CANCELLED') THEN torture.now() END
      FROM generate_series(1, $6::integer) AS n
    RETURNING 1
)
INSERT INTO torture.moves SELECT $2, $1, $4, $5, 0, '', $3, count(*) FROM made HAVING count(*) > 0
"""
_MOVE = """
WITH picked AS MATERIALIZED (
    SELECT t.task_id FROM tasks AS t
     WHERE t.task_type = $1::text AND t.status = $2::text
     ORDER BY t.created_at LIMIT $3::integer FOR UPDATE SKIP LOCKED
),
moved AS (
    UPDATE tasks AS t
       SET status = $4::text,
           assigned_agent_id = CASE $4::text WHEN 'PENDING' THEN NULL
                                             WHEN $2::text THEN t.assigned_agent_id
                                             ELSE $5::text END,
           last_agent_id = coalesce(t.assigned_agent_id, t.last_agent_id),
           failure_reason = CASE WHEN $4::text = 'FAILED' THEN $6::text END,
           retry_count = t.retry_count + $7::integer,
           assigned_at = CASE WHEN $4::text = 'ASSIGNED' THEN torture.now() ELSE t.assigned_at END,
           queued_at = CASE WHEN $4::text = 'PENDING' THEN torture.now() ELSE t.queued_at END,
           started_at = CASE WHEN $4::text = 'PENDING' THEN NULL
                             WHEN $4::text <> 'ASSIGNED' THEN torture.now() - $8::interval END,
           updated_at = torture.now(),
           completed_at = CASE WHEN $4::text IN ('COMPLETED', 'FAILED', 'CANCELLED')
                               THEN torture.now() END
      FROM picked AS p WHERE t.task_id = p.task_id
    RETURNING t.client_id, t.retry_count
)
INSERT INTO torture.moves
SELECT $1, m.client_id, $5, $6, CASE WHEN $7 > 0 THEN m.retry_count ELSE 0 END, $2, $4, count(*)
  FROM moved AS m GROUP BY m.client_id, m.retry_count
"""
_DELETE = """
WITH picked AS MATERIALIZED (
    SELECT t.task_id FROM tasks AS t
     WHERE t.task_type = $1 AND t.status = $2 ORDER BY t.created_at LIMIT $3 FOR UPDATE SKIP LOCKED
),
gone AS (
    DELETE FROM tasks AS t USING picked AS p WHERE t.task_id = p.task_id RETURNING t.client_id
)
INSERT INTO torture.moves
SELECT $1, g.client_id, '', '', 0, $2,
       CASE WHEN $2 IN ('PENDING', 'ASSIGNED', 'ACTIVE') THEN 'CANCELLED' ELSE $2 END, count(*)
  FROM gone AS g GROUP BY g.client_id
"""
_DISTURB = """
UPDATE tasks AS t SET priority = $1, is_blocked = NOT t.is_blocked
 WHERE t.task_id = ANY (ARRAY(
       SELECT p.task_id FROM tasks AS p
        WHERE p.task_type = $2 AND p.status = 'PENDING' LIMIT $3 FOR UPDATE SKIP LOCKED))
"""
_CHAIN = """
WITH made AS (
    SELECT submit_chain(gen_random_uuid(), 'torture', $1, $2::json)
      FROM generate_series(1, $3::integer)
)
INSERT INTO torture.moves SELECT 'chain', $1, '', '', 0, '', 'PENDING', count(*) FROM made
"""
_STEPS = """[
    {"task_type": "step", "capability_required": "x", "max_retries": 1, "timeout_seconds": 1},
    {"task_type": "step", "capability_required": "x", "max_retries": 0}
]"""
_CANCEL_CHAIN = """
SELECT c.status
  FROM cancel_chain((SELECT k.chain_id FROM task_chains AS k
                      WHERE k.status IN ('PENDING', 'RUNNING')
                      ORDER BY k.created_at LIMIT 1)) AS c
"""

# Mostly the way that tasks go, but a DBA in psql may do anything.
_WAYS = (
    *[("PENDING", "ASSIGNED")] * 5,
    *[("ASSIGNED", "ACTIVE")] * 5,
    *[("ACTIVE", "COMPLETED")] * 5,
    *[("ACTIVE", "FAILED")] * 2,
    *[("ACTIVE", "PENDING"), ("ASSIGNED", "PENDING")],
    *[("PENDING", "CANCELLED"), ("PENDING", "COMPLETED"), ("FAILED", "PENDING")],
    *[("COMPLETED", "FAILED"), ("CANCELLED", "ACTIVE"), ("COMPLETED", "COMPLETED")],
)
_IN_FLIGHT = ("ASSIGNED", "ACTIVE")
_ANY = ("PENDING", *_IN_FLIGHT, "COMPLETED", "FAILED", "CANCELLED")


class Writer(NamedTuple):
    """One connection's share of the world."""

    agent: str
    """Nobody else's, so that nobody waits for its row."""
    ghost: str
    """Not registered."""
    rows: int
    """The largest batch."""

    def agent_for(self, status: str, rng: random.Random) -> str:
        """Tasks in flight would be taken from a ghost."""
        return self.agent if status in _IN_FLIGHT else rng.choice((self.agent, self.ghost))


async def act(db: asyncpg.Connection, rng: random.Random, writer: Writer) -> None:
    """One statement, at random."""
    action = rng.choices([*_ACTIONS], [*_ACTIONS.values()])[0]
    await action(db, rng, writer)


def _rows(rng: random.Random, writer: Writer) -> int:
    return rng.choice((1, 1, 5, writer.rows // 4, writer.rows))


async def _submit(db: asyncpg.Connection, rng: random.Random, writer: Writer) -> None:
    status = rng.choice(("PENDING",) * 12 + _ANY)
    kind, client, rows = rng.choice(TYPES), f"c{rng.randrange(3)}", 2 * _rows(rng, writer)
    agent = writer.agent_for(status, rng)
    if (special := rng.random()) < 0.05:
        client, rows = LISTENER, 2
    elif special < 0.1:
        kind, status, agent, rows = LEFT, rng.choice(_IN_FLIGHT), writer.ghost, 5
    await db.execute(_SUBMIT, client, kind, status, agent, rng.choice(REASONS), rows)


async def _move(db: asyncpg.Connection, rng: random.Random, writer: Writer) -> None:
    before, after = rng.choice(_WAYS)
    retry = int(after == "PENDING" and rng.random() < 0.7)
    kind = rng.choice((*TYPES * 2, STEP))
    rows = _rows(rng, writer) if kind != STEP else 2
    agent, reason = writer.agent_for(after, rng), rng.choice(REASONS)
    took = timedelta(seconds=rng.choice((0, 0.8, 1, 4, 180, 7200)))
    await db.execute(_MOVE, kind, before, rows, after, agent, reason, retry, took)


async def _delete(db: asyncpg.Connection, rng: random.Random, writer: Writer) -> None:
    await db.execute(_DELETE, rng.choice(TYPES), rng.choice(_ANY), rng.choice((1, 10)))


async def _disturb(db: asyncpg.Connection, rng: random.Random, writer: Writer) -> None:
    await db.execute(_DISTURB, rng.randint(1, 10), rng.choice(TYPES), _rows(rng, writer))


async def _chain(db: asyncpg.Connection, rng: random.Random, writer: Writer) -> None:
    await db.execute(_CHAIN, rng.choice(("c0", "c1", LISTENER)), _STEPS, rng.choice((1, 3)))


async def _cancel_chain(db: asyncpg.Connection, rng: random.Random, writer: Writer) -> None:
    await db.execute(_CANCEL_CHAIN)


_ACTIONS: dict[Callable[[asyncpg.Connection, random.Random, Writer], Awaitable[None]], int] = {
    _submit: 30,
    _move: 60,
    _delete: 3,
    _disturb: 3,
    _chain: 3,
    _cancel_chain: 1,
}
