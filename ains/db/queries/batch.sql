-- name: create
-- All good tasks of a batch at once; the dispatcher routes them.
INSERT INTO tasks
    (task_id, client_id, task_type, capability_required, input_data, priority, metadata,
     timeout_seconds, max_retries, retry_policy, routing_strategy, expires_at)
SELECT n.task_id, $1, n.task_type, n.capability, n.input, n.priority, n.metadata,
       n.timeout, n.retries, n.policy, n.strategy, n.expires_at
  FROM unnest($2::uuid[], $3::text[], $4::text[], $5::json[], $6::smallint[], $7::json[],
              $8::integer[], $9::integer[], $10::text[], $11::text[], $12::timestamptz[])
       AS n (task_id, task_type, capability, input, priority, metadata,
             timeout, retries, policy, strategy, expires_at)

-- name: status
-- counts as: SELECT tasks
SELECT t.task_id, t.status, t.priority, t.created_at, t.completed_at
  FROM unnest($1::uuid[]) WITH ORDINALITY AS asked (task_id, place)
  JOIN tasks AS t USING (task_id)
 ORDER BY asked.place

-- name: cancel
-- Ends those of the tasks that are live and the client's. Locks are taken in the order of the ids, so that
-- two batches can't wait for each other in a circle.
WITH found AS MATERIALIZED (
    SELECT t.task_id, t.client_id, t.status
      FROM tasks AS t
     WHERE t.task_id = ANY ($1::uuid[])
     ORDER BY t.task_id
       FOR NO KEY UPDATE
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
    RETURNING t.task_id
)
SELECT found.task_id, found.client_id, found.status, changed.task_id IS NOT NULL AS changed
  FROM found LEFT JOIN changed USING (task_id)
