-- What has been kept for long enough goes, in batches that take no lock anybody waits for: a row that somebody
-- else has locked stays until the next time. No counter and no gauge depends on what is deleted here.
--
-- Nothing that is kept points to what was deleted: a task stays as long as a chain that it is a step of, and as
-- long as any task that depends on it, however remotely: a task whose failed dependency is gone could be retried
-- and would run. Newest first, so that dependents are gone before.
-- Nothing ends before it is created, so the indexes by status and creation find what ended before $2, and each
-- batch goes on where the one before ended.

-- name: past
-- A time by the clock of some process, but none that lies ahead: a clock that is a month fast would prune a month
-- too much.
-- counts as: SELECT none
SELECT least($1::timestamptz, now())

-- name: begin
-- For the transaction of a batch: whether nobody else is pruning who asks for a turn ($1), too. Compiling the
-- query, which estimates of what depends on a task lead to, would take longer than running it.
-- counts as: OTHER none
SELECT set_config('jit', 'off', true) = 'off'
       AND (NOT $1::boolean OR pg_try_advisory_xact_lock(hashtextextended('ains.retention', 0)))

-- name: prune_chains
-- The steps go with their chain.
WITH old AS MATERIALIZED (
    SELECT c.chain_id
      FROM task_chains AS c
     WHERE c.status = $1
       AND (c.created_at, c.chain_id) < ($3, $4)
       AND coalesce(c.completed_at, c.updated_at) < $2
     ORDER BY c.created_at DESC, c.chain_id DESC
     LIMIT $5
       FOR UPDATE SKIP LOCKED
)
DELETE FROM task_chains AS c USING old WHERE c.chain_id = old.chain_id
RETURNING c.created_at, c.chain_id

-- name: prune_tasks
-- A task that an UPDATE in psql ended may lack completed_at.
WITH old AS MATERIALIZED (
    SELECT t.task_id
      FROM tasks AS t
     WHERE t.status = $1
       AND (t.created_at, t.task_id) < ($3, $4)
       AND coalesce(t.completed_at, t.updated_at) < $2
       AND NOT EXISTS (SELECT FROM chain_steps AS s WHERE s.task_id = t.task_id)
       -- Whether anything depends on it at all, which is a step into the index also where the planner, with ten
       -- thousand dependents of one task in mind, would look through the table for each task.
       AND ((SELECT d.depends_on FROM task_dependencies AS d
              WHERE d.depends_on >= t.task_id ORDER BY d.depends_on LIMIT 1) IS DISTINCT FROM t.task_id
            OR NOT EXISTS (
               WITH RECURSIVE dependents AS (
                   SELECT d.task_id FROM task_dependencies AS d WHERE d.depends_on = t.task_id
                    UNION
                   SELECT d.task_id FROM dependents JOIN task_dependencies AS d ON d.depends_on = dependents.task_id
               )
               SELECT FROM dependents JOIN tasks AS u USING (task_id)
                WHERE u.status IN ('PENDING', 'ASSIGNED', 'ACTIVE')
                   OR coalesce(u.completed_at, u.updated_at) >= $2))
     ORDER BY t.created_at DESC, t.task_id DESC
     LIMIT $5
       FOR UPDATE OF t SKIP LOCKED
)
DELETE FROM tasks AS t USING old WHERE t.task_id = old.task_id
RETURNING t.created_at, t.task_id

-- name: prune_deliveries
-- The attempts go with their delivery. It ended with its last attempt, or when its webhook did. Webhook by
-- webhook, since that is how the index goes.
WITH old AS MATERIALIZED (
    SELECT d.delivery_id
      FROM webhooks AS w
     CROSS JOIN LATERAL (
           SELECT e.delivery_id
             FROM webhook_deliveries AS e
            WHERE e.webhook_id = w.webhook_id AND e.created_at < $1 AND e.status <> 'pending'
              AND NOT EXISTS (SELECT FROM webhook_attempts AS a
                               WHERE a.delivery_id = e.delivery_id AND a.attempted_at >= $1)
            ORDER BY e.created_at
            LIMIT $2) AS d
     LIMIT $2
),
free AS MATERIALIZED (
    SELECT e.delivery_id
      FROM webhook_deliveries AS e
     WHERE e.delivery_id = ANY (ARRAY(SELECT old.delivery_id FROM old)) AND e.status <> 'pending'
       FOR UPDATE SKIP LOCKED
)
DELETE FROM webhook_deliveries AS e USING free WHERE e.delivery_id = free.delivery_id
RETURNING e.delivery_id

-- name: prune_ledger
-- Facts of days before $1: how many, NULL when somebody else is at it.
-- counts as: DELETE task_events_closed
SELECT metrics.prune_ledger($1, $2)

-- name: make_partitions
-- Some of those of the days to come that are missing.
-- counts as: OTHER none
SELECT p.name FROM metrics.make_partitions(most => 3) AS p (name)

-- name: lacks_tomorrow
-- Whether some ledger has no partition for the time a day from now.
-- counts as: SELECT none
SELECT count(*) < 3
  FROM metrics.ledger_partitions() AS p
 WHERE p.from_at <= now() + interval '1 day' AND p.until_at > now() + interval '1 day'

-- name: drop_partitions
-- Those that have been empty for longer than any snapshot is old.
-- counts as: OTHER none
SELECT p.name FROM metrics.drop_partitions() AS p (name)

-- name: count
-- What would be deleted now; NULL means that it is kept for ever. Tasks: $1, chains: $2, deliveries: $3, facts: $4.
-- counts as: SELECT tasks
WITH RECURSIVE needed AS (
    SELECT d.depends_on AS task_id
      FROM task_dependencies AS d JOIN tasks AS u USING (task_id)
     WHERE u.status IN ('PENDING', 'ASSIGNED', 'ACTIVE') OR coalesce(u.completed_at, u.updated_at) >= $1
     UNION
    SELECT d.depends_on FROM needed JOIN task_dependencies AS d USING (task_id)
),
chains AS MATERIALIZED (
    SELECT c.chain_id
      FROM task_chains AS c
     WHERE c.status IN ('COMPLETED', 'FAILED', 'CANCELLED')
       AND coalesce(c.completed_at, c.updated_at) < $2::timestamptz
)
SELECT (SELECT count(*) FROM chains) AS chains,
       (SELECT count(*)
          FROM tasks AS t
         WHERE t.status IN ('COMPLETED', 'FAILED', 'CANCELLED')
           AND coalesce(t.completed_at, t.updated_at) < $1::timestamptz
           AND NOT EXISTS (SELECT FROM chain_steps AS s
                            WHERE s.task_id = t.task_id AND s.chain_id NOT IN (SELECT chain_id FROM chains))
           AND t.task_id NOT IN (SELECT needed.task_id FROM needed)) AS tasks,
       (SELECT count(*)
          FROM webhook_deliveries AS e
         WHERE e.created_at < $3::timestamptz AND e.status <> 'pending'
           AND NOT EXISTS (SELECT FROM webhook_attempts AS a
                            WHERE a.delivery_id = e.delivery_id AND a.attempted_at >= $3)) AS deliveries,
       (SELECT count(*) FROM task_events_closed AS f WHERE f.at < date_trunc('day', $4::timestamptz, 'UTC'))
       + (SELECT count(*) FROM chain_events_closed AS f WHERE f.at < date_trunc('day', $4, 'UTC'))
       + (SELECT count(*) FROM webhook_events_closed AS f WHERE f.at < date_trunc('day', $4, 'UTC')) AS facts
