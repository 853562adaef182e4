-- Agents: who they are, whether they are there, and what they can do.

-- name: register
-- Returns nothing when the agent_id is taken.
INSERT INTO agents
    (agent_id, display_name, description, endpoint, public_key, signature, verified, tags)
VALUES ($1::text, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (agent_id) DO NOTHING
RETURNING agent_id, public_key, display_name, description, endpoint, status, created_at,
          trust_score, tags, verified

-- name: show
SELECT a.agent_id, a.public_key, a.display_name, a.description, a.endpoint, a.status, a.created_at,
       a.trust_score, a.tags, a.verified
  FROM agents AS a
 WHERE a.agent_id = $1

-- name: list
-- Newest first; one row without an agent when the page is empty.
WITH page AS (
    SELECT a.agent_id, a.display_name, a.status, a.trust_score, a.created_at
      FROM agents AS a
     WHERE $1::text IS NULL OR a.status = $1
     ORDER BY a.created_at DESC, a.agent_id
     LIMIT $2 OFFSET $3
)
SELECT t.total, p.agent_id, p.display_name, p.status, p.trust_score
  FROM (SELECT count(*) AS total FROM agents AS a WHERE $1 IS NULL OR a.status = $1) AS t
  LEFT JOIN page AS p ON true
 ORDER BY p.created_at DESC, p.agent_id

-- name: heartbeat
-- The hottest statement of all. A heartbeat that changes no status need not wait for the disk: should
-- the server crash, the next one makes up for it. The row is locked first, so that whether the agent
-- came back is told of the very change that brought it back.
WITH found AS MATERIALIZED (
    SELECT a.agent_id, a.status, a.last_heartbeat
      FROM agents AS a
     WHERE a.agent_id = $1
       FOR NO KEY UPDATE
)
UPDATE agents AS a
   SET status = CASE found.status WHEN 'SUSPENDED' THEN found.status ELSE $2 END,
       last_heartbeat = now(),
       heartbeat_timestamp = $3,
       uptime_ms = $4,
       health_metrics = $5,
       updated_at = CASE WHEN found.status IN ('SUSPENDED', $2) THEN a.updated_at ELSE now() END
  FROM found
 WHERE a.agent_id = found.agent_id
RETURNING a.status, a.last_heartbeat,
          a.status = 'AVAILABLE'
              AND (found.status <> 'AVAILABLE' OR found.last_heartbeat <= now() - $6::interval) AS came_back,
          CASE WHEN a.status = found.status
               THEN set_config('synchronous_commit', 'off', true) END AS commit

-- name: publish
-- The id stays that of the first publication. Returns nothing when there is no such agent. The agent is
-- locked first: agent_routes is brought up to date in the same transaction, and needs that lock.
INSERT INTO agent_capabilities AS c
    (capability_id, agent_id, name, description, input_schema, output_schema, pricing_model, price,
     latency_p99_ms, availability_percent, signature)
SELECT $1, a.agent_id, $3, $4, $5, $6, $7, $8, $9, $10, $11
  FROM agents AS a
 WHERE a.agent_id = $2
   FOR NO KEY UPDATE
    ON CONFLICT (agent_id, lower(name)) DO UPDATE
   SET name = excluded.name,
       description = excluded.description,
       input_schema = excluded.input_schema,
       output_schema = excluded.output_schema,
       pricing_model = excluded.pricing_model,
       price = excluded.price,
       latency_p99_ms = excluded.latency_p99_ms,
       availability_percent = excluded.availability_percent,
       signature = excluded.signature,
       deprecated = false,
       updated_at = now()
RETURNING c.capability_id

-- name: capabilities
-- One row without a capability when the agent has none, no row when there is no such agent.
SELECT c.capability_id, c.name, c.description, c.pricing_model, c.price, c.availability_percent,
       c.latency_p99_ms
  FROM agents AS a
  LEFT JOIN agent_capabilities AS c ON c.agent_id = a.agent_id AND NOT c.deprecated
 WHERE a.agent_id = $1
 ORDER BY c.created_at, c.name

-- name: search
-- Every condition is written so that its cost is not paid when it is not asked for, whatever plan the
-- server keeps; the names on the page come with it.
WITH offers AS MATERIALIZED (
    SELECT c.agent_id, min(c.price) AS price, min(c.latency_p99_ms) AS latency
      FROM agent_capabilities AS c
     WHERE ($1::text IS NOT NULL OR $4::text <> 'trust_score')
       AND NOT c.deprecated
       AND ($1 IS NULL OR strpos(lower(c.name), lower($1)) > 0)
     GROUP BY c.agent_id
),
tagged AS MATERIALIZED (
    SELECT a.agent_id FROM agents AS a WHERE lower_all(a.tags) && lower_all($2::text[])
),
found AS MATERIALIZED (
    SELECT a.agent_id, a.display_name, a.trust_score,
           CASE $4 WHEN 'price' THEN o.price WHEN 'latency' THEN o.latency END AS rank
      FROM agents AS a
      LEFT JOIN offers AS o ON o.agent_id = a.agent_id
     WHERE a.trust_score >= $3
       AND ($1 IS NULL OR o.agent_id IS NOT NULL)
       AND ($2 IS NULL OR a.agent_id IN (SELECT t.agent_id FROM tagged AS t))
),
page AS (
    SELECT f.agent_id, f.display_name, f.trust_score, f.rank
      FROM found AS f
     ORDER BY f.rank NULLS LAST, f.trust_score DESC, f.agent_id
     LIMIT $5 OFFSET $6
)
SELECT t.total, p.agent_id, p.display_name, p.trust_score,
       ARRAY(SELECT c.name FROM agent_capabilities AS c
              WHERE c.agent_id = p.agent_id AND NOT c.deprecated
              ORDER BY c.created_at, c.name) AS capabilities
  FROM (SELECT count(*) AS total FROM found) AS t
  LEFT JOIN page AS p ON true
 ORDER BY p.rank NULLS LAST, p.trust_score DESC, p.agent_id
