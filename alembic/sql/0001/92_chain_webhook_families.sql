-- One view for each family of chains and webhooks, see 90_task_families.sql.

CREATE VIEW metrics.ains_chains_total AS
    SELECT k.status, coalesce(sum(s.n), 0)::bigint AS value
      FROM (VALUES ('PENDING'), ('RUNNING'), ('COMPLETED'), ('FAILED'), ('CANCELLED')) AS k (status)
      LEFT JOIN metrics.series AS s ON s.family = 'ains_chains_total' AND s.label_1 = k.status
     GROUP BY k.status;
COMMENT ON VIEW metrics.ains_chains_total IS 'Counter: chains that have entered this status; PENDING are all that were created.';
COMMENT ON COLUMN metrics.ains_chains_total.status IS 'Status of the chain.';
COMMENT ON COLUMN metrics.ains_chains_total.value IS 'The value.';

CREATE VIEW metrics.ains_chain_steps_total AS
    SELECT k.step_status, coalesce(sum(s.n), 0)::bigint AS value
      FROM (VALUES ('RUNNING'), ('COMPLETED'), ('FAILED'), ('CANCELLED')) AS k (step_status)
      LEFT JOIN metrics.series AS s ON s.family = 'ains_chain_steps_total' AND s.label_1 = k.step_status
     GROUP BY k.step_status;
COMMENT ON VIEW metrics.ains_chain_steps_total IS 'Counter: steps that have entered this status.';
COMMENT ON COLUMN metrics.ains_chain_steps_total.step_status IS 'Status of the step.';
COMMENT ON COLUMN metrics.ains_chain_steps_total.value IS 'The value.';

CREATE VIEW metrics.ains_chain_duration_seconds_sum_count AS
    SELECT k.chain_status, coalesce(sum(s.n), 0)::bigint AS count, coalesce(sum(s.sum_us), 0) / 1000000.0 AS sum_seconds
      FROM (VALUES ('COMPLETED'), ('FAILED'), ('CANCELLED')) AS k (chain_status)
      LEFT JOIN metrics.series AS s ON s.family = 'ains_chain_duration_seconds' AND s.label_1 = k.chain_status
     GROUP BY k.chain_status;
COMMENT ON VIEW metrics.ains_chain_duration_seconds_sum_count IS 'Histogram: started to finished, by final status. Observations and their sum.';
COMMENT ON COLUMN metrics.ains_chain_duration_seconds_sum_count.chain_status IS 'Final status of the chain.';
COMMENT ON COLUMN metrics.ains_chain_duration_seconds_sum_count.count IS 'Number of observations.';
COMMENT ON COLUMN metrics.ains_chain_duration_seconds_sum_count.sum_seconds IS 'Sum of the observed values in seconds.';

CREATE VIEW metrics.ains_chain_duration_seconds AS
    SELECT k.chain_status, b.le,
           coalesce(sum(s.n) FILTER (WHERE s.bucket <= b.bucket), 0)::bigint AS value
      FROM (VALUES ('COMPLETED'), ('FAILED'), ('CANCELLED')) AS k (chain_status)
     CROSS JOIN (
           SELECT (u.ordinality - 1)::integer AS bucket, trim_scale(u.bound / 1000000.0)::text || CASE WHEN u.bound % 1000000 = 0 THEN '.0' ELSE '' END AS le
             FROM unnest(metrics.bounds('ains_chain_duration_seconds')) WITH ORDINALITY AS u (bound, ordinality)
            UNION ALL
           SELECT cardinality(metrics.bounds('ains_chain_duration_seconds')), '+Inf'
           ) AS b
      LEFT JOIN metrics.series AS s ON s.family = 'ains_chain_duration_seconds' AND s.label_1 = k.chain_status
     GROUP BY k.chain_status, b.bucket, b.le
     ORDER BY k.chain_status, b.bucket;
COMMENT ON VIEW metrics.ains_chain_duration_seconds IS 'Histogram: started to finished, by final status. Cumulative buckets.';
COMMENT ON COLUMN metrics.ains_chain_duration_seconds.chain_status IS 'Final status of the chain.';
COMMENT ON COLUMN metrics.ains_chain_duration_seconds.le IS 'Upper bound of the bucket in seconds, inclusive.';
COMMENT ON COLUMN metrics.ains_chain_duration_seconds.value IS 'Observations not above le.';

CREATE VIEW metrics.ains_chains_active AS
    SELECT coalesce(sum(s.n), 0)::bigint AS value FROM metrics.series AS s WHERE s.family = 'ains_chains_active';
COMMENT ON VIEW metrics.ains_chains_active IS 'Gauge: chains PENDING or RUNNING now.';
COMMENT ON COLUMN metrics.ains_chains_active.value IS 'The value.';

CREATE VIEW metrics.ains_webhook_deliveries_total AS
    SELECT s.label_1 AS event_type, s.label_2 AS status, s.n AS value
      FROM metrics.series AS s WHERE s.family = 'ains_webhook_deliveries_total';
COMMENT ON VIEW metrics.ains_webhook_deliveries_total IS 'Counter: deliveries that reached their end.';
COMMENT ON COLUMN metrics.ains_webhook_deliveries_total.event_type IS 'Event type.';
COMMENT ON COLUMN metrics.ains_webhook_deliveries_total.status IS 'success or failed.';
COMMENT ON COLUMN metrics.ains_webhook_deliveries_total.value IS 'The value.';

CREATE VIEW metrics.ains_webhook_attempts_total AS
    SELECT s.label_1 AS event_type, s.label_2 AS outcome, s.n AS value
      FROM metrics.series AS s WHERE s.family = 'ains_webhook_attempts_total';
COMMENT ON VIEW metrics.ains_webhook_attempts_total IS 'Counter: HTTP attempts.';
COMMENT ON COLUMN metrics.ains_webhook_attempts_total.event_type IS 'Event type.';
COMMENT ON COLUMN metrics.ains_webhook_attempts_total.outcome IS 'success, http_error, timeout, connect_error or blocked.';
COMMENT ON COLUMN metrics.ains_webhook_attempts_total.value IS 'The value.';

CREATE VIEW metrics.ains_webhook_delivery_duration_seconds_sum_count AS
    SELECT s.label_1 AS event_type, sum(s.n)::bigint AS count, sum(s.sum_us) / 1000000.0 AS sum_seconds
      FROM metrics.series AS s WHERE s.family = 'ains_webhook_delivery_duration_seconds' GROUP BY 1;
COMMENT ON VIEW metrics.ains_webhook_delivery_duration_seconds_sum_count IS 'Histogram: time of each HTTP attempt, request sent to response or error. Observations and their sum.';
COMMENT ON COLUMN metrics.ains_webhook_delivery_duration_seconds_sum_count.event_type IS 'Event type.';
COMMENT ON COLUMN metrics.ains_webhook_delivery_duration_seconds_sum_count.count IS 'Number of observations.';
COMMENT ON COLUMN metrics.ains_webhook_delivery_duration_seconds_sum_count.sum_seconds IS 'Sum of the observed values in seconds.';

CREATE VIEW metrics.ains_webhook_delivery_duration_seconds AS
    SELECT s.label_1 AS event_type, b.le,
           coalesce(sum(s.n) FILTER (WHERE s.bucket <= b.bucket), 0)::bigint AS value
      FROM metrics.series AS s
     CROSS JOIN (
           SELECT (u.ordinality - 1)::integer AS bucket, trim_scale(u.bound / 1000000.0)::text || CASE WHEN u.bound % 1000000 = 0 THEN '.0' ELSE '' END AS le
             FROM unnest(metrics.bounds('ains_webhook_delivery_duration_seconds')) WITH ORDINALITY AS u (bound, ordinality)
            UNION ALL
           SELECT cardinality(metrics.bounds('ains_webhook_delivery_duration_seconds')), '+Inf'
           ) AS b
     WHERE s.family = 'ains_webhook_delivery_duration_seconds'
     GROUP BY s.label_1, b.bucket, b.le
     ORDER BY s.label_1, b.bucket;
COMMENT ON VIEW metrics.ains_webhook_delivery_duration_seconds IS 'Histogram: time of each HTTP attempt, request sent to response or error. Cumulative buckets.';
COMMENT ON COLUMN metrics.ains_webhook_delivery_duration_seconds.event_type IS 'Event type.';
COMMENT ON COLUMN metrics.ains_webhook_delivery_duration_seconds.le IS 'Upper bound of the bucket in seconds, inclusive.';
COMMENT ON COLUMN metrics.ains_webhook_delivery_duration_seconds.value IS 'Observations not above le.';

CREATE VIEW metrics.ains_webhook_deliveries_pending AS
    SELECT coalesce(sum(s.n), 0)::bigint AS value FROM metrics.series AS s WHERE s.family = 'ains_webhook_deliveries_pending';
COMMENT ON VIEW metrics.ains_webhook_deliveries_pending IS 'Gauge: deliveries waiting for an attempt now.';
COMMENT ON COLUMN metrics.ains_webhook_deliveries_pending.value IS 'The value.';
