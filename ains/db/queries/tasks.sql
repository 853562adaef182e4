-- One task: accept it, show it, report on it, cancel it, change it.
--
-- Statements that change a task lock its row first (found), look, and then write (changed): what they
-- answer is what the row was like when nobody else could touch it. The two that every task needs, start and
-- complete, write at once and look only when there was nothing to write (look).

-- name: submit
-- together, by $1
-- Accepts a task and assigns it at once when an agent is free.
INSERT INTO tasks
    (task_id, client_id, task_type, capability_required, input_data, priority, timeout_seconds,
     max_retries, retry_policy, routing_strategy, status, assigned_agent_id, last_agent_id,
     assigned_at, deadline_at)
SELECT $1, $2, $3, $4::text, $5, $6::smallint, $7::integer, $8::integer, $9::text, $10::text,
       CASE WHEN r.agent_id IS NULL THEN 'PENDING' ELSE 'ASSIGNED' END,
       r.agent_id,
       r.agent_id,
       CASE WHEN r.agent_id IS NOT NULL THEN now() END,
       CASE WHEN r.agent_id IS NOT NULL THEN now() + make_interval(secs => $7) END
  FROM (SELECT route_agent($4, $10, $11) AS agent_id OFFSET 0) AS r
RETURNING task_id, status, priority, is_blocked, routing_strategy, assigned_agent_id, created_at

-- name: submit_after
-- counts as: INSERT tasks
-- Accepts a task that depends on others ($12, each id once). Those are locked, in the order of their ids, so
-- that none can end before this is done: whoever ends one of them then finds the new task. If none is
-- left to wait for, it is routed at once, and if one has failed already, so has this.
WITH found AS MATERIALIZED (
    SELECT t.task_id, t.status
      FROM tasks AS t
     WHERE t.task_id = ANY ($12::uuid[])
     ORDER BY t.task_id
       FOR SHARE
),
verdict AS MATERIALIZED (
    SELECT ARRAY(SELECT w.task_id FROM unnest($12::uuid[]) WITH ORDINALITY AS w (task_id, place)
                  WHERE w.task_id NOT IN (SELECT found.task_id FROM found)
                  ORDER BY w.place) AS unknown,
           EXISTS (SELECT FROM found WHERE found.status IN ('FAILED', 'CANCELLED')) AS fails,
           EXISTS (SELECT FROM found WHERE found.status <> 'COMPLETED') AS waits
),
created AS (
    INSERT INTO tasks
        (task_id, client_id, task_type, capability_required, input_data, priority, timeout_seconds,
         max_retries, retry_policy, routing_strategy, status, is_blocked, assigned_agent_id, last_agent_id,
         assigned_at, deadline_at, completed_at, failure_reason, error_message)
    SELECT $1::uuid, $2, $3, $4::text, $5, $6::smallint, $7::integer, $8::integer, $9::text, $10::text,
           CASE WHEN v.fails THEN 'FAILED' WHEN r.agent_id IS NULL THEN 'PENDING' ELSE 'ASSIGNED' END,
           v.waits AND NOT v.fails,
           r.agent_id,
           r.agent_id,
           CASE WHEN r.agent_id IS NOT NULL THEN now() END,
           CASE WHEN r.agent_id IS NOT NULL THEN now() + make_interval(secs => $7) END,
           CASE WHEN v.fails THEN now() END,
           CASE WHEN v.fails THEN 'dependency_failed' END,
           CASE WHEN v.fails THEN 'A task it depends on failed or was cancelled.' END
      FROM verdict AS v
      -- OFFSET 0: nobody is chosen, and noted as chosen, for a task that waits.
     CROSS JOIN LATERAL (SELECT CASE WHEN NOT v.waits THEN route_agent($4, $10, $11) END AS agent_id
                          OFFSET 0) AS r
     WHERE v.unknown = '{}'
    RETURNING task_id, status, priority, is_blocked, routing_strategy, assigned_agent_id, created_at
),
noted AS (
    INSERT INTO task_dependencies (task_id, depends_on)
    SELECT created.task_id, found.task_id FROM created CROSS JOIN found
)
SELECT verdict.unknown, created.* FROM verdict LEFT JOIN created ON true

-- name: create
-- Queues a task for a registered client, if somebody offers what it needs.
WITH rules AS MATERIALIZED (
    SELECT EXISTS (SELECT FROM agents AS a WHERE a.agent_id = $2) AS known_client,
           EXISTS (SELECT FROM agent_routes AS r WHERE r.capability = lower($4))
           OR EXISTS (SELECT FROM agent_capabilities AS c
                       WHERE lower(c.name) = lower($4) AND NOT c.deprecated)
           OR EXISTS (SELECT FROM agents AS a WHERE lower_all(a.tags) @> ARRAY[lower($4)]) AS offered
),
created AS (
    INSERT INTO tasks
        (task_id, client_id, task_type, capability_required, input_data, priority, metadata,
         timeout_seconds, max_retries, retry_policy, routing_strategy, expires_at)
    SELECT $1, $2::text, $3, $4::text, $5, $6::smallint, $7, $8::integer, $9::integer, $10::text, $11::text, $12
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
-- together, by $2
-- The agent reports ACTIVE. (IS TRUE keeps the planner from looking for the task among those of the agent.)
UPDATE tasks AS t
   SET status = 'ACTIVE',
       started_at = now(),
       deadline_at = now() + make_interval(secs => t.timeout_seconds),
       updated_at = now()
 WHERE t.task_id = $1
   AND (t.assigned_agent_id = $2 AND t.status = 'ASSIGNED') IS TRUE
RETURNING t.task_id, t.status, t.retry_count, t.updated_at

-- name: complete
-- together, by $2
-- The agent reports COMPLETED. releases: tasks may have become runnable by it, dependents or the next step
-- of a chain. (ORDER BY keeps the lookup on its index, even when all dependents are those of one task.)
UPDATE tasks AS t
   SET status = 'COMPLETED',
       result_data = $3::json,
       error_message = $4,
       failure_reason = NULL,
       started_at = coalesce(t.started_at, t.assigned_at),
       deadline_at = NULL,
       completed_at = now(),
       updated_at = now()
 WHERE t.task_id = $1
   AND (t.assigned_agent_id = $2 AND t.status IN ('ASSIGNED', 'ACTIVE')) IS TRUE
RETURNING t.task_id, t.status, t.retry_count, t.updated_at,
          coalesce((SELECT true FROM task_dependencies AS d WHERE d.depends_on = $1 ORDER BY d.task_id LIMIT 1),
                   (SELECT true FROM chain_steps AS s WHERE s.task_id = $1),
                   false) AS releases

-- name: look
-- Why a report of ACTIVE or COMPLETED ($3) changed nothing. The same report once more (repeated) is told
-- apart by its content. changeable: the task has become what the report needs since.
SELECT t.status, t.retry_count, t.updated_at,
       coalesce(t.assigned_agent_id, t.last_agent_id) AS holder,
       (t.assigned_agent_id = $2
        AND t.status = $3
        AND ($3 = 'ACTIVE'
             OR t.result_data::text IS NOT DISTINCT FROM $4::json::text
                AND t.error_message IS NOT DISTINCT FROM $5)) IS TRUE AS repeated,
       (t.assigned_agent_id = $2
        AND (t.status = 'ASSIGNED' OR t.status = 'ACTIVE' AND $3 = 'COMPLETED')) IS TRUE AS changeable
  FROM tasks AS t
 WHERE t.task_id = $1

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
     CROSS JOIN LATERAL end_attempts(ARRAY[found.task_id], $3, $4, $5, reported => true) AS e
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
-- Reopens a failed task while retries are left. Whatever expired would only expire again. With a
-- dependency that failed it would only fail again (lacks); with one that runs again it is blocked by the
-- database.
WITH found AS MATERIALIZED (
    SELECT t.task_id, t.status, t.retry_count, t.max_retries,
           (SELECT u.task_id FROM task_dependencies AS d JOIN tasks AS u ON u.task_id = d.depends_on
             WHERE d.task_id = $1 AND u.status IN ('FAILED', 'CANCELLED')
             LIMIT 1) AS lacks
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
       AND found.lacks IS NULL
    RETURNING t.task_id, t.retry_count, t.next_retry_at
)
SELECT changed.task_id IS NOT NULL AS changed, found.status, found.retry_count AS used, found.max_retries, found.lacks,
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
       SET priority = $3::smallint,
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
