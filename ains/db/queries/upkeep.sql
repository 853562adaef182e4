-- name: announce
-- Wakes the dispatchers of all processes that listen.
-- counts as: OTHER none
SELECT pg_notify('ains_wake', '');

-- name: fold
-- Moves open facts into the totals: how many, NULL when somebody else is folding.
-- counts as: DELETE task_events_open
SELECT metrics.fold($1);

-- name: say_agent_ttl
-- The views in the schema metrics need it.
UPDATE metrics.settings
   SET agent_ttl = $1
 WHERE agent_ttl IS DISTINCT FROM $1;

-- name: schema_version
-- The revision that the database is migrated to.
SELECT version_num FROM public.ains_schema_version;
