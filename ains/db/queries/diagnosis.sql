-- name: server
-- What kind of server this is, and whether it may lose what it said was safe.
-- counts as: SELECT none
SELECT current_setting('server_version') AS version,
       current_setting('max_connections')::integer AS max_connections,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::integer AS connections,
       (SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'ains listener')::integer AS listeners,
       pg_is_in_recovery() AS is_standby,
       ARRAY(SELECT s.name FROM pg_settings AS s
              WHERE s.name IN ('fsync', 'full_page_writes') AND s.setting = 'off'
              ORDER BY s.name) AS unsafe,
       extract(epoch FROM clock_timestamp())::double precision AS clock

-- name: old_transactions
-- Who has been in one transaction for longer than $1: they keep dead rows from being removed.
-- counts as: SELECT none
SELECT 'process ' || a.pid AS who, 'SELECT pg_terminate_backend(' || a.pid || ')' AS remedy,
       extract(epoch FROM now() - a.xact_start)::double precision AS seconds,
       concat_ws(', ', a.usename, nullif(a.application_name, ''), a.state) AS what
  FROM pg_stat_activity AS a
 WHERE a.xact_start < now() - $1::interval
   AND a.pid <> pg_backend_pid()
   AND a.backend_type IN ('client backend', 'walsender')
   AND (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL)
UNION ALL
SELECT 'prepared transaction ' || p.gid, 'ROLLBACK PREPARED ' || quote_literal(p.gid),
       extract(epoch FROM now() - p.prepared)::double precision, p.owner::text
  FROM pg_prepared_xacts AS p
 WHERE p.prepared < now() - $1::interval
 ORDER BY seconds DESC
 LIMIT 10

-- name: disabled_triggers
-- Triggers of AINS's tables that somebody has switched off: what they keep is no longer kept.
-- counts as: SELECT none
SELECT t.tgrelid::regclass || '.' || t.tgname AS name
  FROM pg_trigger AS t
  JOIN pg_class AS c ON c.oid = t.tgrelid
 WHERE c.relnamespace = 'public'::regnamespace
   AND NOT t.tgisinternal
   AND t.tgenabled = 'D'
 ORDER BY 1

-- name: backlog
-- What waits for workers that should have seen to it.
-- counts as: SELECT tasks
SELECT l.open_task_events AS open_events,
       extract(epoch FROM now() - l.folded_at)::double precision AS folded_seconds_ago,
       (SELECT count(*) FROM tasks AS t
         WHERE t.status IN ('ASSIGNED', 'ACTIVE') AND t.deadline_at < now() - $1::interval) AS overdue,
       (SELECT count(*) FROM agents AS a
         WHERE a.status IN ('AVAILABLE', 'BUSY')
           AND coalesce(a.last_heartbeat, '-infinity') < now() - $2::interval - $1::interval) AS silent,
       (SELECT count(*) FROM agents AS a WHERE a.status = 'INACTIVE') AS inactive,
       (SELECT count(*) FROM agents AS a WHERE a.status = 'AVAILABLE') AS available,
       (SELECT s.agent_ttl = $2::interval FROM metrics.settings AS s) AS same_ttl
  FROM metrics.ledger_state AS l

-- name: wanted
-- Capabilities that runnable tasks need and no AVAILABLE agent offers; leaps from one to the next.
WITH RECURSIVE wanted AS (
    (SELECT lower(t.capability_required) AS capability
       FROM tasks AS t
      WHERE t.status = 'PENDING' AND NOT t.is_blocked AND t.next_retry_at IS NULL
      ORDER BY lower(t.capability_required)
      LIMIT 1)
    UNION ALL
    SELECT (SELECT lower(t.capability_required)
              FROM tasks AS t
             WHERE t.status = 'PENDING' AND NOT t.is_blocked AND t.next_retry_at IS NULL
               AND lower(t.capability_required) > wanted.capability
             ORDER BY lower(t.capability_required)
             LIMIT 1)
      FROM wanted
     WHERE wanted.capability IS NOT NULL
)
SELECT w.capability
  FROM wanted AS w
 WHERE w.capability IS NOT NULL
   AND NOT EXISTS (SELECT FROM agent_routes AS r WHERE r.capability = w.capability)
 LIMIT 6
