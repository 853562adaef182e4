-- One task: accept it, show it, report on it, cancel it, change it.
--
-- Statements that change a task lock its row first (found), look, and then write (changed): what they
-- answer is what the row was like when nobody else could touch it.

-- name: submit
-- Accepts a task and assigns it at once when an agent is free.
INSERT INTO tasks
    (task_id, client_id, task_type, capability_required, input_data, priority, timeout_seconds,
     max_retries, retry_policy, routing_strategy, status, assigned_agent_id, last_agent_id,
     assigned_at, deadline_at)
SELECT $1, $2, $3, $4::text, $5, $6, $7::integer, $8, $9, $10::text,
       CASE WHEN r.agent_id IS NULL THEN 'PENDING' ELSE 'ASSIGNED' END,
       r.agent_id,
       r.agent_id,
       CASE WHEN r.agent_id IS NOT NULL THEN now() END,
       CASE WHEN r.agent_id IS NOT NULL THEN now() + make_interval(secs => $7) END
  FROM (VALUES (true)) AS one
  LEFT JOIN route_agents($4, $10, 1, $11) AS r ON true
RETURNING task_id, status, priority, is_blocked, routing_strategy, assigned_agent_id, created_at

-- name: create
-- Queues a task for a registered client, if somebody offers what it needs.
WITH rules AS MATERIALIZED (
    SELECT EXISTS (SELECT FROM agents AS a WHERE a.agent_id = $2) AS known_client,
           EXISTS (SELECT FROM agent_routes AS r WHERE r.capability = lower($4))
           OR EXISTS (SELECT FROM agent_capabilities AS c
                       WHERE lower(c.name) = lower($4) AND NOT c.deprecated)
           OR EXISTS (SELECT FROM agents AS a CROSS JOIN LATERAL unnest(a.tags) AS tag
                       WHERE lower(tag) = lower($4)) AS offered
),
created AS (
    INSERT INTO tasks
        (task_id, client_id, task_type, capability_required, input_data, priority, metadata,
         timeout_seconds, max_retries, retry_policy, routing_strategy, expires_at)
    SELECT $1, $2::text, $3, $4::text, $5, $6, $7, $8, $9, $10, $11, $12
      FROM rules
     WHERE known_client AND offered
    RETURNING *
)
SELECT rules.known_client, rules.offered,
       c.task_id, c.client_id, c.task_type, c.capability_required, c.status, c.priority,
       c.assigned_agent_id, c.created_at, c.updated_at, c.assigned_at, c.started_at,
       c.completed_at, c.result_data, c.error_message, c.retry_count
  FROM rules LEFT JOIN created AS c ON true

-- name: get
SELECT t.task_id, t.client_id, t.task_type, t.capability_required, t.status, t.priority,
       t.assigned_agent_id, t.created_at, t.updated_at, t.assigned_at, t.started_at,
       t.completed_at, t.result_data, t.error_message, t.retry_count
  FROM tasks AS t
 WHERE t.task_id = $1

-- name: start
-- The agent reports ACTIVE.
WITH found AS MATERIALIZED (
    SELECT t.task_id, t.status, t.assigned_agent_id, t.last_agent_id, t.retry_count, t.updated_at,
           t.status = 'ACTIVE' AND t.assigned_agent_id = $2 AS repeated
      FROM tasks AS t
     WHERE t.task_id = $1
       FOR NO KEY UPDATE
),
changed AS (
    UPDATE tasks AS t
       SET status = 'ACTIVE',
           started_at = now(),
           deadline_at = now() + make_interval(secs => t.timeout_seconds),
           updated_at = now()
      FROM found
     WHERE t.task_id = found.task_id
       AND found.assigned_agent_id = $2
       AND found.status = 'ASSIGNED'
    RETURNING t.task_id, t.status, t.retry_count, t.updated_at
)
SELECT changed.task_id IS NOT NULL AS changed, found.repeated,
       coalesce(found.assigned_agent_id, found.last_agent_id) AS holder,
       coalesce(changed.status, found.status) AS status,
       coalesce(changed.retry_count, found.retry_count) AS retry_count,
       coalesce(changed.updated_at, found.updated_at) AS updated_at
  FROM found LEFT JOIN changed ON true

-- name: complete
-- The agent reports COMPLETED. The same report once more is told apart by its content.
WITH found AS MATERIALIZED (
    SELECT t.task_id, t.status, t.assigned_agent_id, t.last_agent_id, t.retry_count, t.updated_at,
           t.status = 'COMPLETED'
               AND t.assigned_agent_id = $2
               AND t.result_data::text IS NOT DISTINCT FROM $3::json::text
               AND t.error_message IS NOT DISTINCT FROM $4 AS repeated
      FROM tasks AS t
     WHERE t.task_id = $1
       FOR NO KEY UPDATE
),
changed AS (
    UPDATE tasks AS t
       SET status = 'COMPLETED',
           result_data = $3::json,
           error_message = $4,
           failure_reason = NULL,
           started_at = coalesce(t.started_at, t.assigned_at),
           deadline_at = NULL,
           completed_at = now(),
           updated_at = now()
      FROM found
     WHERE t.task_id = found.task_id
       AND found.assigned_agent_id = $2
       AND found.status IN ('ASSIGNED', 'ACTIVE')
    RETURNING t.task_id, t.status, t.retry_count, t.updated_at
)
SELECT changed.task_id IS NOT NULL AS changed, found.repeated,
       coalesce(found.assigned_agent_id, found.last_agent_id) AS holder,
       coalesce(changed.status, found.status) AS status,
       coalesce(changed.retry_count, found.retry_count) AS retry_count,
       coalesce(changed.updated_at, found.updated_at) AS updated_at
  FROM found LEFT JOIN changed ON true

-- name: fail
-- counts as: UPDATE tasks
-- The agent reports FAILED: end_attempts() decides between retry and failure. The same report once
-- more finds either the failed task, or the retry that the first one led to.
WITH found AS MATERIALIZED (
    SELECT t.task_id, t.status, t.assigned_agent_id, t.last_agent_id, t.retry_count, t.updated_at,
           (t.status = 'FAILED' AND t.assigned_agent_id = $2
            OR t.status = 'PENDING' AND t.last_agent_id = $2)
               AND t.failure_reason = $3
               AND t.error_message IS NOT DISTINCT FROM $4
               AND ($5::json IS NULL OR t.result_data::text = $5::json::text) AS repeated
      FROM tasks AS t
     WHERE t.task_id = $1
       FOR NO KEY UPDATE
),
changed AS (
    SELECT e.task_id, e.status, e.retry_count, e.updated_at
      FROM found
     CROSS JOIN LATERAL end_attempts(ARRAY[found.task_id], $3, $4, $5) AS e
     WHERE found.assigned_agent_id = $2
       AND found.status IN ('ASSIGNED', 'ACTIVE')
)
SELECT changed.task_id IS NOT NULL AS changed, found.repeated,
       coalesce(found.assigned_agent_id, found.last_agent_id) AS holder,
       coalesce(changed.status, found.status) AS status,
       coalesce(changed.retry_count, found.retry_count) AS retry_count,
       coalesce(changed.updated_at, found.updated_at) AS updated_at
  FROM found LEFT JOIN changed ON true

-- name: cancel
-- Ends a live task on behalf of its client.
WITH found AS MATERIALIZED (
    SELECT t.task_id, t.client_id, t.status FROM tasks AS t WHERE t.task_id = $1 FOR NO KEY UPDATE
),
changed AS (
    UPDATE tasks AS t
       SET status = 'CANCELLED',
           cancel_reason = $3,
           next_retry_at = NULL,
           deadline_at = NULL,
           completed_at = now(),
           updated_at = now()
      FROM found
     WHERE t.task_id = found.task_id
       AND found.client_id = $2
       AND found.status IN ('PENDING', 'ASSIGNED', 'ACTIVE')
    RETURNING t.task_id, t.completed_at
)
SELECT changed.task_id IS NOT NULL AS changed, found.client_id, found.status,
       changed.completed_at AS cancelled_at
  FROM found LEFT JOIN changed ON true

-- name: retry
-- Reopens a failed task while retries are left. Whatever expired would only expire again.
WITH found AS MATERIALIZED (
    SELECT t.task_id, t.status, t.retry_count, t.max_retries
      FROM tasks AS t
     WHERE t.task_id = $1
       FOR NO KEY UPDATE
),
changed AS (
    UPDATE tasks AS t
       SET status = 'PENDING',
           retry_count = t.retry_count + 1,
           next_retry_at = now() + retry_delay(t.retry_policy, t.retry_count + 1),
           queued_at = now() + retry_delay(t.retry_policy, t.retry_count + 1),
           assigned_agent_id = NULL,
           assigned_at = NULL,
           started_at = NULL,
           completed_at = NULL,
           expires_at = NULL,
           updated_at = now()
      FROM found
     WHERE t.task_id = found.task_id
       AND found.status = 'FAILED'
       AND found.retry_count < found.max_retries
    RETURNING t.task_id, t.retry_count, t.next_retry_at
)
SELECT changed.task_id IS NOT NULL AS changed, found.status, found.max_retries,
       changed.retry_count, changed.next_retry_at
  FROM found LEFT JOIN changed ON true

-- name: set_priority
WITH found AS MATERIALIZED (
    SELECT t.task_id, t.client_id, t.status, t.priority
      FROM tasks AS t
     WHERE t.task_id = $1
       FOR NO KEY UPDATE
),
changed AS (
    UPDATE tasks AS t
       SET priority = $3,
           updated_at = now()
      FROM found
     WHERE t.task_id = found.task_id
       AND found.client_id = $2
       AND found.status IN ('PENDING', 'ASSIGNED', 'ACTIVE')
    RETURNING t.task_id
)
SELECT changed.task_id IS NOT NULL AS changed, found.client_id, found.status,
       found.priority AS old_priority
  FROM found LEFT JOIN changed ON true

-- name: set_timeout
-- A running attempt's deadline moves with it.
WITH found AS MATERIALIZED (
    SELECT t.task_id, t.client_id, t.status FROM tasks AS t WHERE t.task_id = $1 FOR NO KEY UPDATE
),
changed AS (
    UPDATE tasks AS t
       SET timeout_seconds = $3::integer,
           deadline_at = CASE WHEN found.status IN ('ASSIGNED', 'ACTIVE')
                              THEN coalesce(t.started_at, t.assigned_at) + make_interval(secs => $3) END,
           updated_at = now()
      FROM found
     WHERE t.task_id = found.task_id
       AND found.client_id = $2
       AND found.status IN ('PENDING', 'ASSIGNED', 'ACTIVE')
    RETURNING t.task_id
)
SELECT changed.task_id IS NOT NULL AS changed, found.client_id, found.status
  FROM found LEFT JOIN changed ON true
