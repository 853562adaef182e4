-- One view for each database family: the numbers that /metrics shows, by name.
-- Several of them agree with each other when they are read in one REPEATABLE READ transaction.

CREATE VIEW metrics.ains_tasks_created_total AS
    SELECT s.label_1 AS task_type, s.label_2 AS client_id, s.n AS value
      FROM metrics.series AS s WHERE s.family = 'ains_tasks_created_total';
COMMENT ON VIEW metrics.ains_tasks_created_total IS 'Counter: tasks accepted, from any door.';
COMMENT ON COLUMN metrics.ains_tasks_created_total.task_type IS 'Kind of work.';
COMMENT ON COLUMN metrics.ains_tasks_created_total.client_id IS 'Who submitted it.';
COMMENT ON COLUMN metrics.ains_tasks_created_total.value IS 'The value.';

CREATE VIEW metrics.ains_tasks_completed_total AS
    SELECT s.label_1 AS task_type, s.label_2 AS agent_id, s.n AS value
      FROM metrics.series AS s WHERE s.family = 'ains_tasks_completed_total';
COMMENT ON VIEW metrics.ains_tasks_completed_total IS 'Counter: tasks that reached COMPLETED.';
COMMENT ON COLUMN metrics.ains_tasks_completed_total.task_type IS 'Kind of work.';
COMMENT ON COLUMN metrics.ains_tasks_completed_total.agent_id IS 'The agent, empty when there was none.';
COMMENT ON COLUMN metrics.ains_tasks_completed_total.value IS 'The value.';

CREATE VIEW metrics.ains_tasks_failed_total AS
    SELECT s.label_1 AS task_type, s.label_2 AS failure_reason, s.n AS value
      FROM metrics.series AS s WHERE s.family = 'ains_tasks_failed_total';
COMMENT ON VIEW metrics.ains_tasks_failed_total IS 'Counter: tasks that reached FAILED for good; a retried attempt is not a failed task.';
COMMENT ON COLUMN metrics.ains_tasks_failed_total.task_type IS 'Kind of work.';
COMMENT ON COLUMN metrics.ains_tasks_failed_total.failure_reason IS 'Code of the failure.';
COMMENT ON COLUMN metrics.ains_tasks_failed_total.value IS 'The value.';

CREATE VIEW metrics.ains_tasks_cancelled_total AS
    SELECT s.label_1 AS task_type, s.n AS value
      FROM metrics.series AS s WHERE s.family = 'ains_tasks_cancelled_total';
COMMENT ON VIEW metrics.ains_tasks_cancelled_total IS 'Counter: tasks that reached CANCELLED, and live tasks that were deleted.';
COMMENT ON COLUMN metrics.ains_tasks_cancelled_total.task_type IS 'Kind of work.';
COMMENT ON COLUMN metrics.ains_tasks_cancelled_total.value IS 'The value.';

CREATE VIEW metrics.ains_tasks_reopened_total AS
    SELECT s.label_1 AS task_type, s.n AS value
      FROM metrics.series AS s WHERE s.family = 'ains_tasks_reopened_total';
COMMENT ON VIEW metrics.ains_tasks_reopened_total IS 'Counter: tasks taken from an end state back to PENDING.';
COMMENT ON COLUMN metrics.ains_tasks_reopened_total.task_type IS 'Kind of work.';
COMMENT ON COLUMN metrics.ains_tasks_reopened_total.value IS 'The value.';

CREATE VIEW metrics.ains_task_retries_total AS
    SELECT s.label_1 AS task_type, s.label_2 AS retry_count, s.n AS value
      FROM metrics.series AS s WHERE s.family = 'ains_task_retries_total';
COMMENT ON VIEW metrics.ains_task_retries_total IS 'Counter: retries scheduled, by the ordinal of the retry.';
COMMENT ON COLUMN metrics.ains_task_retries_total.task_type IS 'Kind of work.';
COMMENT ON COLUMN metrics.ains_task_retries_total.retry_count IS 'Ordinal of the retry, from 1.';
COMMENT ON COLUMN metrics.ains_task_retries_total.value IS 'The value.';

CREATE VIEW metrics.ains_task_timeouts_total AS
    SELECT s.label_1 AS task_type, s.n AS value
      FROM metrics.series AS s WHERE s.family = 'ains_task_timeouts_total';
COMMENT ON VIEW metrics.ains_task_timeouts_total IS 'Counter: attempts ended by their timeout.';
COMMENT ON COLUMN metrics.ains_task_timeouts_total.task_type IS 'Kind of work.';
COMMENT ON COLUMN metrics.ains_task_timeouts_total.value IS 'The value.';

CREATE VIEW metrics.ains_agent_tasks_failed_total AS
    SELECT s.label_1 AS agent_id, s.n AS value
      FROM metrics.series AS s WHERE s.family = 'ains_agent_tasks_failed_total';
COMMENT ON VIEW metrics.ains_agent_tasks_failed_total IS 'Counter: tasks FAILED for good whose last attempt was this agent''s.';
COMMENT ON COLUMN metrics.ains_agent_tasks_failed_total.agent_id IS 'The agent, empty when there was none.';
COMMENT ON COLUMN metrics.ains_agent_tasks_failed_total.value IS 'The value.';

CREATE VIEW metrics.ains_agent_tasks_completed_total AS
    SELECT s.label_2 AS agent_id, sum(s.n)::bigint AS value
      FROM metrics.series AS s WHERE s.family = 'ains_tasks_completed_total' AND s.label_2 <> '' GROUP BY 1;
COMMENT ON VIEW metrics.ains_agent_tasks_completed_total IS 'Counter: tasks COMPLETED by this agent.';
COMMENT ON COLUMN metrics.ains_agent_tasks_completed_total.agent_id IS 'The agent, empty when there was none.';
COMMENT ON COLUMN metrics.ains_agent_tasks_completed_total.value IS 'The value.';

CREATE VIEW metrics.ains_task_duration_seconds_sum_count AS
    SELECT s.label_1 AS task_type, s.label_2 AS status, sum(s.n)::bigint AS count, sum(s.sum_us) / 1000000.0 AS sum_seconds
      FROM metrics.series AS s WHERE s.family = 'ains_task_duration_seconds' GROUP BY 1, 2;
COMMENT ON VIEW metrics.ains_task_duration_seconds_sum_count IS 'Histogram: execution time of the final attempt, started to finished. Observations and their sum.';
COMMENT ON COLUMN metrics.ains_task_duration_seconds_sum_count.task_type IS 'Kind of work.';
COMMENT ON COLUMN metrics.ains_task_duration_seconds_sum_count.status IS 'Status, upper case as in the API.';
COMMENT ON COLUMN metrics.ains_task_duration_seconds_sum_count.count IS 'Number of observations.';
COMMENT ON COLUMN metrics.ains_task_duration_seconds_sum_count.sum_seconds IS 'Sum of the observed values in seconds.';

CREATE VIEW metrics.ains_task_duration_seconds AS
    SELECT s.label_1 AS task_type, s.label_2 AS status, b.le,
           coalesce(sum(s.n) FILTER (WHERE s.bucket <= b.bucket), 0)::bigint AS value
      FROM metrics.series AS s
     CROSS JOIN (
           SELECT (u.ordinality - 1)::integer AS bucket, trim_scale(u.bound / 1000000.0)::text || CASE WHEN u.bound % 1000000 = 0 THEN '.0' ELSE '' END AS le
             FROM unnest(metrics.bounds('ains_task_duration_seconds')) WITH ORDINALITY AS u (bound, ordinality)
            UNION ALL
           SELECT cardinality(metrics.bounds('ains_task_duration_seconds')), '+Inf'
           ) AS b
     WHERE s.family = 'ains_task_duration_seconds'
     GROUP BY s.label_1, s.label_2, b.bucket, b.le
     ORDER BY s.label_1, s.label_2, b.bucket;
COMMENT ON VIEW metrics.ains_task_duration_seconds IS 'Histogram: execution time of the final attempt, started to finished. Cumulative buckets.';
COMMENT ON COLUMN metrics.ains_task_duration_seconds.task_type IS 'Kind of work.';
COMMENT ON COLUMN metrics.ains_task_duration_seconds.status IS 'Status, upper case as in the API.';
COMMENT ON COLUMN metrics.ains_task_duration_seconds.le IS 'Upper bound of the bucket in seconds, inclusive.';
COMMENT ON COLUMN metrics.ains_task_duration_seconds.value IS 'Observations not above le.';

CREATE VIEW metrics.ains_task_queue_seconds_sum_count AS
    SELECT s.label_1 AS task_type, sum(s.n)::bigint AS count, sum(s.sum_us) / 1000000.0 AS sum_seconds
      FROM metrics.series AS s WHERE s.family = 'ains_task_queue_seconds' GROUP BY 1;
COMMENT ON VIEW metrics.ains_task_queue_seconds_sum_count IS 'Histogram: created (or made retryable) to assigned. Observations and their sum.';
COMMENT ON COLUMN metrics.ains_task_queue_seconds_sum_count.task_type IS 'Kind of work.';
COMMENT ON COLUMN metrics.ains_task_queue_seconds_sum_count.count IS 'Number of observations.';
COMMENT ON COLUMN metrics.ains_task_queue_seconds_sum_count.sum_seconds IS 'Sum of the observed values in seconds.';

CREATE VIEW metrics.ains_task_queue_seconds AS
    SELECT s.label_1 AS task_type, b.le,
           coalesce(sum(s.n) FILTER (WHERE s.bucket <= b.bucket), 0)::bigint AS value
      FROM metrics.series AS s
     CROSS JOIN (
           SELECT (u.ordinality - 1)::integer AS bucket, trim_scale(u.bound / 1000000.0)::text || CASE WHEN u.bound % 1000000 = 0 THEN '.0' ELSE '' END AS le
             FROM unnest(metrics.bounds('ains_task_queue_seconds')) WITH ORDINALITY AS u (bound, ordinality)
            UNION ALL
           SELECT cardinality(metrics.bounds('ains_task_queue_seconds')), '+Inf'
           ) AS b
     WHERE s.family = 'ains_task_queue_seconds'
     GROUP BY s.label_1, b.bucket, b.le
     ORDER BY s.label_1, b.bucket;
COMMENT ON VIEW metrics.ains_task_queue_seconds IS 'Histogram: created (or made retryable) to assigned. Cumulative buckets.';
COMMENT ON COLUMN metrics.ains_task_queue_seconds.task_type IS 'Kind of work.';
COMMENT ON COLUMN metrics.ains_task_queue_seconds.le IS 'Upper bound of the bucket in seconds, inclusive.';
COMMENT ON COLUMN metrics.ains_task_queue_seconds.value IS 'Observations not above le.';

CREATE VIEW metrics.ains_tasks_in_queue AS
    SELECT p.priority::text AS priority, coalesce(sum(s.n), 0)::bigint AS value
      FROM generate_series(1, 10) AS p (priority)
      LEFT JOIN metrics.series AS s ON s.family = 'ains_tasks_in_queue' AND s.label_1 = p.priority::text
     GROUP BY p.priority ORDER BY p.priority;
COMMENT ON VIEW metrics.ains_tasks_in_queue IS 'Gauge: tasks PENDING now.';
COMMENT ON COLUMN metrics.ains_tasks_in_queue.priority IS 'Priority, 1 to 10.';
COMMENT ON COLUMN metrics.ains_tasks_in_queue.value IS 'The value.';

CREATE VIEW metrics.ains_tasks_in_flight AS
    SELECT f.status, coalesce(sum(s.n), 0)::bigint AS value
      FROM (VALUES ('ASSIGNED'), ('ACTIVE')) AS f (status)
      LEFT JOIN metrics.series AS s ON s.family = 'ains_tasks_in_flight' AND s.label_1 = f.status
     GROUP BY f.status;
COMMENT ON VIEW metrics.ains_tasks_in_flight IS 'Gauge: tasks ASSIGNED or ACTIVE now.';
COMMENT ON COLUMN metrics.ains_tasks_in_flight.status IS 'Status, upper case as in the API.';
COMMENT ON COLUMN metrics.ains_tasks_in_flight.value IS 'The value.';

CREATE VIEW metrics.ains_tasks_blocked AS
    SELECT coalesce(sum(s.n), 0)::bigint AS value FROM metrics.series AS s WHERE s.family = 'ains_tasks_blocked';
COMMENT ON VIEW metrics.ains_tasks_blocked IS 'Gauge: PENDING tasks that wait for another task.';
COMMENT ON COLUMN metrics.ains_tasks_blocked.value IS 'The value.';

CREATE VIEW metrics.ains_task_oldest_pending_timestamp_seconds AS
    SELECT extract(epoch FROM min(t.created_at))::double precision AS value
      FROM ((SELECT r.created_at FROM public.tasks AS r
              WHERE r.status = 'PENDING' AND NOT r.is_blocked AND r.next_retry_at IS NULL
              ORDER BY r.created_at LIMIT 1)
             UNION ALL
            -- Retries that have fallen due and wait for the worker to say so: few.
            SELECT d.created_at FROM public.tasks AS d
             WHERE d.status = 'PENDING' AND NOT d.is_blocked AND d.next_retry_at <= now()) AS t
    HAVING count(*) > 0;
COMMENT ON VIEW metrics.ains_task_oldest_pending_timestamp_seconds IS 'Gauge: when the oldest task was created that could run now; no row when there is none.';
COMMENT ON COLUMN metrics.ains_task_oldest_pending_timestamp_seconds.value IS 'Unix time in seconds.';

-- One pass over the agents for all that is counted of them.
CREATE VIEW metrics.agent_counts AS
    SELECT s.status, coalesce(c.agents, 0) AS agents,
           CASE WHEN s.status IN ('AVAILABLE', 'BUSY') THEN coalesce(c.alive, 0) ELSE 0 END AS active
      FROM (VALUES ('REGISTERED'), ('AVAILABLE'), ('BUSY'), ('INACTIVE'), ('SUSPENDED')) AS s (status)
      -- Grouped before it is joined: a third less to do.
      LEFT JOIN (SELECT a.status, count(*) AS agents,
                        count(*) FILTER (WHERE a.last_heartbeat > now() - (SELECT g.agent_ttl FROM metrics.settings AS g)) AS alive
                   FROM public.agents AS a
                  GROUP BY a.status) AS c ON c.status = s.status;
COMMENT ON VIEW metrics.agent_counts IS 'Agents by status now, every status present.';
COMMENT ON COLUMN metrics.agent_counts.status IS 'Status, upper case as in the API.';
COMMENT ON COLUMN metrics.agent_counts.agents IS 'How many have it.';
COMMENT ON COLUMN metrics.agent_counts.active IS 'How many of those have a heartbeat younger than AINS_AGENT_TTL.';

CREATE VIEW metrics.ains_agents_total AS
    SELECT sum(c.agents)::bigint AS value FROM metrics.agent_counts AS c;
COMMENT ON VIEW metrics.ains_agents_total IS 'Gauge: registered agents.';
COMMENT ON COLUMN metrics.ains_agents_total.value IS 'The value.';

CREATE VIEW metrics.ains_agents_active AS
    SELECT sum(c.active)::bigint AS value FROM metrics.agent_counts AS c;
COMMENT ON VIEW metrics.ains_agents_active IS 'Gauge: agents AVAILABLE or BUSY whose last heartbeat is younger than AINS_AGENT_TTL.';
COMMENT ON COLUMN metrics.ains_agents_active.value IS 'The value.';

CREATE VIEW metrics.ains_agents_by_status AS
    SELECT c.status, c.agents AS value FROM metrics.agent_counts AS c;
COMMENT ON VIEW metrics.ains_agents_by_status IS 'Gauge: agents by status now, every status present.';
COMMENT ON COLUMN metrics.ains_agents_by_status.status IS 'Status, upper case as in the API.';
COMMENT ON COLUMN metrics.ains_agents_by_status.value IS 'The value.';

CREATE VIEW metrics.ains_agent_trust_score AS
    SELECT a.agent_id, a.display_name, a.trust_score AS value
      FROM public.agents AS a
     WHERE NOT (SELECT g.closed FROM metrics.label_guards AS g WHERE g.label = 'agent_id')
     UNION ALL
    SELECT a.agent_id, a.display_name, a.trust_score
      FROM public.agents AS a
      JOIN metrics.label_values AS v ON v.label = 'agent_id' AND v.value = a.agent_id AND v.shown
     WHERE (SELECT g.closed FROM metrics.label_guards AS g WHERE g.label = 'agent_id')
     UNION ALL
    SELECT 'other', 'other', avg(a.trust_score)
      FROM public.agents AS a
     WHERE (SELECT g.closed FROM metrics.label_guards AS g WHERE g.label = 'agent_id')
       AND NOT EXISTS (SELECT FROM metrics.label_values AS v WHERE v.label = 'agent_id' AND v.value = a.agent_id AND v.shown)
    HAVING count(*) > 0;
COMMENT ON VIEW metrics.ains_agent_trust_score IS
    'Gauge: current trust of every agent, 0 to 1. When agent_id has reached its limit, other is the mean of the rest.';
COMMENT ON COLUMN metrics.ains_agent_trust_score.agent_id IS 'The agent.';
COMMENT ON COLUMN metrics.ains_agent_trust_score.display_name IS 'The agent''s name for people.';
COMMENT ON COLUMN metrics.ains_agent_trust_score.value IS 'The value.';

-- The columns that the building blocks share.
COMMENT ON TABLE public.ains_schema_version IS 'The migration that this database is at; kept by alembic.';
COMMENT ON COLUMN public.ains_schema_version.version_num IS 'Revision, as in alembic/versions.';
