-- Retention: what was removed from the closed parts of the ledgers stays in the totals.

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
    'No new fact older than this enters a closed part; it is counted and pruned at once.';

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
        ON CONFLICT (family, label_1, label_2, bucket) DO UPDATE
       SET n = p.n + excluded.n,
           sum_us = p.sum_us + excluded.sum_us,
           first_at = least(p.first_at, excluded.first_at)
$$;
COMMENT ON FUNCTION metrics.add_pruned(public.task_events_open[], public.chain_events_open[], public.webhook_events_open[]) IS
    'Adds what these facts contributed to metrics.pruned; in the transaction that removes them.';
