-- Chains. What moves them on is in the database: submit_chain(), advance_chain(), cancel_chain().

-- name: submit
-- counts as: INSERT task_chains
SELECT c.chain_id, c.name, c.status, c.total_steps, c.current_step, c.created_at
  FROM submit_chain($1, $2, $3, $4) AS c

-- name: get
SELECT c.chain_id, c.name, c.status, c.total_steps, c.current_step, c.created_at, c.client_id,
       c.started_at, c.completed_at, c.error_message,
       s.step_index, s.name AS step_name, s.task_type, s.capability_required, s.input_data, s.priority,
       s.timeout_seconds, s.max_retries, s.use_previous_output, s.status AS step_status, s.task_id,
       s.result_data, s.error_message AS step_error, s.started_at AS step_started_at,
       s.completed_at AS step_completed_at
  FROM task_chains AS c
  LEFT JOIN chain_steps AS s USING (chain_id)
 WHERE c.chain_id = $1
 ORDER BY s.step_index

-- name: list_all
SELECT c.chain_id, c.name, c.status, c.total_steps, c.current_step, c.created_at
  FROM task_chains AS c
 ORDER BY c.created_at DESC, c.chain_id DESC
 LIMIT $1 OFFSET $2

-- name: list_by_client
SELECT c.chain_id, c.name, c.status, c.total_steps, c.current_step, c.created_at
  FROM task_chains AS c
 WHERE c.client_id = $3
 ORDER BY c.created_at DESC, c.chain_id DESC
 LIMIT $1 OFFSET $2

-- name: list_by_status
SELECT c.chain_id, c.name, c.status, c.total_steps, c.current_step, c.created_at
  FROM task_chains AS c
 WHERE c.status = $3
 ORDER BY c.created_at DESC, c.chain_id DESC
 LIMIT $1 OFFSET $2

-- name: list_by_client_and_status
SELECT c.chain_id, c.name, c.status, c.total_steps, c.current_step, c.created_at
  FROM task_chains AS c
 WHERE c.client_id = $3 AND c.status = $4
 ORDER BY c.created_at DESC, c.chain_id DESC
 LIMIT $1 OFFSET $2

-- name: cancel
-- counts as: UPDATE task_chains
-- The status of the chain now, and whether this cancelled it; no row when it is unknown.
SELECT c.status, c.cancelled FROM cancel_chain($1) AS c
