"""A piece of everything that is counted, straight into the database."""

import asyncpg

from tests.support.rows import add_agent

_STATEMENTS = (
    """
    INSERT INTO webhooks (webhook_id, agent_id, url, host, events, secret)
    SELECT gen_random_uuid(), 'a', 'https://h/', 'h', '{task.created,task.completed}', 's'
     WHERE NOT EXISTS (SELECT FROM webhooks)
    """,
    """
    INSERT INTO tasks (client_id, task_type, capability_required, max_retries)
    SELECT client, type, 'x', n % 2
      FROM unnest('{a,c}'::text[]) AS client, unnest('{t,u}'::text[]) AS type,
           generate_series(1, 5) AS n
    """,
    """
    SELECT submit_chain(gen_random_uuid(), 'n', 'a', '[
               {"task_type": "t", "capability_required": "x"},
               {"task_type": "u", "capability_required": "x"}]')
      FROM generate_series(1, 3)
    """,
    """
    UPDATE tasks SET status = 'ACTIVE', assigned_agent_id = 'b', assigned_at = now(),
                     started_at = now() - interval '3 seconds', deadline_at = now()
     WHERE status = 'PENDING'
    """,
    """
    SELECT end_attempts(ARRAY(SELECT task_id FROM tasks WHERE status = 'ACTIVE'
                               ORDER BY task_type, created_at LIMIT 6), 'timeout', 'too slow')
    """,
    """
    UPDATE tasks SET status = 'COMPLETED'
     WHERE task_id IN (SELECT task_id FROM tasks WHERE status = 'ACTIVE'
                        ORDER BY task_type DESC LIMIT 12)
    """,
    """
    DELETE FROM tasks
     WHERE task_id IN (SELECT task_id FROM tasks WHERE status = 'ACTIVE' LIMIT 1)
    """,
    """
    INSERT INTO webhook_attempts (delivery_id, attempted_at, duration_us, outcome)
    SELECT delivery_id, now(), 123456, 'success' FROM webhook_deliveries
     WHERE status = 'pending' ORDER BY sequence LIMIT 4
    """,
    """
    UPDATE webhook_deliveries AS d SET status = 'success', next_attempt_at = NULL
     WHERE status = 'pending'
       AND EXISTS (SELECT FROM webhook_attempts AS a WHERE a.delivery_id = d.delivery_id)
    """,
)


async def add_history(db: asyncpg.Connection) -> None:
    """Tasks on all of their ways, chains, deliveries; more of the same with each call."""
    if not await db.fetchval("SELECT count(*) FROM agents"):
        await add_agent(db, "a")
        await add_agent(db, "b")
    for statement in _STATEMENTS:
        await db.execute(statement)
