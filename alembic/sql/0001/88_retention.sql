-- Retention: the closed parts of the ledgers are partitioned by days (UTC). Days are made ahead, pruned when
-- they are too old, and dropped when they are empty; what pruned facts added stays in the totals.
--
-- A day is not simply dropped: what its facts added has to enter metrics.pruned in the transaction that removes
-- them, and to add up millions of facts in one transaction would hold back VACUUM and whoever waits for its
-- locks. So facts go in batches, each added up in the transaction that deletes it: whatever is killed when,
-- totals = pruned + closed. The emptied partition goes later, since DROP, unlike DELETE, takes facts from
-- snapshots that still see them.
--
-- Writers of tasks never meet a lock of this: they write to the open parts alone. Only folds and readers of
-- history may have to wait, for as long as lock_timeout says.

CREATE TABLE metrics.pruned (
    family    text        NOT NULL,
    label_1   text        NOT NULL,
    label_2   text        NOT NULL,
    bucket    integer     NOT NULL,
    n         bigint      NOT NULL,
    sum_us    bigint      NOT NULL,
    first_at  timestamptz NOT NULL,
    PRIMARY KEY (family, label_1, label_2, bucket)
) WITH (fillfactor = 70);
COMMENT ON TABLE metrics.pruned IS
    'What facts that were pruned from the closed parts had added: totals = pruned + contributions of the closed facts, in every snapshot.';
COMMENT ON COLUMN metrics.pruned.family IS 'Name of the metric family.';
COMMENT ON COLUMN metrics.pruned.label_1 IS 'Value of its first label, empty when it has none.';
COMMENT ON COLUMN metrics.pruned.label_2 IS 'Value of its second label, empty when it has none.';
COMMENT ON COLUMN metrics.pruned.bucket IS 'Bucket of a histogram, not cumulative; else 0.';
COMMENT ON COLUMN metrics.pruned.n IS 'Value, or observations in this bucket.';
COMMENT ON COLUMN metrics.pruned.sum_us IS 'Sum of the observed values in microseconds.';
COMMENT ON COLUMN metrics.pruned.first_at IS 'When the first of these facts happened.';

CREATE TABLE metrics.retention_state (
    only_row      boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    pruned_until  timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO metrics.retention_state DEFAULT VALUES;
COMMENT ON TABLE metrics.retention_state IS 'One row: how far the closed parts of the ledgers have been pruned.';
COMMENT ON COLUMN metrics.retention_state.only_row IS 'Keeps the table at one row.';
COMMENT ON COLUMN metrics.retention_state.pruned_until IS
    'Midnight (UTC). No new fact older than this enters a closed part; it is counted and pruned at once. Never goes back.';

CREATE TABLE metrics.pruned_partitions (
    partition    text        PRIMARY KEY,
    pruned_to    tid         NOT NULL DEFAULT '(0,0)',
    empty_since  timestamptz
) WITH (fillfactor = 50);
COMMENT ON TABLE metrics.pruned_partitions IS 'Partitions that metrics.prune_ledger() has begun, until they are dropped.';
COMMENT ON COLUMN metrics.pruned_partitions.partition IS 'Its name, without the schema (public).';
COMMENT ON COLUMN metrics.pruned_partitions.pruned_to IS
    'Where the next batch begins, so that it needn''t wade through what the batches before have deleted. A hint only: before a partition counts as empty, all of it is looked at.';
COMMENT ON COLUMN metrics.pruned_partitions.empty_since IS 'When it was found empty.';

CREATE FUNCTION metrics.ledger_partitions()
RETURNS TABLE (ledger text, partition text, from_at timestamptz, until_at timestamptz)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC' SET datestyle = 'ISO' AS $$
    SELECT l.relname, p.relname, b.bounds[1]::timestamptz, b.bounds[2]::timestamptz
      FROM unnest(ARRAY['public.task_events_closed', 'public.chain_events_closed',
                        'public.webhook_events_closed']::regclass[]) AS ledgers (oid)
      JOIN pg_class AS l ON l.oid = ledgers.oid
      JOIN pg_inherits AS i ON i.inhparent = l.oid
      JOIN pg_class AS p ON p.oid = i.inhrelid AND p.relkind = 'r'
      LEFT JOIN LATERAL regexp_match(
           replace(replace(pg_get_expr(p.relpartbound, p.oid), 'MINVALUE', $q$'-infinity'$q$), 'MAXVALUE', $q$'infinity'$q$),
           $q$FROM \('(.+)'\) TO \('(.+)'\)$q$) AS b (bounds) ON true
$$;
COMMENT ON FUNCTION metrics.ledger_partitions() IS
    'The partitions of the closed parts of the ledgers: facts from from_at to before until_at, both NULL for the default partition, which takes what no other does.';

CREATE FUNCTION metrics.add_pruned(
    tasks public.task_events_open[], chains public.chain_events_open[], webhooks public.webhook_events_open[]
) RETURNS void
LANGUAGE sql
SET jit = off AS $$
    INSERT INTO metrics.pruned AS p (family, label_1, label_2, bucket, n, sum_us, first_at)
    SELECT c.family, c.label_1, c.label_2, c.bucket, c.n, c.sum_us, c.first_at
      FROM (SELECT * FROM metrics.task_contributions(tasks)
             UNION ALL
            SELECT * FROM metrics.chain_contributions(chains)
             UNION ALL
            SELECT * FROM metrics.webhook_contributions(webhooks)) AS c
     -- So that a fold and a pruner can't wait for each other in a circle.
     ORDER BY 1, 2, 3, 4
        ON CONFLICT (family, label_1, label_2, bucket) DO UPDATE
       SET n = p.n + excluded.n,
           sum_us = metrics.saturated(p.sum_us::numeric + excluded.sum_us),
           first_at = least(p.first_at, excluded.first_at)
$$;
COMMENT ON FUNCTION metrics.add_pruned(public.task_events_open[], public.chain_events_open[], public.webhook_events_open[]) IS
    'Adds what these facts contributed to metrics.pruned; in the transaction that removes them.';

CREATE FUNCTION metrics.make_partitions(
    until date DEFAULT (now() AT TIME ZONE 'UTC')::date + 7, most integer DEFAULT NULL
) RETURNS SETOF text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC' SET datestyle = 'ISO'
-- Longer than deadlock_timeout, after which an autovacuum gives way.
SET lock_timeout = '2s' AS $$
DECLARE
    today constant date := now()::date;
    many  constant integer := 100000;
    missing  record;
    fallback text;
    attach   text;
    found    bigint;
    made     integer := 0;
BEGIN
    IF until > today + 366 THEN
        RAISE EXCEPTION 'partitions are made for a year ahead at most, not until %', until
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('ains.metrics.retention', 0));
    FOR missing IN
        SELECT l.ledger, l.ledger || to_char(d.day, '_YYYYMMDD') AS partition,
               d.day AS from_at, d.day + interval '1 day' AS until_at
          FROM (VALUES ('task_events_closed'), ('chain_events_closed'), ('webhook_events_closed')) AS l (ledger)
         CROSS JOIN generate_series(today::timestamptz, until::timestamptz, interval '1 day') AS d (day)
         WHERE NOT EXISTS (SELECT FROM metrics.ledger_partitions() AS p
                            WHERE p.ledger = l.ledger
                              AND p.from_at < d.day + interval '1 day' AND p.until_at > d.day)
         ORDER BY d.day, l.ledger
    LOOP
        EXIT WHEN made = most;
        IF to_regclass(format('public.%I', missing.partition)) IS NOT NULL THEN
            RAISE WARNING 'table % is in the way of a partition of that name', missing.partition
                USING HINT = 'Attach or rename it; until then facts of that day go to the default partition.';
            CONTINUE;
        END IF;
        SELECT p.partition INTO fallback
          FROM metrics.ledger_partitions() AS p WHERE p.ledger = missing.ledger AND p.from_at IS NULL;
        IF fallback IS NOT NULL THEN
            -- When nobody made this day in time, or the clock was ahead, its facts are in the default partition. To move
            -- many would lock out whoever folds for as long; they are pruned from there as well.
            EXECUTE format('SELECT count(*) FROM (SELECT FROM ONLY public.%I AS f WHERE f.at >= $1 AND f.at < $2 LIMIT $3) AS f',
                           fallback)
               INTO found USING missing.from_at, missing.until_at, many;
            CONTINUE WHEN found = many;
        END IF;
        BEGIN
            EXECUTE format('CREATE TABLE public.%I (LIKE public.%I INCLUDING ALL)', missing.partition, missing.ledger);
            EXECUTE format('COMMENT ON TABLE public.%I IS %L', missing.partition,
                           format('Facts of %s (UTC).', missing.from_at::date));
            -- ATTACH, not PARTITION OF, which would lock out everybody who uses the ledger.
            EXECUTE format('LOCK TABLE ONLY public.%I IN SHARE UPDATE EXCLUSIVE MODE', missing.ledger);
            IF fallback IS NOT NULL THEN
                EXECUTE format('LOCK TABLE ONLY public.%I IN ACCESS EXCLUSIVE MODE', fallback);
            END IF;
            attach := format('ALTER TABLE public.%I ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
                             missing.ledger, missing.partition, missing.from_at, missing.until_at);
            BEGIN
                EXECUTE attach;
            EXCEPTION WHEN check_violation THEN
                -- The default partition has facts of the day. Nobody else writes there now, so they can be moved.
                EXECUTE format(
                    'WITH moved AS (DELETE FROM ONLY public.%I AS f WHERE f.at >= $1 AND f.at < $2 RETURNING f.*)
                     INSERT INTO public.%I SELECT * FROM moved', fallback, missing.partition)
                  USING missing.from_at, missing.until_at;
                EXECUTE attach;
            END;
        EXCEPTION WHEN lock_not_available THEN
            -- Somebody reads history for long, as pg_dump does. These are days to come: there is time.
            EXIT;
        END;
        made := made + 1;
        RETURN NEXT missing.partition;
    END LOOP;
END $$;
COMMENT ON FUNCTION metrics.make_partitions(date, integer) IS
    'Makes the missing partitions from today (UTC) until this day, most at most, and moves there what the default partition has of them; a day of which it has 100,000 facts or more stays there. Returns their names; when somebody keeps the default partition locked for two seconds, the rest is left for the next call.';

CREATE FUNCTION metrics.prune_ledger(before timestamptz, batch integer DEFAULT 5000) RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC' SET datestyle = 'ISO'
SET jit = off
SET lock_timeout = '5s' AS $$
DECLARE
    wanted constant timestamptz := date_trunc('day', least(before, now()));
    until    timestamptz;
    part     record;
    place    tid;
    reached  tid;
    gone     bigint;
BEGIN
    PERFORM metrics.require_read_committed();
    IF before IS NULL OR batch IS NULL THEN -- which least() and LIMIT would take for all
        RAISE EXCEPTION 'prune_ledger(%, %): before which time, and how many at once?', before, batch
            USING ERRCODE = 'null_value_not_allowed', HINT = 'Nothing was pruned. Neither may be NULL.';
    END IF;
    IF NOT pg_try_advisory_xact_lock(hashtextextended('ains.metrics.retention', 0)) THEN
        RETURN NULL;
    END IF;
    SELECT r.pruned_until INTO until FROM metrics.retention_state AS r;
    IF wanted > until THEN
        -- A fold that goes by the old limit ends first, and the next one will see the new.
        PERFORM pg_advisory_xact_lock(hashtextextended('ains.metrics.fold', 0));
        UPDATE metrics.retention_state AS r SET pruned_until = wanted;
        until := wanted;
    END IF;
    FOR part IN
        SELECT p.ledger, p.partition, p.until_at, coalesce(s.pruned_to, '(0,0)') AS pruned_to
          FROM metrics.ledger_partitions() AS p
          LEFT JOIN metrics.pruned_partitions AS s USING (partition)
         WHERE (p.from_at < until OR p.from_at IS NULL) AND s.empty_since IS NULL
         ORDER BY p.until_at, p.ledger
    LOOP
        place := part.pruned_to;
        LOOP
            EXECUTE format(
                'WITH gone AS (
                     DELETE FROM ONLY public.%1$I AS f
                      WHERE f.ctid = ANY (ARRAY(SELECT o.ctid FROM ONLY public.%1$I AS o
                                                 WHERE o.ctid > $1 AND o.at < $2 LIMIT $3))
                     RETURNING f.ctid AS place, ROW (f.*)::public.%2$I AS fact
                 ),
                 facts AS (SELECT count(*) AS n, max(g.place) AS place, array_agg(g.fact) AS facts FROM gone AS g)
                 SELECT f.n, f.place, metrics.add_pruned(%3$s) FROM facts AS f',
                part.partition, replace(part.ledger, '_closed', '_open'),
                CASE part.ledger WHEN 'task_events_closed' THEN 'f.facts, NULL, NULL'
                                 WHEN 'chain_events_closed' THEN 'NULL, f.facts, NULL'
                                 WHEN 'webhook_events_closed' THEN 'NULL, NULL, f.facts' END)
               INTO gone, reached USING place, until, batch;
            EXIT WHEN gone > 0 OR place = '(0,0)';
            place := '(0,0)';
        END LOOP;
        -- Nothing new enters a day before the limit: what was seen empty stays empty.
        IF gone > 0 OR part.until_at <= until THEN
            INSERT INTO metrics.pruned_partitions AS s (partition, pruned_to, empty_since)
            VALUES (part.partition, coalesce(reached, '(0,0)'), CASE WHEN gone = 0 THEN clock_timestamp() END)
                ON CONFLICT (partition) DO UPDATE
               SET pruned_to = excluded.pruned_to, empty_since = excluded.empty_since;
        END IF;
        IF gone > 0 THEN
            RETURN gone;
        END IF;
    END LOOP;
    RETURN 0;
END $$;
COMMENT ON FUNCTION metrics.prune_ledger(timestamptz, integer) IS
    'Deletes up to batch facts, the oldest day first, that are older than the midnight (UTC) before this time or than any call before said, and adds what they contributed to metrics.pruned: no total changes. Returns how many, 0 when none are left, NULL when somebody else is at it.';

CREATE FUNCTION metrics.drop_partitions(grace interval DEFAULT interval '1 day') RETURNS SETOF text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '2s' AS $$
DECLARE
    old    record;
    in_use boolean;
BEGIN
    PERFORM metrics.require_read_committed();
    PERFORM pg_advisory_xact_lock(hashtextextended('ains.metrics.retention', 0));
    FOR old IN
        SELECT p.ledger, p.partition
          FROM metrics.ledger_partitions() AS p
          JOIN metrics.pruned_partitions AS s USING (partition)
         CROSS JOIN metrics.retention_state AS r
         WHERE p.until_at <= r.pruned_until AND s.empty_since <= clock_timestamp() - grace
         ORDER BY p.until_at, p.ledger
    LOOP
        BEGIN
            -- Lock, look, drop: somebody may have put facts back by hand.
            EXECUTE format('LOCK TABLE ONLY public.%I IN ACCESS EXCLUSIVE MODE', old.ledger);
            EXECUTE format('LOCK TABLE ONLY public.%I IN ACCESS EXCLUSIVE MODE', old.partition);
            EXECUTE format('SELECT EXISTS (SELECT FROM ONLY public.%I)', old.partition) INTO in_use;
            -- When it is, it is pruned again.
            DELETE FROM metrics.pruned_partitions AS s WHERE s.partition = old.partition;
            CONTINUE WHEN in_use;
            EXECUTE format('DROP TABLE public.%I', old.partition);
        EXCEPTION WHEN lock_not_available THEN
            EXIT;
        END;
        RETURN NEXT old.partition;
    END LOOP;
    -- What a DBA has dropped or detached.
    DELETE FROM metrics.pruned_partitions AS s
     WHERE s.partition NOT IN (SELECT p.partition FROM metrics.ledger_partitions() AS p);
END $$;
COMMENT ON FUNCTION metrics.drop_partitions(interval) IS
    'Drops pruned partitions that were found empty at least this long ago: DROP takes facts from snapshots that still see them, so no snapshot may be that old. Returns their names.';

REVOKE ALL ON FUNCTION
    metrics.add_pruned(public.task_events_open[], public.chain_events_open[], public.webhook_events_open[]),
    metrics.make_partitions(date, integer),
    metrics.prune_ledger(timestamptz, integer),
    metrics.drop_partitions(interval)
    FROM PUBLIC;
