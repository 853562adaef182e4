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
-- Who has been in one transaction for longer than $1, or keeps a snapshot of unknown age: they keep dead rows
-- from being removed. A role without pg_read_all_stats sees who has a snapshot, and of others no more than that;
-- a standby and a replication slot have no age. `horizon` is the same as long as it is the same transaction.
-- counts as: SELECT none
SELECT 'process ' || a.pid AS who, 'SELECT pg_terminate_backend(' || a.pid || ')' AS remedy,
       extract(epoch FROM now() - a.xact_start)::double precision AS seconds,
       greatest(age(a.backend_xmin), age(a.backend_xid)) AS transactions,
       concat_ws(' ', a.backend_xmin::text, a.backend_xid::text) AS horizon,
       concat_ws(', ', a.usename, nullif(a.application_name, ''), a.state) AS what,
       a.state IS NULL AND a.backend_type IS NULL AS hidden
  FROM pg_stat_activity AS a
 WHERE (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL)
   AND (a.xact_start < now() - $1::interval OR a.xact_start IS NULL)
   AND a.pid <> pg_backend_pid()
   -- Elsewhere nobody holds back what is removed here, but for a standby.
   AND (a.datname = current_database() OR a.datid IS NULL)
   AND a.usesysid IS NOT NULL
UNION ALL
SELECT 'prepared transaction ' || p.gid, 'ROLLBACK PREPARED ' || quote_literal(p.gid),
       extract(epoch FROM now() - p.prepared)::double precision, age(p.transaction), p.transaction::text,
       p.owner::text, false
  FROM pg_prepared_xacts AS p
 WHERE p.prepared < now() - $1::interval AND p.database = current_database()
UNION ALL
SELECT 'replication slot ' || s.slot_name, 'SELECT pg_drop_replication_slot(' || quote_literal(s.slot_name) || ')',
       NULL, greatest(age(s.xmin), age(s.catalog_xmin)), concat_ws(' ', s.xmin::text, s.catalog_xmin::text),
       concat_ws(', ', s.slot_type, CASE WHEN s.active THEN 'in use' ELSE 'unused' END), false
  FROM pg_replication_slots AS s
 WHERE s.xmin IS NOT NULL OR s.catalog_xmin IS NOT NULL
 ORDER BY seconds DESC NULLS LAST, transactions DESC
 LIMIT 10

-- name: sees_all
-- Whether this role sees what others' sessions do.
-- counts as: SELECT none
SELECT pg_has_role('pg_read_all_stats', 'USAGE')

-- name: labels_in_wait
-- Labels that have reached their limit and can't be closed, and who is in the way, see metrics.close_labels().
-- counts as: SELECT none
SELECT g.label, g.tries,
       ARRAY(SELECT DISTINCT coalesce('process ' || l.pid, 'a prepared transaction')
               FROM pg_locks AS l
              WHERE l.locktype = 'relation' AND l.granted
                AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
                AND l.relation IN ('public.task_events_open'::regclass, 'public.agents'::regclass)
                AND l.mode NOT IN ('AccessShareLock', 'RowShareLock', 'ShareLock')
              ORDER BY 1 LIMIT 5) AS holders
  FROM metrics.label_guards AS g
 WHERE NOT g.closed AND g.tries > 1
 ORDER BY g.label

-- name: disabled_triggers
-- Triggers of AINS's tables that somebody has switched off: what they keep is no longer kept.
-- counts as: SELECT none
SELECT t.tgrelid::regclass || '.' || t.tgname AS name
  FROM pg_trigger AS t
  JOIN pg_class AS c ON c.oid = t.tgrelid
 WHERE c.relnamespace = 'public'::regnamespace
   AND NOT t.tgisinternal
   AND t.tgenabled IN ('D', 'R') -- R: for replicas alone
 ORDER BY 1

-- name: backlog
-- What waits for workers that should have seen to it.
-- counts as: SELECT tasks
SELECT l.open_task_events + l.open_chain_events + l.open_webhook_events AS open_events,
       extract(epoch FROM now() - l.folded_at)::double precision AS folded_seconds_ago,
       (SELECT count(*) FROM tasks AS t
         WHERE t.status IN ('ASSIGNED', 'ACTIVE') AND t.deadline_at < now() - $1::interval) AS overdue,
       (SELECT count(*) FROM agents AS a
         WHERE a.status IN ('AVAILABLE', 'BUSY')
           AND coalesce(a.last_heartbeat, '-infinity') < now() - $2::interval - $1::interval) AS silent,
       (SELECT count(*) FROM agents AS a WHERE a.status = 'INACTIVE') AS inactive,
       (SELECT count(*) FROM agents AS a WHERE a.status = 'AVAILABLE') AS available,
       (SELECT s.agent_ttl = $2::interval FROM metrics.settings AS s) AS same_ttl,
       (SELECT r.pruned_until FROM metrics.retention_state AS r WHERE r.pruned_until > now()) AS pruned_ahead
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
