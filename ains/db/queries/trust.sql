-- Trust: where an agent stands, how it got there, and changes by hand. Changes that follow from tasks
-- are made by the database (apply_trust).

-- name: standing
SELECT a.agent_id, a.trust_score, a.total_tasks_completed, a.total_tasks_failed,
       a.avg_completion_time_seconds, a.last_task_completed_at
  FROM agents AS a
 WHERE a.agent_id = $1

-- name: history
-- Newest first; one row without a record when there is none, no row when there is no such agent.
SELECT r.record_id, r.event_type, r.trust_delta, r.trust_score_before, r.trust_score_after, r.reason,
       r.task_id, r.created_at
  FROM agents AS a
  LEFT JOIN LATERAL (SELECT * FROM trust_records AS t
                      WHERE t.agent_id = a.agent_id
                      ORDER BY t.record_id DESC
                      LIMIT $2) AS r ON true
 WHERE a.agent_id = $1
 ORDER BY r.record_id DESC

-- name: adjust
-- Returns nothing when there is no such agent.
WITH found AS MATERIALIZED (
    SELECT a.agent_id, a.trust_score
      FROM agents AS a
     WHERE a.agent_id = $1
       FOR NO KEY UPDATE
),
changed AS (
    UPDATE agents AS a
       SET trust_score = round(least(1, greatest(0, found.trust_score + $2::double precision))::numeric, 6),
           updated_at = now()
      FROM found
     WHERE a.agent_id = found.agent_id
    RETURNING a.agent_id, found.trust_score AS before, a.trust_score AS after
)
INSERT INTO trust_records
    (agent_id, event_type, trust_delta, trust_score_before, trust_score_after, reason)
SELECT c.agent_id, 'manual_adjustment', $2, c.before, c.after, $3
  FROM changed AS c
RETURNING record_id, trust_score_after, trust_delta

-- name: leaderboard
SELECT a.agent_id, a.display_name, a.trust_score, a.total_tasks_completed, a.total_tasks_failed
  FROM agents AS a
 WHERE a.total_tasks_completed >= $2
 ORDER BY a.trust_score DESC,
          coalesce(a.total_tasks_completed::double precision
                   / nullif(a.total_tasks_completed + a.total_tasks_failed, 0), 0) DESC,
          a.total_tasks_completed DESC,
          a.agent_id
 LIMIT $1
