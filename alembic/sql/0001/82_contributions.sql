-- What a fact adds to which family.

CREATE FUNCTION metrics.bounds(family text) RETURNS bigint[]
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
COMMENT ON FUNCTION metrics.bounds(text) IS 'Finite upper bounds of a histogram''s buckets in microseconds.';

CREATE FUNCTION metrics.bucket(family text, value_us bigint) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT width_bucket(value_us - 1, metrics.bounds(family))
$$;
COMMENT ON FUNCTION metrics.bucket(text, bigint) IS
    'Bucket of a value: the number of upper bounds smaller than it (a bound belongs to its own bucket, as le says).';

CREATE FUNCTION metrics.saturated(microseconds numeric) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT least(microseconds, 9223372036854775807)::bigint
$$;
COMMENT ON FUNCTION metrics.saturated(numeric) IS
    'A sum of microseconds, 292,000 years at most: some thousand imported tasks that began in the year 0 stop no fold and no scrape.';

CREATE TYPE metrics.contribution AS (
    family       text,
    label_1      text,
    label_2      text,
    bucket       integer,
    n            bigint,
    sum_us       bigint,
    first_at     timestamptz,
    exemplar_id  uuid,
    exemplar_us  bigint,
    exemplar_at  timestamptz
);
COMMENT ON TYPE metrics.contribution IS 'What some facts add to one row of metrics.totals, whose columns these are.';

-- THE definition of what a fact adds to which family. An exemplar is the last fact read: recent, and not
-- sorted for. Fold, scrape, views and verification all use it.
CREATE FUNCTION metrics.task_contributions(facts public.task_events_open[]) RETURNS SETOF metrics.contribution
LANGUAGE sql STABLE PARALLEL SAFE
SET jit = off SET plan_cache_mode = force_generic_plan AS $$
    WITH guard AS MATERIALIZED (
        SELECT bool_or(g.closed) FILTER (WHERE g.label = 'task_type') AS task_type,
               bool_or(g.closed) FILTER (WHERE g.label = 'client_id') AS client_id,
               bool_or(g.closed) FILTER (WHERE g.label = 'agent_id') AS agent_id,
               bool_or(g.closed) FILTER (WHERE g.label = 'failure_reason') AS failure_reason
          FROM metrics.label_guards AS g
    ),
    -- A value of a closed label that isn't shown counts under other; empty means none. Looked up here, and not
    -- by joins, which would be made ready for open labels too: 22 ms for 1,000 facts instead of 5. Nor by NOT EXISTS,
    -- for which all values may be read and hashed at each scrape: 47 ms for 25,000 of each label instead of 4.
    -- First what rows are chosen by: the columns before it are taken apart too.
    e AS MATERIALIZED (
        SELECT f.took_us, f.at, f.task_id, f.to_status, f.from_status, f.priority,
               coalesce((f.details).from_priority, f.priority) AS from_priority,
               coalesce((f.details).blocked_change, 0) AS blocked_change, (f.details).retry,
               CASE WHEN g.task_type AND f.task_type <> ''
                     AND (SELECT v.shown FROM metrics.label_values AS v
                           WHERE v.label = 'task_type' AND v.value = f.task_type) IS NOT TRUE
                    THEN 'other' ELSE f.task_type END AS task_type,
               CASE WHEN g.client_id AND f.client_id <> ''
                     AND (SELECT v.shown FROM metrics.label_values AS v
                           WHERE v.label = 'client_id' AND v.value = f.client_id) IS NOT TRUE
                    THEN 'other' ELSE f.client_id END AS client_id,
               CASE WHEN g.agent_id AND f.agent_id <> ''
                     AND (SELECT v.shown FROM metrics.label_values AS v
                           WHERE v.label = 'agent_id' AND v.value = f.agent_id) IS NOT TRUE
                    THEN 'other' ELSE f.agent_id END AS agent_id,
               CASE WHEN g.failure_reason AND (f.details).reason <> ''
                     AND (SELECT v.shown FROM metrics.label_values AS v
                           WHERE v.label = 'failure_reason' AND v.value = (f.details).reason) IS NOT TRUE
                    THEN 'other' ELSE coalesce((f.details).reason, '') END AS reason
          FROM unnest(facts) AS f CROSS JOIN guard AS g
    ),
    -- What few facts say is looked for in few rows, and what all of them say in one row for each kind of transition.
    rare AS MATERIALIZED (
        SELECT e.from_status, e.to_status, e.at, e.task_type, e.agent_id, e.reason, e.retry
          FROM e WHERE e.to_status IN ('FAILED', 'CANCELLED') OR e.from_status IN ('COMPLETED', 'FAILED', 'CANCELLED')
                    OR e.from_status = e.to_status OR e.retry > 0
    ),
    moves AS MATERIALIZED (
        SELECT e.from_status, e.to_status, e.from_priority, e.priority, e.blocked_change, count(*) AS n, min(e.at) AS at
          FROM e GROUP BY 1, 2, 3, 4, 5
    )
    SELECT 'ains_tasks_created_total', e.task_type, e.client_id, 0, count(*), 0::bigint, min(e.at), NULL::uuid, NULL::bigint, NULL::timestamptz
      FROM e WHERE e.from_status = '' GROUP BY 2, 3
    UNION ALL
    SELECT 'ains_tasks_completed_total', e.task_type, e.agent_id, 0, count(*), 0, min(e.at), NULL, NULL, NULL
      FROM e WHERE e.to_status = 'COMPLETED' GROUP BY 2, 3
    UNION ALL
    SELECT 'ains_tasks_failed_total', r.task_type, r.reason, 0, count(*), 0, min(r.at), NULL, NULL, NULL
      FROM rare AS r WHERE r.to_status = 'FAILED' GROUP BY 2, 3
    UNION ALL
    SELECT 'ains_agent_tasks_failed_total', r.agent_id, '', 0, count(*), 0, min(r.at), NULL, NULL, NULL
      FROM rare AS r WHERE r.to_status = 'FAILED' AND r.agent_id <> '' GROUP BY 2
    UNION ALL
    SELECT 'ains_tasks_cancelled_total', r.task_type, '', 0, count(*), 0, min(r.at), NULL, NULL, NULL
      FROM rare AS r WHERE r.to_status = 'CANCELLED' GROUP BY 2
    UNION ALL
    SELECT 'ains_tasks_reopened_total', r.task_type, '', 0, count(*), 0, min(r.at), NULL, NULL, NULL
      FROM rare AS r WHERE r.from_status IN ('COMPLETED', 'FAILED', 'CANCELLED') GROUP BY 2
    UNION ALL
    SELECT 'ains_task_timeouts_total', r.task_type, '', 0, count(*), 0, min(r.at), NULL, NULL, NULL
      FROM rare AS r WHERE r.from_status = r.to_status AND r.to_status IN ('ASSIGNED', 'ACTIVE') GROUP BY 2
    UNION ALL
    SELECT 'ains_task_retries_total', r.task_type, r.retry::text, 0, count(*), 0, min(r.at), NULL, NULL, NULL
      FROM rare AS r WHERE r.retry > 0 GROUP BY 2, 3
    UNION ALL
    SELECT 'ains_task_duration_seconds', e.task_type, e.to_status,
           metrics.bucket('ains_task_duration_seconds', e.took_us), count(*), metrics.saturated(sum(e.took_us)), min(e.at),
           (array_agg(e.task_id))[count(*)], (array_agg(e.took_us))[count(*)], (array_agg(e.at))[count(*)]
      FROM e WHERE e.took_us IS NOT NULL AND e.to_status <> 'ASSIGNED' GROUP BY 2, 3, 4
    UNION ALL
    SELECT 'ains_task_queue_seconds', e.task_type, '',
           metrics.bucket('ains_task_queue_seconds', e.took_us), count(*), metrics.saturated(sum(e.took_us)), min(e.at),
           (array_agg(e.task_id))[count(*)], (array_agg(e.took_us))[count(*)], (array_agg(e.at))[count(*)]
      FROM e WHERE e.took_us IS NOT NULL AND e.to_status = 'ASSIGNED' GROUP BY 2, 4
    UNION ALL
    SELECT 'ains_tasks_in_queue', q.priority::text, '', 0, sum(q.change)::bigint, 0, min(q.at), NULL, NULL, NULL
      FROM (SELECT m.priority, m.n, m.at FROM moves AS m WHERE m.to_status = 'PENDING'
            UNION ALL
            SELECT m.from_priority, -m.n, m.at FROM moves AS m WHERE m.from_status = 'PENDING') AS q (priority, change, at)
     GROUP BY 2
    UNION ALL
    SELECT 'ains_tasks_in_flight', f.status, '', 0, sum(f.change)::bigint, 0, min(f.at), NULL, NULL, NULL
      FROM (SELECT m.to_status, m.n, m.at FROM moves AS m WHERE m.to_status IN ('ASSIGNED', 'ACTIVE')
            UNION ALL
            SELECT m.from_status, -m.n, m.at FROM moves AS m WHERE m.from_status IN ('ASSIGNED', 'ACTIVE')) AS f (status, change, at)
     GROUP BY 2
    UNION ALL
    SELECT 'ains_tasks_blocked', '', '', 0, sum(m.blocked_change * m.n)::bigint, 0, min(m.at), NULL, NULL, NULL
      FROM moves AS m WHERE m.blocked_change <> 0 HAVING count(*) > 0
$$;
COMMENT ON FUNCTION metrics.task_contributions(public.task_events_open[]) IS
    'What these facts add to every task family: THE definition, used by fold, pruning, views and verification; what scrapes read is made of this text. Gauges of the queue are sums of +1 and -1.';

CREATE FUNCTION metrics.chain_contributions(facts public.chain_events_open[])
RETURNS SETOF metrics.contribution
LANGUAGE sql STABLE PARALLEL SAFE
SET jit = off AS $$
    WITH e AS MATERIALIZED (SELECT * FROM unnest(facts))
    SELECT 'ains_chains_total', e.to_status, '', 0, count(*), 0::bigint, min(e.at), NULL::uuid, NULL::bigint, NULL::timestamptz
      FROM e WHERE e.subject = 'chain' GROUP BY 2
    UNION ALL
    SELECT 'ains_chain_steps_total', e.to_status, '', 0, count(*), 0, min(e.at), NULL, NULL, NULL
      FROM e WHERE e.subject = 'step' GROUP BY 2
    UNION ALL
    SELECT 'ains_chain_duration_seconds', e.to_status, '',
           metrics.bucket('ains_chain_duration_seconds', e.duration_us), count(*), metrics.saturated(sum(e.duration_us)), min(e.at), NULL, NULL, NULL
      FROM e WHERE e.subject = 'chain' AND e.duration_us IS NOT NULL GROUP BY 2, 4
    UNION ALL
    SELECT 'ains_chains_active', '', '', 0,
           sum((e.to_status IN ('PENDING', 'RUNNING'))::integer - (e.from_status IN ('PENDING', 'RUNNING'))::integer)::bigint,
           0, min(e.at), NULL, NULL, NULL
      FROM e WHERE e.subject = 'chain' HAVING count(*) > 0
$$;
COMMENT ON FUNCTION metrics.chain_contributions(public.chain_events_open[]) IS
    'What these facts add to every chain family: THE definition, used by fold, pruning, views and verification; what scrapes read is made of this text.';

CREATE FUNCTION metrics.webhook_contributions(facts public.webhook_events_open[])
RETURNS SETOF metrics.contribution
LANGUAGE sql STABLE PARALLEL SAFE
SET jit = off AS $$
    WITH e AS MATERIALIZED (SELECT * FROM unnest(facts))
    SELECT 'ains_webhook_deliveries_total', e.event_type, e.outcome, 0, count(*), 0::bigint, min(e.at), NULL::uuid, NULL::bigint, NULL::timestamptz
      FROM e WHERE e.event = 'ended' GROUP BY 2, 3
    UNION ALL
    SELECT 'ains_webhook_attempts_total', e.event_type, e.outcome, 0, count(*), 0, min(e.at), NULL, NULL, NULL
      FROM e WHERE e.event = 'attempted' GROUP BY 2, 3
    UNION ALL
    SELECT 'ains_webhook_delivery_duration_seconds', e.event_type, '',
           metrics.bucket('ains_webhook_delivery_duration_seconds', e.duration_us), count(*), metrics.saturated(sum(e.duration_us)), min(e.at), NULL, NULL, NULL
      FROM e WHERE e.event = 'attempted' GROUP BY 2, 4
    UNION ALL
    SELECT 'ains_webhook_deliveries_pending', '', '', 0, sum(e.pending_change)::bigint, 0, min(e.at), NULL, NULL, NULL
      FROM e WHERE e.pending_change <> 0 HAVING count(*) > 0
$$;
COMMENT ON FUNCTION metrics.webhook_contributions(public.webhook_events_open[]) IS
    'What these facts add to every webhook family: THE definition, used by fold, pruning, views and verification; what scrapes read is made of this text.';
