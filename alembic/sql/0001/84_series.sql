-- What the open facts add, and the current value of every series.

CREATE VIEW metrics.rotation_state AS
    SELECT s.rotations AS seen, q.last_value AS happened FROM metrics.fold_state AS s CROSS JOIN metrics.rotations AS q;
COMMENT ON VIEW metrics.rotation_state IS 'How often metrics.rotate() has emptied the open parts of the ledgers.';
COMMENT ON COLUMN metrics.rotation_state.seen IS 'As of this snapshot.';
COMMENT ON COLUMN metrics.rotation_state.happened IS 'Until now, whatever the snapshot.';

CREATE FUNCTION metrics.require_rotations(happened bigint, seen bigint) RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    IF happened > seen THEN
        RAISE EXCEPTION 'an open part of the ledger was emptied since this transaction took its snapshot'
            USING ERRCODE = 'serialization_failure',
                  HINT = 'Begin the transaction again. See metrics.rotate().';
    END IF;
    RETURN true;
END $$;
COMMENT ON FUNCTION metrics.require_rotations(bigint, bigint) IS
    'True when a snapshot has seen all rotations that happened, see metrics.rotation_state; else an error. Reads nothing, so that whoever may read a view needs no other right.';

CREATE FUNCTION metrics.is_current_snapshot() RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    RETURN (SELECT metrics.require_rotations(r.happened, r.seen) FROM metrics.rotation_state AS r);
END $$;
COMMENT ON FUNCTION metrics.is_current_snapshot() IS
    'TRUNCATE empties a table for older snapshots too, which would then see facts neither open nor in the totals. True when this can''t have happened, else an error.';

CREATE VIEW public.task_events AS
    SELECT f.at, public.task_event(f.from_status, f.to_status, f.details) AS event,
           f.task_id, f.task_type, f.client_id, f.agent_id,
           coalesce((f.details).reason, '') AS reason,
           coalesce((f.details).retry, 0) AS retry,
           f.from_status, f.to_status,
           coalesce((f.details).from_priority, f.priority) AS from_priority,
           f.priority AS to_priority,
           coalesce((f.details).blocked_change, 0::smallint) AS blocked_change,
           CASE WHEN f.to_status <> 'ASSIGNED' THEN f.took_us END AS duration_us,
           CASE WHEN f.to_status = 'ASSIGNED' THEN f.took_us END AS queue_us
      FROM (SELECT * FROM public.task_events_open
              WHERE (SELECT metrics.require_rotations(r.happened, r.seen) FROM metrics.rotation_state AS r)
             UNION ALL
            SELECT * FROM public.task_events_closed) AS f;
COMMENT ON VIEW public.task_events IS
    'Everything that happened to tasks, one row per transition (the creation of a task and its assignment are one, when they are one statement), and one before it when it ended an attempt by its timeout. SELECT * FROM task_events WHERE task_id = ... ORDER BY at.';
COMMENT ON COLUMN public.task_events.at IS 'When it was written: the order of a task''s facts, also of those of one statement and of transactions that waited for each other, as long as nobody sets the clock back.';
COMMENT ON COLUMN public.task_events.event IS 'created, assigned, started, completed, failed, retried, timed_out, requeued, cancelled, reopened, reprioritised, blocked or unblocked. A task that is created and ASSIGNED at once is created only.';
COMMENT ON COLUMN public.task_events.task_id IS 'The task; its row may be deleted by now.';
COMMENT ON COLUMN public.task_events.task_type IS 'Label, as it was then.';
COMMENT ON COLUMN public.task_events.client_id IS 'Label, as it was then.';
COMMENT ON COLUMN public.task_events.agent_id IS 'The agent of the attempt, empty when there was none.';
COMMENT ON COLUMN public.task_events.reason IS 'Failure code of a failed or retried attempt; deleted for a live row that was deleted; else empty.';
COMMENT ON COLUMN public.task_events.retry IS 'Ordinal of the retry that this scheduled (1..), 0 when it scheduled none.';
COMMENT ON COLUMN public.task_events.from_status IS 'Status before, empty for a new task.';
COMMENT ON COLUMN public.task_events.to_status IS 'Status after.';
COMMENT ON COLUMN public.task_events.from_priority IS 'Priority before, of a task that was in the queue; else as after.';
COMMENT ON COLUMN public.task_events.to_priority IS 'Priority after.';
COMMENT ON COLUMN public.task_events.blocked_change IS '+1 when a blocked task began to wait in the queue, -1 when one ceased to, else 0.';
COMMENT ON COLUMN public.task_events.duration_us IS 'Execution time of the final attempt in microseconds, when this ended one.';
COMMENT ON COLUMN public.task_events.queue_us IS 'Time in the queue in microseconds, when this assigned it.';

CREATE OR REPLACE VIEW public.chain_events AS
    SELECT * FROM public.chain_events_open
     WHERE (SELECT metrics.require_rotations(r.happened, r.seen) FROM metrics.rotation_state AS r)
    UNION ALL
    SELECT * FROM public.chain_events_closed;
CREATE OR REPLACE VIEW public.webhook_events AS
    SELECT * FROM public.webhook_events_open
     WHERE (SELECT metrics.require_rotations(r.happened, r.seen) FROM metrics.rotation_state AS r)
    UNION ALL
    SELECT * FROM public.webhook_events_closed;

-- For scrapes: the text of the definitions once more, over the open parts themselves. A scrape need not put the facts
-- into an array first, a quarter of its query on PostgreSQL 15 and less on 18. It turns JIT off, which would be used
-- here, and take seconds, from some MB of open part on; hence metrics.series, which everybody reads, calls the
-- functions. Nor does it look for exemplars, an eighth of its query: those of the last fold are recent enough.
-- Made by replacing, so that there is one definition; a migration that changes it makes its view anew.
DO $$
DECLARE
    ledger text;
BEGIN
    FOREACH ledger IN ARRAY ARRAY['task', 'chain', 'webhook'] LOOP
        EXECUTE format(
            $view$CREATE VIEW metrics.%1$s_tail AS
                SELECT c.family, c.label_1, c.label_2, c.bucket, c.n, c.sum_us, c.first_at
                  FROM (%2$s) AS c (family, label_1, label_2, bucket, n, sum_us, first_at, exemplar_id, exemplar_us, exemplar_at)
                 WHERE metrics.is_current_snapshot()$view$,
            ledger,
            (SELECT regexp_replace(replace(p.prosrc, 'unnest(facts)', format('public.%s_events_open', ledger)),
                                   '\(array_agg\(\S+\)\)\[count\(\*\)\]', 'NULL', 'g')
              FROM pg_catalog.pg_proc AS p
              WHERE p.oid = format('metrics.%s_contributions', ledger)::regproc));
    END LOOP;
END $$;
COMMENT ON VIEW metrics.task_tail IS
    'What the task facts that are not folded yet add to metrics.totals: metrics.task_contributions() of them, but for exemplars.';
COMMENT ON VIEW metrics.chain_tail IS
    'What the chain facts that are not folded yet add to metrics.totals: metrics.chain_contributions() of them.';
COMMENT ON VIEW metrics.webhook_tail IS
    'What the webhook facts that are not folded yet add to metrics.totals: metrics.webhook_contributions() of them.';

CREATE VIEW metrics.ledger_state AS
    SELECT s.generation, s.folded_at, (SELECT count(*) FROM public.task_events_open) AS open_task_events,
           (SELECT count(*) FROM public.chain_events_open) AS open_chain_events,
           (SELECT count(*) FROM public.webhook_events_open) AS open_webhook_events
      FROM metrics.fold_state AS s
     WHERE metrics.is_current_snapshot();
COMMENT ON VIEW metrics.ledger_state IS 'When the totals were last folded and how many facts wait for the next fold.';

CREATE VIEW metrics.series AS
    SELECT s.family, s.label_1, s.label_2, s.bucket, sum(s.n)::bigint AS n, metrics.saturated(sum(s.sum_us)) AS sum_us,
           min(s.first_at) AS first_at
      FROM (SELECT t.family, t.label_1, t.label_2, t.bucket, t.n, t.sum_us, t.first_at FROM metrics.totals AS t
            UNION ALL
            SELECT t.family, t.label_1, t.label_2, t.bucket, t.n, t.sum_us, t.first_at
              FROM metrics.task_contributions((SELECT array_agg(o) FROM public.task_events_open AS o)) AS t
             WHERE metrics.is_current_snapshot()
            UNION ALL
            SELECT t.family, t.label_1, t.label_2, t.bucket, t.n, t.sum_us, t.first_at
              FROM metrics.chain_contributions((SELECT array_agg(o) FROM public.chain_events_open AS o)) AS t
             WHERE metrics.is_current_snapshot()
            UNION ALL
            SELECT t.family, t.label_1, t.label_2, t.bucket, t.n, t.sum_us, t.first_at
              FROM metrics.webhook_contributions((SELECT array_agg(o) FROM public.webhook_events_open AS o)) AS t
             WHERE metrics.is_current_snapshot()) AS s
     GROUP BY 1, 2, 3, 4;
COMMENT ON VIEW metrics.series IS 'Totals plus tails: the current value of every series of the ledgers.';

COMMENT ON COLUMN metrics.task_tail.family IS 'Name of the metric family.';
COMMENT ON COLUMN metrics.task_tail.label_1 IS 'Value of its first label, empty when it has none.';
COMMENT ON COLUMN metrics.task_tail.label_2 IS 'Value of its second label, empty when it has none.';
COMMENT ON COLUMN metrics.task_tail.bucket IS 'Bucket of a histogram, not cumulative; else 0.';
COMMENT ON COLUMN metrics.task_tail.n IS 'Value, or observations in this bucket.';
COMMENT ON COLUMN metrics.task_tail.sum_us IS 'Sum of the observed values in microseconds.';
COMMENT ON COLUMN metrics.task_tail.first_at IS 'When the first of these facts happened.';
COMMENT ON COLUMN metrics.series.family IS 'Name of the metric family.';
COMMENT ON COLUMN metrics.series.label_1 IS 'Value of its first label, empty when it has none.';
COMMENT ON COLUMN metrics.series.label_2 IS 'Value of its second label, empty when it has none.';
COMMENT ON COLUMN metrics.series.bucket IS 'Bucket of a histogram, not cumulative; else 0.';
COMMENT ON COLUMN metrics.series.n IS 'Value, or observations in this bucket.';
COMMENT ON COLUMN metrics.series.sum_us IS 'Sum of the observed values in microseconds.';
COMMENT ON COLUMN metrics.series.first_at IS 'When the first of these facts happened.';
COMMENT ON COLUMN metrics.ledger_state.generation IS 'Grows with every fold that moved facts.';
COMMENT ON COLUMN metrics.ledger_state.folded_at IS 'When the ledger was last folded, or found empty.';
COMMENT ON COLUMN metrics.ledger_state.open_task_events IS 'Task facts that wait for the next fold.';
COMMENT ON COLUMN metrics.ledger_state.open_chain_events IS 'Chain facts that wait for the next fold.';
COMMENT ON COLUMN metrics.ledger_state.open_webhook_events IS 'Webhook facts that wait for the next fold.';
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
