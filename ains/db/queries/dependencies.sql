-- Which task waits for which.

-- name: dependencies
-- counts as: SELECT task_dependencies
-- One row for each task that $1 depends on, one of NULLs when there is none, no row when it is unknown.
SELECT t.status, t.status = 'PENDING' AND t.is_blocked AS is_blocked,
       d.depends_on, coalesce(u.status, 'COMPLETED') AS dependency_status
  FROM tasks AS t
  LEFT JOIN task_dependencies AS d ON d.task_id = t.task_id
  LEFT JOIN tasks AS u ON u.task_id = d.depends_on
 WHERE t.task_id = $1
 ORDER BY d.depends_on

-- name: dependents
-- counts as: SELECT task_dependencies
-- One row for each task that depends on $1, one of NULLs when there is none, no row when it is unknown.
SELECT d.task_id, u.task_type, u.status, u.status = 'PENDING' AND u.is_blocked AS is_blocked
  FROM tasks AS t
  LEFT JOIN task_dependencies AS d ON d.depends_on = t.task_id
  LEFT JOIN tasks AS u ON u.task_id = d.task_id
 WHERE t.task_id = $1
 ORDER BY u.created_at, d.task_id
