-- The families of chains and webhooks.

CREATE OR REPLACE FUNCTION metrics.bounds(family text) RETURNS bigint[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE family
        WHEN 'ains_task_duration_seconds'
        THEN '{1000000,5000000,10000000,30000000,60000000,120000000,300000000,600000000,1800000000,3600000000}'::bigint[]
        WHEN 'ains_task_queue_seconds'
        THEN '{5000,10000,50000,100000,500000,1000000,5000000,10000000,30000000,60000000,300000000}'::bigint[]
        WHEN 'ains_chain_duration_seconds'
        THEN '{10000000,30000000,60000000,120000000,300000000,600000000,1800000000,3600000000}'::bigint[]
        WHEN 'ains_webhook_delivery_duration_seconds'
        THEN '{100000,500000,1000000,2000000,5000000,10000000}'::bigint[]
    END
$$;

CREATE FUNCTION metrics.chain_contributions(facts public.chain_events_open[])
RETURNS TABLE (family text, label_1 text, label_2 text, bucket integer, n bigint, sum_us bigint, first_at timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE
SET jit = off AS $$
    WITH e AS MATERIALIZED (SELECT * FROM unnest(facts))
    SELECT 'ains_chains_total', e.to_status, '', 0, count(*), 0::bigint, min(e.at)
      FROM e WHERE e.subject = 'chain' GROUP BY 2
    UNION ALL
    SELECT 'ains_chain_steps_total', e.to_status, '', 0, count(*), 0, min(e.at)
      FROM e WHERE e.subject = 'step' GROUP BY 2
    UNION ALL
    SELECT 'ains_chain_duration_seconds', e.to_status, '',
           metrics.bucket('ains_chain_duration_seconds', e.duration_us), count(*), sum(e.duration_us)::bigint, min(e.at)
      FROM e WHERE e.subject = 'chain' AND e.duration_us IS NOT NULL GROUP BY 2, 4
    UNION ALL
    SELECT 'ains_chains_active', '', '', 0,
           sum((e.to_status IN ('PENDING', 'RUNNING'))::integer - (e.from_status IN ('PENDING', 'RUNNING'))::integer)::bigint,
           0, min(e.at)
      FROM e WHERE e.subject = 'chain' HAVING count(*) > 0
$$;
COMMENT ON FUNCTION metrics.chain_contributions(public.chain_events_open[]) IS
    'What these facts add to every chain family: THE definition, used by fold, scrape, views and verification.';

CREATE FUNCTION metrics.webhook_contributions(facts public.webhook_events_open[])
RETURNS TABLE (family text, label_1 text, label_2 text, bucket integer, n bigint, sum_us bigint, first_at timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE
SET jit = off AS $$
    WITH e AS MATERIALIZED (SELECT * FROM unnest(facts))
    SELECT 'ains_webhook_deliveries_total', e.event_type, e.outcome, 0, count(*), 0::bigint, min(e.at)
      FROM e WHERE e.event = 'ended' GROUP BY 2, 3
    UNION ALL
    SELECT 'ains_webhook_attempts_total', e.event_type, e.outcome, 0, count(*), 0, min(e.at)
      FROM e WHERE e.event = 'attempted' GROUP BY 2, 3
    UNION ALL
    SELECT 'ains_webhook_delivery_duration_seconds', e.event_type, '',
           metrics.bucket('ains_webhook_delivery_duration_seconds', e.duration_us), count(*), sum(e.duration_us)::bigint, min(e.at)
      FROM e WHERE e.event = 'attempted' GROUP BY 2, 4
    UNION ALL
    SELECT 'ains_webhook_deliveries_pending', '', '', 0, sum(e.pending_change)::bigint, 0, min(e.at)
      FROM e WHERE e.pending_change <> 0 HAVING count(*) > 0
$$;
COMMENT ON FUNCTION metrics.webhook_contributions(public.webhook_events_open[]) IS
    'What these facts add to every webhook family: THE definition, used by fold, scrape, views and verification.';

CREATE VIEW metrics.chain_tail AS
    SELECT c.* FROM metrics.chain_contributions((SELECT array_agg(o) FROM public.chain_events_open AS o)) AS c;
COMMENT ON VIEW metrics.chain_tail IS 'What the chain facts that are not folded yet add to metrics.totals.';
CREATE VIEW metrics.webhook_tail AS
    SELECT c.* FROM metrics.webhook_contributions((SELECT array_agg(o) FROM public.webhook_events_open AS o)) AS c;
COMMENT ON VIEW metrics.webhook_tail IS 'What the webhook facts that are not folded yet add to metrics.totals.';

CREATE OR REPLACE VIEW metrics.ledger_state AS
    SELECT s.generation, s.folded_at, (SELECT count(*) FROM public.task_events_open) AS open_task_events,
           (SELECT count(*) FROM public.chain_events_open) AS open_chain_events,
           (SELECT count(*) FROM public.webhook_events_open) AS open_webhook_events
      FROM metrics.fold_state AS s;
COMMENT ON COLUMN metrics.ledger_state.open_chain_events IS 'Chain facts that wait for the next fold.';
COMMENT ON COLUMN metrics.ledger_state.open_webhook_events IS 'Webhook facts that wait for the next fold.';

CREATE OR REPLACE VIEW metrics.series AS
    SELECT s.family, s.label_1, s.label_2, s.bucket, sum(s.n)::bigint AS n, sum(s.sum_us)::bigint AS sum_us,
           min(s.first_at) AS first_at
      FROM (SELECT t.family, t.label_1, t.label_2, t.bucket, t.n, t.sum_us, t.first_at FROM metrics.totals AS t
            UNION ALL
            SELECT * FROM metrics.task_tail
            UNION ALL
            SELECT * FROM metrics.chain_tail
            UNION ALL
            SELECT * FROM metrics.webhook_tail) AS s
     GROUP BY 1, 2, 3, 4;

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

COMMENT ON COLUMN metrics.chain_tail.family IS 'Name of the metric family.';
COMMENT ON COLUMN metrics.chain_tail.label_1 IS 'Value of its first label, empty when it has none.';
COMMENT ON COLUMN metrics.chain_tail.label_2 IS 'Value of its second label, empty when it has none.';
COMMENT ON COLUMN metrics.chain_tail.bucket IS 'Bucket of a histogram, not cumulative; else 0.';
COMMENT ON COLUMN metrics.chain_tail.n IS 'Value, or observations in this bucket.';
COMMENT ON COLUMN metrics.chain_tail.sum_us IS 'Sum of the observed values in microseconds.';
COMMENT ON COLUMN metrics.chain_tail.first_at IS 'When the first of these facts happened.';
COMMENT ON COLUMN metrics.webhook_tail.family IS 'Name of the metric family.';
COMMENT ON COLUMN metrics.webhook_tail.label_1 IS 'Value of its first label, empty when it has none.';
COMMENT ON COLUMN metrics.webhook_tail.label_2 IS 'Value of its second label, empty when it has none.';
COMMENT ON COLUMN metrics.webhook_tail.bucket IS 'Bucket of a histogram, not cumulative; else 0.';
COMMENT ON COLUMN metrics.webhook_tail.n IS 'Value, or observations in this bucket.';
COMMENT ON COLUMN metrics.webhook_tail.sum_us IS 'Sum of the observed values in microseconds.';
COMMENT ON COLUMN metrics.webhook_tail.first_at IS 'When the first of these facts happened.';
COMMENT ON COLUMN public.chain_events_open.event_id IS 'Orders facts of the same instant; gaps are normal.';
COMMENT ON COLUMN public.chain_events_open.at IS 'When the transaction that did it began.';
COMMENT ON COLUMN public.chain_events_open.subject IS 'chain or step.';
COMMENT ON COLUMN public.chain_events_open.chain_id IS 'The chain; its row may be deleted by now.';
COMMENT ON COLUMN public.chain_events_open.step_index IS 'The step, NULL for the chain itself.';
COMMENT ON COLUMN public.chain_events_open.from_status IS 'Status before, empty for a new chain.';
COMMENT ON COLUMN public.chain_events_open.to_status IS 'Status after.';
COMMENT ON COLUMN public.chain_events_open.duration_us IS 'Started to finished in microseconds, when this ended the chain.';
COMMENT ON COLUMN public.chain_events_closed.event_id IS 'Orders facts of the same instant; gaps are normal.';
COMMENT ON COLUMN public.chain_events_closed.at IS 'When the transaction that did it began.';
COMMENT ON COLUMN public.chain_events_closed.subject IS 'chain or step.';
COMMENT ON COLUMN public.chain_events_closed.chain_id IS 'The chain; its row may be deleted by now.';
COMMENT ON COLUMN public.chain_events_closed.step_index IS 'The step, NULL for the chain itself.';
COMMENT ON COLUMN public.chain_events_closed.from_status IS 'Status before, empty for a new chain.';
COMMENT ON COLUMN public.chain_events_closed.to_status IS 'Status after.';
COMMENT ON COLUMN public.chain_events_closed.duration_us IS 'Started to finished in microseconds, when this ended the chain.';
COMMENT ON COLUMN public.chain_events.event_id IS 'Orders facts of the same instant; gaps are normal.';
COMMENT ON COLUMN public.chain_events.at IS 'When the transaction that did it began.';
COMMENT ON COLUMN public.chain_events.subject IS 'chain or step.';
COMMENT ON COLUMN public.chain_events.chain_id IS 'The chain; its row may be deleted by now.';
COMMENT ON COLUMN public.chain_events.step_index IS 'The step, NULL for the chain itself.';
COMMENT ON COLUMN public.chain_events.from_status IS 'Status before, empty for a new chain.';
COMMENT ON COLUMN public.chain_events.to_status IS 'Status after.';
COMMENT ON COLUMN public.chain_events.duration_us IS 'Started to finished in microseconds, when this ended the chain.';
COMMENT ON COLUMN public.webhook_events_open.event_id IS 'Orders facts of the same instant; gaps are normal.';
COMMENT ON COLUMN public.webhook_events_open.at IS 'When the transaction that did it began.';
COMMENT ON COLUMN public.webhook_events_open.event IS 'created, attempted, ended, redelivered or deleted.';
COMMENT ON COLUMN public.webhook_events_open.delivery_id IS 'The delivery; its row may be deleted by now.';
COMMENT ON COLUMN public.webhook_events_open.event_type IS 'Label, for example task.completed.';
COMMENT ON COLUMN public.webhook_events_open.outcome IS 'Of an attempt: success, http_error ...; of an end: success or failed.';
COMMENT ON COLUMN public.webhook_events_open.pending_change IS '+1 when it began to wait for an attempt, -1 when it ceased to, else 0.';
COMMENT ON COLUMN public.webhook_events_open.duration_us IS 'Time of the HTTP attempt in microseconds.';
COMMENT ON COLUMN public.webhook_events_closed.event_id IS 'Orders facts of the same instant; gaps are normal.';
COMMENT ON COLUMN public.webhook_events_closed.at IS 'When the transaction that did it began.';
COMMENT ON COLUMN public.webhook_events_closed.event IS 'created, attempted, ended, redelivered or deleted.';
COMMENT ON COLUMN public.webhook_events_closed.delivery_id IS 'The delivery; its row may be deleted by now.';
COMMENT ON COLUMN public.webhook_events_closed.event_type IS 'Label, for example task.completed.';
COMMENT ON COLUMN public.webhook_events_closed.outcome IS 'Of an attempt: success, http_error ...; of an end: success or failed.';
COMMENT ON COLUMN public.webhook_events_closed.pending_change IS '+1 when it began to wait for an attempt, -1 when it ceased to, else 0.';
COMMENT ON COLUMN public.webhook_events_closed.duration_us IS 'Time of the HTTP attempt in microseconds.';
COMMENT ON COLUMN public.webhook_events.event_id IS 'Orders facts of the same instant; gaps are normal.';
COMMENT ON COLUMN public.webhook_events.at IS 'When the transaction that did it began.';
COMMENT ON COLUMN public.webhook_events.event IS 'created, attempted, ended, redelivered or deleted.';
COMMENT ON COLUMN public.webhook_events.delivery_id IS 'The delivery; its row may be deleted by now.';
COMMENT ON COLUMN public.webhook_events.event_type IS 'Label, for example task.completed.';
COMMENT ON COLUMN public.webhook_events.outcome IS 'Of an attempt: success, http_error ...; of an end: success or failed.';
COMMENT ON COLUMN public.webhook_events.pending_change IS '+1 when it began to wait for an attempt, -1 when it ceased to, else 0.';
COMMENT ON COLUMN public.webhook_events.duration_us IS 'Time of the HTTP attempt in microseconds.';

CREATE OR REPLACE FUNCTION metrics.fold(batch integer DEFAULT 10000) RETURNS bigint
LANGUAGE plpgsql
SET jit = off AS $$
DECLARE
    moved bigint := 0;
    next  bigint;
BEGIN
    -- One folder at a time; whoever comes second has nothing to do.
    IF NOT pg_try_advisory_xact_lock(hashtextextended('ains.metrics.fold', 0)) THEN
        RETURN NULL;
    END IF;
    SELECT generation + 1 INTO next FROM metrics.fold_state;
    WITH gone AS (
        DELETE FROM public.task_events_open
         WHERE ctid = ANY (ARRAY(SELECT o.ctid FROM public.task_events_open AS o LIMIT batch))
        RETURNING *
    ),
    closed AS (
        INSERT INTO public.task_events_closed SELECT * FROM gone
    ),
    added AS (
        INSERT INTO metrics.totals AS t (family, label_1, label_2, bucket, n, sum_us, first_at, generation)
        SELECT c.family, c.label_1, c.label_2, c.bucket, c.n, c.sum_us, c.first_at, next
          FROM metrics.task_contributions((SELECT array_agg(ROW (g.*)::public.task_events_open) FROM gone AS g)) AS c
            ON CONFLICT (family, label_1, label_2, bucket) DO UPDATE
           SET n = t.n + excluded.n,
               sum_us = t.sum_us + excluded.sum_us,
               first_at = least(t.first_at, excluded.first_at),
               generation = excluded.generation
    )
    SELECT moved + count(*) INTO moved FROM gone;
    WITH gone AS (
        DELETE FROM public.chain_events_open
         WHERE ctid = ANY (ARRAY(SELECT o.ctid FROM public.chain_events_open AS o LIMIT batch))
        RETURNING *
    ),
    closed AS (
        INSERT INTO public.chain_events_closed SELECT * FROM gone
    ),
    added AS (
        INSERT INTO metrics.totals AS t (family, label_1, label_2, bucket, n, sum_us, first_at, generation)
        SELECT c.family, c.label_1, c.label_2, c.bucket, c.n, c.sum_us, c.first_at, next
          FROM metrics.chain_contributions((SELECT array_agg(ROW (g.*)::public.chain_events_open) FROM gone AS g)) AS c
            ON CONFLICT (family, label_1, label_2, bucket) DO UPDATE
           SET n = t.n + excluded.n,
               sum_us = t.sum_us + excluded.sum_us,
               first_at = least(t.first_at, excluded.first_at),
               generation = excluded.generation
    )
    SELECT moved + count(*) INTO moved FROM gone;
    WITH gone AS (
        DELETE FROM public.webhook_events_open
         WHERE ctid = ANY (ARRAY(SELECT o.ctid FROM public.webhook_events_open AS o LIMIT batch))
        RETURNING *
    ),
    closed AS (
        INSERT INTO public.webhook_events_closed SELECT * FROM gone
    ),
    added AS (
        INSERT INTO metrics.totals AS t (family, label_1, label_2, bucket, n, sum_us, first_at, generation)
        SELECT c.family, c.label_1, c.label_2, c.bucket, c.n, c.sum_us, c.first_at, next
          FROM metrics.webhook_contributions((SELECT array_agg(ROW (g.*)::public.webhook_events_open) FROM gone AS g)) AS c
            ON CONFLICT (family, label_1, label_2, bucket) DO UPDATE
           SET n = t.n + excluded.n,
               sum_us = t.sum_us + excluded.sum_us,
               first_at = least(t.first_at, excluded.first_at),
               generation = excluded.generation
    )
    SELECT moved + count(*) INTO moved FROM gone;
    UPDATE metrics.fold_state AS s
       SET folded_at = clock_timestamp(),
           generation = CASE WHEN moved > 0 THEN next ELSE s.generation END
     WHERE moved > 0 OR s.folded_at < clock_timestamp() - interval '10 seconds' OR s.folded_at > clock_timestamp();
    RETURN moved;
END $$;
COMMENT ON FUNCTION metrics.fold(integer) IS
    'Moves up to batch open facts of each ledger into its closed part and adds them to the totals, in one transaction: a snapshot sees each fact open or in the totals, never both, never neither. Returns the number moved, NULL when another fold is running.';
