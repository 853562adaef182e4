-- name: announce
-- Wakes the dispatchers of all processes that listen.
-- counts as: OTHER none
SELECT pg_notify('ains_wake', '');

-- name: fold
-- Moves open facts into the totals: how many, NULL when somebody else is folding.
-- counts as: DELETE task_events_open
SELECT metrics.fold($1);

-- name: open_bytes
-- The size of the open parts of the ledgers.
-- counts as: SELECT task_events_open
SELECT pg_relation_size('public.task_events_open') + pg_relation_size('public.chain_events_open')
       + pg_relation_size('public.webhook_events_open');

-- name: vacuum_open
-- Makes room in the open parts again. Who doesn't own them gets a warning, and autovacuum does it later.
-- counts as: OTHER task_events_open
VACUUM (SKIP_LOCKED, TRUNCATE false) public.task_events_open, public.chain_events_open, public.webhook_events_open;

-- name: rotate_open
-- New files for the open parts, when VACUUM can't make room: whether it could be done now.
-- counts as: OTHER task_events_open
SELECT metrics.rotate();

-- name: say_settings
-- The views and folds in the schema metrics need them.
UPDATE metrics.settings
   SET agent_ttl = $1, label_limit = $2
 WHERE (agent_ttl, label_limit) IS DISTINCT FROM ($1, $2::integer);

-- name: closed_labels
-- The labels that show no further value, with the families that have them.
SELECT g.label, g.merged,
       (SELECT count(*) FROM metrics.label_values AS v WHERE v.label = g.label AND v.shown) AS shown,
       ARRAY(SELECT c.table_name::text
               FROM information_schema.columns AS c
              WHERE c.table_schema = 'metrics' AND c.table_name LIKE 'ains\_%'
                AND c.table_name NOT LIKE '%\_sum\_count' AND c.column_name = g.label
              ORDER BY 1) AS families
  FROM metrics.label_guards AS g
 WHERE g.closed
 ORDER BY g.label;

-- name: schema_version
-- The revision that the database is migrated to.
SELECT version_num FROM public.ains_schema_version;
