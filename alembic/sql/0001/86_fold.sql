-- Folding: from the open parts of the ledgers into the closed parts and metrics.totals.

CREATE FUNCTION metrics.require_read_committed() RETURNS void
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'facts can''t be moved in a % transaction', current_setting('transaction_isolation')
            USING ERRCODE = 'invalid_transaction_state',
                  HINT = 'Call it in a transaction of its own: BEGIN ISOLATION LEVEL READ COMMITTED.';
    END IF;
END $$;
COMMENT ON FUNCTION metrics.require_read_committed() IS
    'An error unless each statement sees what was committed before it. A snapshot from before a lock misses what was written until the lock was there: such facts would be lost when a table is emptied, and labels that were shown would be merged.';

CREATE FUNCTION metrics.close_labels() RETURNS void
LANGUAGE plpgsql
SET jit = off
SET lock_timeout = '50ms' AS $$
DECLARE
    most        constant integer := (SELECT s.label_limit FROM metrics.settings AS s);
    full_labels text[];
BEGIN
    IF most IS NULL THEN
        RETURN;
    END IF;
    SELECT array_agg(g.label) INTO full_labels
      FROM metrics.label_guards AS g
     WHERE NOT g.closed
       -- Further away than any pause: the clock was set back.
       AND (g.retry_at <= clock_timestamp() OR g.retry_at > clock_timestamp() + interval '61 seconds')
       AND most <= CASE WHEN g.label = 'agent_id' THEN greatest(g.met, (SELECT count(*) FROM public.agents))
                        ELSE g.met END;
    IF full_labels IS NULL THEN
        RETURN;
    END IF;
    -- Once in the life of a label. What a scrape may have shown was committed before this lock, so it is
    -- found here and stays shown. Who waits for a lock has all writers wait behind him. So he gives up as soon
    -- as those who just commit must be through, and whoever stays for longer is asked again ever more seldom.
    BEGIN
        LOCK TABLE public.task_events_open, public.agents IN SHARE MODE;
    EXCEPTION WHEN lock_not_available THEN
        UPDATE metrics.label_guards AS g
           SET tries = g.tries + 1,
               retry_at = clock_timestamp() + least(2 ^ least(g.tries, 6), 60) * interval '1 second'
         WHERE g.label = ANY (full_labels);
        RETURN;
    END;
    INSERT INTO metrics.label_values (label, value, shown)
    SELECT v.label, v.value, true
      FROM (SELECT l.label, l.value
              FROM public.task_events_open AS o
             CROSS JOIN LATERAL (VALUES ('task_type', o.task_type), ('client_id', o.client_id),
                                        ('agent_id', o.agent_id), ('failure_reason', (o.details).reason)) AS l (label, value)
             UNION
            SELECT 'agent_id', a.agent_id FROM public.agents AS a) AS v
     WHERE v.label = ANY (full_labels) AND v.value <> ''
        ON CONFLICT DO NOTHING;
    UPDATE metrics.label_guards AS g
       SET closed = true, tries = 0, met = (SELECT count(*) FROM metrics.label_values AS v WHERE v.label = g.label)
     WHERE g.label = ANY (full_labels);
END $$;
COMMENT ON FUNCTION metrics.close_labels() IS
    'Closes the labels that have reached settings.label_limit, for ever: what is shown by then stays shown, further values count under other. They would go down if they were shown later after all. When somebody is writing for longer than 50 ms, it tries again after 1, 2, 4 ... 60 seconds.';

CREATE FUNCTION metrics.note_labels(facts public.task_events_open[]) RETURNS void
LANGUAGE plpgsql
SET jit = off AS $$
BEGIN
    WITH met AS (
        SELECT DISTINCT l.label, l.value
          FROM unnest(facts) AS f
         CROSS JOIN LATERAL (VALUES ('task_type', f.task_type), ('client_id', f.client_id),
                                    ('agent_id', f.agent_id), ('failure_reason', (f.details).reason)) AS l (label, value)
    ),
    noted AS (
        INSERT INTO metrics.label_values (label, value, shown)
        SELECT m.label, m.value, NOT g.closed
          FROM met AS m JOIN metrics.label_guards AS g USING (label)
         WHERE m.value <> ''
           AND NOT EXISTS (SELECT FROM metrics.label_values AS v WHERE v.label = m.label AND v.value = m.value)
        RETURNING label, shown
    )
    UPDATE metrics.label_guards AS g
       SET met = g.met + n.met, merged = g.merged + n.merged
      FROM (SELECT label, count(*) AS met, count(*) FILTER (WHERE NOT shown) AS merged FROM noted GROUP BY label) AS n
     WHERE g.label = n.label;
END $$;
COMMENT ON FUNCTION metrics.note_labels(public.task_events_open[]) IS
    'Takes note of the values of open labels: shown as long as the label is not closed.';

CREATE FUNCTION metrics.fold(batch integer DEFAULT 10000) RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET jit = off AS $$
DECLARE
    tasks        public.task_events_open[];
    chains       public.chain_events_open[];
    webhooks     public.webhook_events_open[];
    next         bigint;
    pruned_until timestamptz;
    rotated      bigint;
    moved        bigint;
BEGIN
    PERFORM metrics.require_read_committed();
    -- One folder at a time; whoever comes second has nothing to do.
    IF NOT pg_try_advisory_xact_lock(hashtextextended('ains.metrics.fold', 0)) THEN
        RETURN NULL;
    END IF;
    PERFORM metrics.close_labels();
    SELECT s.generation + 1, r.pruned_until, q.last_value INTO next, pruned_until, rotated
      FROM metrics.fold_state AS s CROSS JOIN metrics.retention_state AS r CROSS JOIN metrics.rotations AS q;

    WITH gone AS (
        DELETE FROM public.task_events_open
         WHERE ctid = ANY (ARRAY(SELECT o.ctid FROM public.task_events_open AS o LIMIT batch))
        RETURNING *
    )
    SELECT array_agg(ROW (g.*)::public.task_events_open) INTO tasks FROM gone AS g;
    WITH gone AS (
        DELETE FROM public.chain_events_open
         WHERE ctid = ANY (ARRAY(SELECT o.ctid FROM public.chain_events_open AS o LIMIT batch))
        RETURNING *
    )
    SELECT array_agg(ROW (g.*)::public.chain_events_open) INTO chains FROM gone AS g;
    WITH gone AS (
        DELETE FROM public.webhook_events_open
         WHERE ctid = ANY (ARRAY(SELECT o.ctid FROM public.webhook_events_open AS o LIMIT batch))
        RETURNING *
    )
    SELECT array_agg(ROW (g.*)::public.webhook_events_open) INTO webhooks FROM gone AS g;
    moved := coalesce(cardinality(tasks), 0) + coalesce(cardinality(chains), 0) + coalesce(cardinality(webhooks), 0);

    IF moved > 0 THEN
        INSERT INTO public.task_events_closed SELECT * FROM unnest(tasks) AS f WHERE f.at >= pruned_until;
        INSERT INTO public.chain_events_closed SELECT * FROM unnest(chains) AS f WHERE f.at >= pruned_until;
        INSERT INTO public.webhook_events_closed SELECT * FROM unnest(webhooks) AS f WHERE f.at >= pruned_until;
        PERFORM metrics.note_labels(tasks);
        INSERT INTO metrics.totals AS t
            (family, label_1, label_2, bucket, n, sum_us, first_at, exemplar_id, exemplar_us, exemplar_at, generation)
        SELECT c.*, next
          FROM (SELECT * FROM metrics.task_contributions(tasks)
                 UNION ALL
                SELECT * FROM metrics.chain_contributions(chains)
                 UNION ALL
                SELECT * FROM metrics.webhook_contributions(webhooks)) AS c
            ON CONFLICT (family, label_1, label_2, bucket) DO UPDATE
           SET n = t.n + excluded.n,
               sum_us = metrics.saturated(t.sum_us::numeric + excluded.sum_us),
               first_at = least(t.first_at, excluded.first_at),
               exemplar_id = coalesce(excluded.exemplar_id, t.exemplar_id),
               exemplar_us = coalesce(excluded.exemplar_us, t.exemplar_us),
               exemplar_at = coalesce(excluded.exemplar_at, t.exemplar_at),
               generation = excluded.generation;
        -- A transaction that was open for longer than history is kept: counted, and pruned at once.
        IF pruned_until > '-infinity' THEN
            PERFORM metrics.add_pruned(
                ARRAY(SELECT f FROM unnest(tasks) AS f WHERE f.at < pruned_until),
                ARRAY(SELECT f FROM unnest(chains) AS f WHERE f.at < pruned_until),
                ARRAY(SELECT f FROM unnest(webhooks) AS f WHERE f.at < pruned_until));
        END IF;
    END IF;
    UPDATE metrics.fold_state AS s
       SET folded_at = clock_timestamp(),
           generation = CASE WHEN moved > 0 THEN next ELSE s.generation END,
           rotations = rotated
     WHERE moved > 0 OR s.rotations <> rotated
        OR s.folded_at < clock_timestamp() - interval '10 seconds' OR s.folded_at > clock_timestamp();
    RETURN moved;
END $$;
COMMENT ON FUNCTION metrics.fold(integer) IS
    'Moves up to batch open facts of each ledger into its closed part and adds them to the totals, in one transaction: a snapshot sees each fact open or in the totals, never both, never neither. Returns the number moved, NULL when another fold is running.';

CREATE FUNCTION metrics.is_dumped() RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    -- Else a transaction sees the sessions that there were when it looked first.
    PERFORM pg_stat_clear_snapshot();
    RETURN EXISTS (SELECT FROM pg_stat_activity AS a
                    WHERE a.datname = current_database() AND a.application_name ~* 'dump|backup'
                      -- A dump asks one thing after the other; a pool of connections may rest for ever.
                      AND (a.state = 'idle' AND a.state_change < clock_timestamp() - interval '10 seconds') IS NOT TRUE);
END $$;
COMMENT ON FUNCTION metrics.is_dumped() IS
    'Whether a session is there now that calls itself a dump or backup, and has not been idle for 10 s. pg_dump calls itself pg_dump, unless PGAPPNAME says otherwise.';

CREATE FUNCTION metrics.rotate() RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '100ms' AS $$
DECLARE
    times bigint;
BEGIN
    PERFORM metrics.require_read_committed();
    IF NOT pg_try_advisory_xact_lock(hashtextextended('ains.metrics.fold', 0)) THEN
        RETURN false;
    END IF;
    -- All or nothing: when it fails or thinks better of it, facts and files are as before.
    BEGIN
        LOCK TABLE public.task_events_open, public.chain_events_open, public.webhook_events_open
            IN ACCESS EXCLUSIVE MODE;
        -- A dump takes its snapshot before its locks. In between, it would miss what is folded here, and can't
        -- be told, as others are by is_current_snapshot().
        IF metrics.is_dumped() THEN
            RAISE lock_not_available;
        END IF;
        PERFORM metrics.fold();
        IF EXISTS (SELECT FROM public.task_events_open) OR EXISTS (SELECT FROM public.chain_events_open)
           OR EXISTS (SELECT FROM public.webhook_events_open) THEN
            RETURN false;
        END IF;
        UPDATE metrics.fold_state AS s SET rotations = s.rotations + 1 RETURNING s.rotations INTO times;
        TRUNCATE public.task_events_open, public.chain_events_open, public.webhook_events_open;
        -- One that has come meanwhile may have its snapshot. One that comes from now on has not: it asks the
        -- server a dozen things first. It would have, if the commit took long, which waits for no standby therefore.
        SET LOCAL synchronous_commit = local;
        IF metrics.is_dumped() THEN
            RAISE lock_not_available;
        END IF;
    EXCEPTION WHEN lock_not_available THEN
        RETURN false;
    END;
    -- Not undone by a rollback: until the next fold, scrapes would begin again in vain. So it comes last.
    PERFORM setval('metrics.rotations', times);
    RETURN true;
END $$;
COMMENT ON FUNCTION metrics.rotate() IS
    'Gives the open parts of the ledgers new, empty files: for when some old transaction keeps VACUUM from clearing them and folds and scrapes wade through dead rows. Waits 100 ms at most for whoever uses each of them; false when that or the open facts were too many, or there is a dump.';

REVOKE ALL ON FUNCTION metrics.fold(integer), metrics.rotate() FROM PUBLIC;
