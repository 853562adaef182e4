-- name: depth
-- counts as: SELECT totals
-- PENDING tasks by priority, from the ledger's sums: nothing is counted.
SELECT q.priority, q.value FROM metrics.ains_tasks_in_queue AS q ORDER BY q.priority::integer

-- name: workload
-- counts as: SELECT tasks
SELECT t.assigned_agent_id AS agent_id, count(*) AS active_tasks
  FROM tasks AS t
 WHERE t.status IN ('ASSIGNED', 'ACTIVE')
 GROUP BY t.assigned_agent_id
 ORDER BY count(*) DESC, t.assigned_agent_id

-- name: health
-- counts as: SELECT totals
-- Tasks waiting, in flight, and ended since the beginning, from the ledger's sums.
SELECT now() AS timestamp,
       coalesce(sum(s.n) FILTER (WHERE s.family = 'ains_tasks_in_queue'), 0)::bigint AS queue_depth,
       coalesce(sum(s.n) FILTER (WHERE s.family = 'ains_tasks_in_flight' AND s.label_1 = 'ACTIVE'),
                0)::bigint AS active_tasks,
       coalesce(sum(s.n) FILTER (WHERE s.family = 'ains_tasks_in_flight' AND s.label_1 = 'ASSIGNED'),
                0)::bigint AS assigned_tasks,
       coalesce(sum(s.n) FILTER (WHERE s.family = 'ains_tasks_completed_total'), 0)::bigint AS completed_tasks,
       coalesce(sum(s.n) FILTER (WHERE s.family = 'ains_tasks_failed_total'), 0)::bigint AS failed_tasks
  FROM metrics.series AS s
 WHERE s.family IN ('ains_tasks_in_queue', 'ains_tasks_in_flight', 'ains_tasks_completed_total',
                    'ains_tasks_failed_total')
