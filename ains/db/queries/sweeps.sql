-- Upkeep of live tasks, in batches that any number of replicas may run at once: each takes what nobody
-- else has locked, and nothing that fails one batch is lost, since the next look finds it again.

-- name: release_retries
-- Retries that fall due become runnable.
WITH due AS MATERIALIZED (
    SELECT t.task_id
      FROM tasks AS t
     WHERE t.status = 'PENDING' AND t.next_retry_at <= now()
     ORDER BY t.next_retry_at
     LIMIT $1
       FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE tasks AS t SET next_retry_at = NULL FROM due WHERE t.task_id = due.task_id

-- name: time_out
-- counts as: UPDATE tasks
-- Attempts past their deadline end as failed.
WITH due AS MATERIALIZED (
    SELECT t.task_id
      FROM tasks AS t
     WHERE t.status IN ('ASSIGNED', 'ACTIVE') AND t.deadline_at <= now()
     ORDER BY t.deadline_at
     LIMIT $1
       FOR NO KEY UPDATE SKIP LOCKED
)
SELECT count(*) AS ended, count(*) FILTER (WHERE e.status = 'PENDING') AS retried
  FROM end_attempts(ARRAY(SELECT due.task_id FROM due ORDER BY due.task_id),
                    'timeout', 'The attempt took longer than its timeout allows.') AS e

-- name: expire
-- Tasks that nobody took in time fail.
WITH due AS MATERIALIZED (
    SELECT t.task_id
      FROM tasks AS t
     WHERE t.status = 'PENDING' AND t.expires_at <= now()
     ORDER BY t.expires_at
     LIMIT $1
       FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE tasks AS t
   SET status = 'FAILED',
       failure_reason = 'expired',
       error_message = 'No agent took the task before it expired.',
       next_retry_at = NULL,
       completed_at = now(),
       updated_at = now()
  FROM due
 WHERE t.task_id = due.task_id

-- name: lose_agents
-- Agents without a heartbeat for longer than the TTL become INACTIVE.
WITH silent AS MATERIALIZED (
    SELECT a.agent_id
      FROM agents AS a
     WHERE a.status IN ('AVAILABLE', 'BUSY')
       AND coalesce(a.last_heartbeat, '-infinity') <= now() - $2::interval
     ORDER BY a.agent_id
     LIMIT $1
       FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE agents AS a
   SET status = 'INACTIVE', updated_at = now()
  FROM silent
 WHERE a.agent_id = silent.agent_id
RETURNING a.agent_id

-- name: recover_tasks
-- counts as: UPDATE tasks
-- Takes tasks from agents that are silent or gone: back to the queue when the agent had not started,
-- else the attempt has failed. Looks at each agent that has work once, however much work that is.
WITH RECURSIVE holder AS (
    (SELECT t.assigned_agent_id AS agent_id
       FROM tasks AS t
      WHERE t.status IN ('ASSIGNED', 'ACTIVE')
      ORDER BY t.assigned_agent_id
      LIMIT 1)
    UNION ALL
    SELECT (SELECT t.assigned_agent_id
              FROM tasks AS t
             WHERE t.status IN ('ASSIGNED', 'ACTIVE') AND t.assigned_agent_id > holder.agent_id
             ORDER BY t.assigned_agent_id
             LIMIT 1)
      FROM holder
     WHERE holder.agent_id IS NOT NULL
),
lost AS MATERIALIZED (
    SELECT holder.agent_id
      FROM holder
      LEFT JOIN LATERAL (SELECT a.last_heartbeat FROM agents AS a
                          WHERE a.agent_id = holder.agent_id OFFSET 0) AS a ON true
     WHERE holder.agent_id IS NOT NULL
       AND coalesce(a.last_heartbeat, '-infinity') <= now() - $2::interval
),
held AS MATERIALIZED (
    SELECT t.task_id, t.status
      FROM tasks AS t
     WHERE t.assigned_agent_id = ANY (ARRAY(SELECT lost.agent_id FROM lost))
       AND t.status IN ('ASSIGNED', 'ACTIVE')
     LIMIT $1
       FOR NO KEY UPDATE SKIP LOCKED
),
requeued AS (
    UPDATE tasks AS t
       SET status = 'PENDING',
           last_agent_id = t.assigned_agent_id,
           assigned_agent_id = NULL,
           assigned_at = NULL,
           deadline_at = NULL,
           queued_at = now(),
           updated_at = now()
      FROM held
     WHERE t.task_id = held.task_id AND held.status = 'ASSIGNED'
    RETURNING t.task_id
),
ended AS (
    SELECT e.task_id
      FROM end_attempts(ARRAY(SELECT held.task_id FROM held WHERE held.status = 'ACTIVE'
                               ORDER BY held.task_id),
                        'agent_lost', 'The agent stopped sending heartbeats.') AS e
)
SELECT (SELECT count(*) FROM requeued) AS requeued, (SELECT count(*) FROM ended) AS ended

-- name: settle
-- counts as: UPDATE tasks
-- Looks at the next PENDING tasks after ($1, $2), and settles those that wait for nothing any more: somebody's
-- transaction of a stricter level ended what they wait for without seeing them.
WITH looked AS MATERIALIZED (
    SELECT t.created_at, t.task_id, t.is_blocked
      FROM tasks AS t
     WHERE t.status = 'PENDING' AND (t.created_at, t.task_id) > ($1, $2)
     ORDER BY t.created_at, t.task_id
     LIMIT $3
),
overlooked AS MATERIALIZED (
    SELECT l.task_id
      FROM looked AS l
     CROSS JOIN LATERAL (
           SELECT coalesce(bool_or(u.status <> 'COMPLETED'), false) AS waits,
                  coalesce(bool_or(u.status IN ('FAILED', 'CANCELLED')), false) AS fails
             FROM (SELECT d.depends_on FROM task_dependencies AS d
                    WHERE d.task_id = l.task_id ORDER BY d.depends_on OFFSET 0) AS d
            CROSS JOIN LATERAL (SELECT p.status FROM tasks AS p WHERE p.task_id = d.depends_on OFFSET 0) AS u) AS s
     WHERE l.is_blocked AND (s.fails OR NOT s.waits)
),
free AS MATERIALIZED (
    SELECT t.task_id
      FROM tasks AS t
     WHERE t.task_id = ANY (ARRAY(SELECT o.task_id FROM overlooked AS o))
       FOR NO KEY UPDATE SKIP LOCKED
),
settled AS MATERIALIZED (
    SELECT settle_tasks(ARRAY(SELECT free.task_id FROM free)) IS NULL AS done
)
SELECT (SELECT count(*) FROM looked) AS looked,
       (SELECT count(*) FROM free CROSS JOIN settled) AS settled,
       l.created_at, l.task_id
  FROM (SELECT looked.created_at, looked.task_id FROM looked
         ORDER BY looked.created_at DESC, looked.task_id DESC LIMIT 1) AS l

-- name: next_due
-- Seconds until something falls due, by the clock of the database; negative when it is overdue.
SELECT extract(epoch FROM (
           SELECT min(t.next_retry_at) FROM tasks AS t
            WHERE t.status = 'PENDING' AND t.next_retry_at IS NOT NULL
       ) - now())::double precision AS retry,
       extract(epoch FROM (
           SELECT min(t.deadline_at) FROM tasks AS t
            WHERE t.status IN ('ASSIGNED', 'ACTIVE')
       ) - now())::double precision AS deadline,
       extract(epoch FROM (
           SELECT min(t.expires_at) FROM tasks AS t
            WHERE t.status = 'PENDING' AND t.expires_at IS NOT NULL
       ) - now())::double precision AS expiry
