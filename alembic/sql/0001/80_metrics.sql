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
    exemplar_id uuid,
    exemplar_us bigint,
    exemplar_at timestamptz,
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
COMMENT ON COLUMN metrics.totals.exemplar_id IS 'Histograms of tasks: a recent task of this bucket.';
COMMENT ON COLUMN metrics.totals.exemplar_us IS 'Its observed value in microseconds.';
COMMENT ON COLUMN metrics.totals.exemplar_at IS 'When it was observed.';
COMMENT ON COLUMN metrics.totals.generation IS 'The fold that last changed this row.';

CREATE TABLE metrics.fold_state (
    only_row    boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    generation  bigint      NOT NULL DEFAULT 0,
    folded_at   timestamptz NOT NULL DEFAULT now(),
    rotations   bigint      NOT NULL DEFAULT 0
) WITH (fillfactor = 10);
INSERT INTO metrics.fold_state DEFAULT VALUES;

COMMENT ON TABLE metrics.fold_state IS 'One row: how often and when metrics.totals last changed.';
COMMENT ON COLUMN metrics.fold_state.only_row IS 'Keeps the table at one row.';
COMMENT ON COLUMN metrics.fold_state.generation IS 'Grows with every fold that moved facts; totals of equal generation are equal.';
COMMENT ON COLUMN metrics.fold_state.folded_at IS 'When the ledger was last folded, or looked at and found empty.';

COMMENT ON COLUMN metrics.fold_state.rotations IS 'How often metrics.rotate() has emptied an open part, as this snapshot sees it.';

CREATE SEQUENCE metrics.rotations MINVALUE 0 START 0;
COMMENT ON SEQUENCE metrics.rotations IS
    'How often metrics.rotate() has emptied an open part, as every snapshot sees it; compared with fold_state.rotations.';

CREATE TABLE metrics.settings (
    only_row     boolean   PRIMARY KEY DEFAULT true CHECK (only_row),
    agent_ttl    interval  NOT NULL DEFAULT interval '60 seconds',
    label_limit  integer   CHECK (label_limit > 0)
);
INSERT INTO metrics.settings DEFAULT VALUES;

COMMENT ON TABLE metrics.settings IS 'Settings that views need; ains serve writes them when it starts.';
COMMENT ON COLUMN metrics.settings.only_row IS 'Keeps the table at one row.';
COMMENT ON COLUMN metrics.settings.agent_ttl IS 'AINS_AGENT_TTL: an agent whose last heartbeat is older is not active.';
COMMENT ON COLUMN metrics.settings.label_limit IS
    'AINS_METRICS_LABEL_LIMIT: distinct values that an open label shows before further ones count under other. NULL: any number.';

CREATE TABLE metrics.label_guards (
    label     text        PRIMARY KEY,
    closed    boolean     NOT NULL DEFAULT false,
    met       bigint      NOT NULL DEFAULT 0,
    merged    bigint      NOT NULL DEFAULT 0,
    tries     integer     NOT NULL DEFAULT 0,
    retry_at  timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO metrics.label_guards (label) VALUES ('task_type'), ('client_id'), ('agent_id'), ('failure_reason');

COMMENT ON TABLE metrics.label_guards IS
    'The open labels, whose values come from outside. The other labels have a few values by nature.';
COMMENT ON COLUMN metrics.label_guards.label IS 'Name of the label.';
COMMENT ON COLUMN metrics.label_guards.closed IS
    'It has reached settings.label_limit: facts of a value that is not shown yet count under other.';
COMMENT ON COLUMN metrics.label_guards.met IS
    'How many values there are in metrics.label_values: every fold asks, and to count them may take milliseconds.';
COMMENT ON COLUMN metrics.label_guards.merged IS 'How many values count under other.';
COMMENT ON COLUMN metrics.label_guards.tries IS
    'How often it could not be closed since somebody was writing; 0 once it is closed.';
COMMENT ON COLUMN metrics.label_guards.retry_at IS 'No try before this time.';

CREATE TABLE metrics.label_values (
    label  text    NOT NULL REFERENCES metrics.label_guards,
    value  text    NOT NULL,
    shown  boolean NOT NULL,
    PRIMARY KEY (label, value)
);
COMMENT ON TABLE metrics.label_values IS
    'Values of open labels that folds have met. One that is shown stays shown.';
COMMENT ON COLUMN metrics.label_values.label IS 'Name of the label.';
COMMENT ON COLUMN metrics.label_values.value IS 'The value.';
COMMENT ON COLUMN metrics.label_values.shown IS 'Whether it has series of its own; else it counts under other.';
