-- name: work
-- Capabilities that somebody AVAILABLE offers and that a runnable task needs, found by leaping through
-- both indexes side by side: it takes as many steps as the shorter list has entries, so neither a
-- million tasks that nobody can do nor ten thousand idle agents make it slow.
WITH RECURSIVE leap AS (
    SELECT wanted.capability AS wanted, offered.capability AS offered
      FROM (SELECT lower(t.capability_required) AS capability
              FROM tasks AS t
             WHERE t.status = 'PENDING' AND NOT t.is_blocked AND t.next_retry_at IS NULL
             ORDER BY lower(t.capability_required)
             LIMIT 1) AS wanted
     CROSS JOIN LATERAL (
           SELECT r.capability FROM agent_routes AS r
            WHERE r.capability >= wanted.capability
            ORDER BY r.capability
            LIMIT 1) AS offered
    UNION ALL
    SELECT wanted.capability, offered.capability
      FROM leap
     CROSS JOIN LATERAL (
           SELECT lower(t.capability_required) AS capability
             FROM tasks AS t
            WHERE t.status = 'PENDING' AND NOT t.is_blocked AND t.next_retry_at IS NULL
              AND lower(t.capability_required) >= leap.offered
              AND lower(t.capability_required) > leap.wanted
            ORDER BY lower(t.capability_required)
            LIMIT 1) AS wanted
     CROSS JOIN LATERAL (
           SELECT r.capability FROM agent_routes AS r
            WHERE r.capability >= wanted.capability
            ORDER BY r.capability
            LIMIT 1) AS offered
)
SELECT leap.wanted AS capability FROM leap WHERE leap.offered = leap.wanted

-- name: assign
-- counts as: UPDATE tasks
-- Claims runnable tasks of one capability, the most urgent first, chooses an agent for each by its own
-- strategy, and assigns it. What somebody else is just claiming is passed over, and so is what needs
-- trust that nobody has: it would be claimed first, time after time, and keep the rest from its turn.
WITH trusted AS MATERIALIZED (
    SELECT EXISTS (
        SELECT FROM agent_routes AS r JOIN agents AS a USING (agent_id)
         WHERE r.capability = lower($1) AND a.status = 'AVAILABLE'
           AND a.last_heartbeat > now() - $3::interval AND a.trust_score >= 0.3
    ) AS somebody
),
claimed AS MATERIALIZED (
    SELECT t.task_id, t.routing_strategy, t.priority, t.created_at
      FROM tasks AS t
     WHERE lower(t.capability_required) = lower($1)
       AND t.status = 'PENDING' AND NOT t.is_blocked AND t.next_retry_at IS NULL
       AND (t.expires_at IS NULL OR t.expires_at > now())
       AND (t.routing_strategy <> 'trust_weighted' OR (SELECT trusted.somebody FROM trusted))
     ORDER BY t.priority DESC, t.created_at
     LIMIT $2
       FOR NO KEY UPDATE SKIP LOCKED
),
placed AS (
    SELECT c.task_id, c.routing_strategy,
           row_number() OVER (PARTITION BY c.routing_strategy
                                  ORDER BY c.priority DESC, c.created_at, c.task_id) AS place
      FROM claimed AS c
),
routed AS MATERIALIZED (
    SELECT s.routing_strategy, r.place, r.agent_id
      FROM (SELECT c.routing_strategy, count(*)::integer AS places FROM claimed AS c GROUP BY 1) AS s
     CROSS JOIN LATERAL route_agents($1, s.routing_strategy, s.places, $3) AS r
),
assigned AS (
    UPDATE tasks AS t
       SET status = 'ASSIGNED',
           assigned_agent_id = routed.agent_id,
           last_agent_id = routed.agent_id,
           -- Else an UPDATE to FAILED in psql would count the last attempt's reason, a timeout perhaps, again.
           failure_reason = NULL,
           assigned_at = now(),
           deadline_at = now() + make_interval(secs => t.timeout_seconds),
           updated_at = now()
      FROM placed JOIN routed USING (routing_strategy, place)
     WHERE t.task_id = placed.task_id
    RETURNING t.task_id
)
SELECT (SELECT count(*) FROM claimed) AS claimed, (SELECT count(*) FROM assigned) AS assigned

-- name: preview
-- counts as: SELECT agents
-- The agent that would get such a task now; touches nothing.
SELECT a.agent_id, a.display_name, a.trust_score,
       a.total_tasks_completed + a.total_tasks_failed AS total_tasks
  FROM route_candidates($1, $2, 1, $3) AS c
  JOIN agents AS a USING (agent_id)
