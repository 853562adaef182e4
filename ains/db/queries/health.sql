-- name: overview
-- What /health/detail shows, in one snapshot. Reads sums of the ledger, never counts tasks.
-- counts as: SELECT tasks
WITH sums AS MATERIALIZED (
    SELECT s.family, CASE WHEN s.family = 'ains_tasks_in_flight' THEN s.label_1 ELSE '' END AS label,
           sum(s.n)::bigint AS n
      FROM metrics.series AS s
     WHERE s.family IN ('ains_tasks_in_queue', 'ains_tasks_blocked', 'ains_tasks_in_flight',
                        'ains_tasks_completed_total', 'ains_tasks_failed_total',
                        'ains_tasks_cancelled_total')
     GROUP BY 1, 2
)
SELECT (SELECT json_object_agg(lower(v.status), v.value) FROM metrics.ains_agents_by_status AS v)::text AS agents,
       (SELECT v.value FROM metrics.ains_agents_active AS v) AS agents_active,
       coalesce((SELECT sums.n FROM sums WHERE family = 'ains_tasks_in_queue'), 0) AS pending,
       coalesce((SELECT sums.n FROM sums WHERE family = 'ains_tasks_blocked'), 0) AS blocked,
       coalesce((SELECT sums.n FROM sums WHERE label = 'ASSIGNED'), 0) AS assigned,
       coalesce((SELECT sums.n FROM sums WHERE label = 'ACTIVE'), 0) AS active,
       coalesce((SELECT sums.n FROM sums WHERE family = 'ains_tasks_completed_total'), 0) AS completed,
       coalesce((SELECT sums.n FROM sums WHERE family = 'ains_tasks_failed_total'), 0) AS failed,
       coalesce((SELECT sums.n FROM sums WHERE family = 'ains_tasks_cancelled_total'), 0) AS cancelled,
       (SELECT greatest(0, extract(epoch FROM now()) - v.value)::double precision
          FROM metrics.ains_task_oldest_pending_timestamp_seconds AS v) AS oldest_pending_seconds,
       (SELECT v.value FROM metrics.ains_webhook_deliveries_pending AS v) AS deliveries_pending,
       l.open_task_events AS open_events,
       greatest(0, extract(epoch FROM now() - l.folded_at))::double precision AS folded_seconds_ago
  FROM metrics.ledger_state AS l
