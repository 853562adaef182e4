-- metrics: what Prometheus and DBAs read. totals + open events = every counter, in one snapshot.

CREATE SCHEMA metrics;
COMMENT ON SCHEMA metrics IS
    'What /metrics shows, for SQL: one view per family (metrics.ains_tasks_created_total ...). metrics.totals holds the sums of the closed part of the ledger.';

CREATE TABLE metrics.totals (
    family      text        NOT NULL,
    label_1     text        NOT NULL DEFAULT '',
    label_2     text        NOT NULL DEFAULT '',
    bucket      integer     NOT NULL DEFAULT 0,
    n           bigint      NOT NULL,
    sum_us      bigint      NOT NULL DEFAULT 0,
    first_at    timestamptz NOT NULL,
    generation  bigint      NOT NULL,
    PRIMARY KEY (family, label_1, label_2, bucket)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

COMMENT ON TABLE metrics.totals IS
    'Sums of all closed ledger facts, one row per series (and per bucket of a histogram). Written only by metrics.fold().';
COMMENT ON COLUMN metrics.totals.family IS 'Name of the metric family.';
COMMENT ON COLUMN metrics.totals.label_1 IS 'Value of its first label, empty when it has none.';
COMMENT ON COLUMN metrics.totals.label_2 IS 'Value of its second label, empty when it has none.';
COMMENT ON COLUMN metrics.totals.bucket IS 'Histograms: number of upper bounds smaller than the observed values. Else 0.';
COMMENT ON COLUMN metrics.totals.n IS 'The value of a counter or gauge; the observations in this bucket alone (not cumulative).';
COMMENT ON COLUMN metrics.totals.sum_us IS 'Histograms: sum of the observed values in microseconds. Integers, since sums of floats may shrink.';
COMMENT ON COLUMN metrics.totals.first_at IS 'When the first fact of this series happened.';
COMMENT ON COLUMN metrics.totals.generation IS 'The fold that last changed this row.';

CREATE TABLE metrics.fold_state (
    only_row    boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    generation  bigint      NOT NULL DEFAULT 0,
    folded_at   timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 10);
INSERT INTO metrics.fold_state DEFAULT VALUES;

COMMENT ON TABLE metrics.fold_state IS 'One row: how often and when metrics.totals last changed.';
COMMENT ON COLUMN metrics.fold_state.only_row IS 'Keeps the table at one row.';
COMMENT ON COLUMN metrics.fold_state.generation IS 'Grows with every fold that moved facts; totals of equal generation are equal.';
COMMENT ON COLUMN metrics.fold_state.folded_at IS 'When the ledger was last folded, or looked at and found empty.';

CREATE TABLE metrics.settings (
    only_row   boolean  PRIMARY KEY DEFAULT true CHECK (only_row),
    agent_ttl  interval NOT NULL DEFAULT interval '60 seconds'
);
INSERT INTO metrics.settings DEFAULT VALUES;

COMMENT ON TABLE metrics.settings IS 'Settings that views need; ains serve writes them when it starts.';
COMMENT ON COLUMN metrics.settings.only_row IS 'Keeps the table at one row.';
COMMENT ON COLUMN metrics.settings.agent_ttl IS 'AINS_AGENT_TTL: an agent whose last heartbeat is older is not active.';

CREATE FUNCTION metrics.bounds(family text) RETURNS bigint[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE family
        WHEN 'ains_task_duration_seconds'
        THEN '{1000000,5000000,10000000,30000000,60000000,120000000,300000000,600000000,1800000000,3600000000}'::bigint[]
        WHEN 'ains_task_queue_seconds'
        THEN '{5000,10000,50000,100000,500000,1000000,5000000,10000000,30000000,60000000,300000000}'::bigint[]
    END
$$;
COMMENT ON FUNCTION metrics.bounds(text) IS 'Finite upper bounds of a histogram''s buckets in microseconds.';

CREATE FUNCTION metrics.bucket(family text, value_us bigint) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT width_bucket(value_us - 1, metrics.bounds(family))
$$;
COMMENT ON FUNCTION metrics.bucket(text, bigint) IS
    'Bucket of a value: the number of upper bounds smaller than it (a bound belongs to its own bucket, as le says).';

-- THE definition of what a fact adds to which family. Fold, scrape, views and verification all use it.
CREATE FUNCTION metrics.task_contributions(facts public.task_events_open[])
RETURNS TABLE (family text, label_1 text, label_2 text, bucket integer, n bigint, sum_us bigint, first_at timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE
SET jit = off AS $$
    WITH e AS MATERIALIZED (SELECT * FROM unnest(facts))
    SELECT 'ains_tasks_created_total', e.task_type, e.client_id, 0, count(*), 0::bigint, min(e.at)
      FROM e WHERE e.event = 'created' GROUP BY 2, 3
    UNION ALL
    SELECT 'ains_tasks_completed_total', e.task_type, e.agent_id, 0, count(*), 0, min(e.at)
      FROM e WHERE e.event = 'completed' GROUP BY 2, 3
    UNION ALL
    SELECT 'ains_tasks_failed_total', e.task_type, e.reason, 0, count(*), 0, min(e.at)
      FROM e WHERE e.event = 'failed' GROUP BY 2, 3
    UNION ALL
    SELECT 'ains_agent_tasks_failed_total', e.agent_id, '', 0, count(*), 0, min(e.at)
      FROM e WHERE e.event = 'failed' AND e.agent_id <> '' GROUP BY 2
    UNION ALL
    SELECT 'ains_tasks_cancelled_total', e.task_type, '', 0, count(*), 0, min(e.at)
      FROM e WHERE e.event = 'cancelled' GROUP BY 2
    UNION ALL
    SELECT 'ains_tasks_reopened_total', e.task_type, '', 0, count(*), 0, min(e.at)
      FROM e WHERE e.event = 'reopened' GROUP BY 2
    UNION ALL
    SELECT 'ains_task_retries_total', e.task_type, e.retry::text, 0, count(*), 0, min(e.at)
      FROM e WHERE e.retry > 0 GROUP BY 2, 3
    UNION ALL
    SELECT 'ains_task_timeouts_total', e.task_type, '', 0, count(*), 0, min(e.at)
      FROM e WHERE e.reason = 'timeout' AND e.from_status IN ('ASSIGNED', 'ACTIVE') GROUP BY 2
    UNION ALL
    SELECT 'ains_task_duration_seconds', e.task_type, e.to_status,
           metrics.bucket('ains_task_duration_seconds', e.duration_us), count(*), sum(e.duration_us)::bigint, min(e.at)
      FROM e WHERE e.duration_us IS NOT NULL GROUP BY 2, 3, 4
    UNION ALL
    SELECT 'ains_task_queue_seconds', e.task_type, '',
           metrics.bucket('ains_task_queue_seconds', e.queue_us), count(*), sum(e.queue_us)::bigint, min(e.at)
      FROM e WHERE e.queue_us IS NOT NULL GROUP BY 2, 4
    UNION ALL
    SELECT 'ains_tasks_in_queue', q.priority::text, '', 0, sum(q.change)::bigint, 0, min(q.at)
      FROM (SELECT e.to_priority, 1, e.at FROM e WHERE e.to_status = 'PENDING'
            UNION ALL
            SELECT e.from_priority, -1, e.at FROM e WHERE e.from_status = 'PENDING') AS q (priority, change, at)
     GROUP BY 2
    UNION ALL
    SELECT 'ains_tasks_in_flight', f.status, '', 0, sum(f.change)::bigint, 0, min(f.at)
      FROM (SELECT e.to_status, 1, e.at FROM e WHERE e.to_status IN ('ASSIGNED', 'ACTIVE')
            UNION ALL
            SELECT e.from_status, -1, e.at FROM e WHERE e.from_status IN ('ASSIGNED', 'ACTIVE')) AS f (status, change, at)
     GROUP BY 2
    UNION ALL
    SELECT 'ains_tasks_blocked', '', '', 0, sum(e.blocked_change)::bigint, 0, min(e.at)
      FROM e WHERE e.blocked_change <> 0 HAVING count(*) > 0
$$;
COMMENT ON FUNCTION metrics.task_contributions(public.task_events_open[]) IS
    'What these facts add to every task family: THE definition, used by fold, scrape, views and verification. Gauges of the queue are sums of +1 and -1.';

CREATE VIEW metrics.task_tail AS
    SELECT c.* FROM metrics.task_contributions((SELECT array_agg(o) FROM public.task_events_open AS o)) AS c;
COMMENT ON VIEW metrics.task_tail IS 'What the facts that are not folded yet add to metrics.totals.';

CREATE VIEW metrics.ledger_state AS
    SELECT s.generation, s.folded_at, (SELECT count(*) FROM public.task_events_open) AS open_task_events
      FROM metrics.fold_state AS s;
COMMENT ON VIEW metrics.ledger_state IS 'When the totals were last folded and how many facts wait for the next fold.';

CREATE VIEW metrics.series AS
    SELECT s.family, s.label_1, s.label_2, s.bucket, sum(s.n)::bigint AS n, sum(s.sum_us)::bigint AS sum_us,
           min(s.first_at) AS first_at
      FROM (SELECT t.family, t.label_1, t.label_2, t.bucket, t.n, t.sum_us, t.first_at FROM metrics.totals AS t
            UNION ALL
            SELECT t.family, t.label_1, t.label_2, t.bucket, t.n, t.sum_us, t.first_at FROM metrics.task_tail AS t) AS s
     GROUP BY 1, 2, 3, 4;
COMMENT ON VIEW metrics.series IS 'Totals plus tail: the current value of every series of the ledger.';

CREATE FUNCTION metrics.fold(batch integer DEFAULT 10000) RETURNS bigint
LANGUAGE plpgsql
SET jit = off AS $$
DECLARE
    moved bigint;
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
    SELECT count(*) INTO moved FROM gone;
    UPDATE metrics.fold_state AS s
       SET folded_at = clock_timestamp(),
           generation = CASE WHEN moved > 0 THEN next ELSE s.generation END
     WHERE moved > 0 OR s.folded_at < clock_timestamp() - interval '10 seconds' OR s.folded_at > clock_timestamp();
    RETURN moved;
END $$;
COMMENT ON FUNCTION metrics.fold(integer) IS
    'Moves up to batch open facts into the closed part and adds them to the totals, in one transaction: a snapshot sees each fact open or in the totals, never both, never neither. Returns the number moved, NULL when another fold is running.';
