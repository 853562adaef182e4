-- Webhooks and their deliveries.

-- name: register
-- No row when the agent is unknown.
INSERT INTO webhooks (webhook_id, agent_id, url, host, events, secret)
SELECT $1, a.agent_id, $3, $4, $5, $6 FROM agents AS a WHERE a.agent_id = $2
RETURNING webhook_id, agent_id, url, events, active, created_at

-- name: show
SELECT webhook_id, agent_id, url, events, active, created_at, updated_at
  FROM webhooks WHERE webhook_id = $1

-- name: deactivate
-- Ends the subscription; what still waits will not be sent.
-- counts as: UPDATE webhooks
WITH found AS (
    SELECT webhook_id, agent_id FROM webhooks WHERE webhook_id = $1 FOR NO KEY UPDATE
),
ended AS (
    UPDATE webhooks AS w
       SET active = false, inactive_reason = coalesce(w.inactive_reason, 'deleted'), updated_at = now()
      FROM found WHERE w.webhook_id = found.webhook_id AND found.agent_id = $2
    RETURNING w.webhook_id
),
dropped AS (
    UPDATE webhook_deliveries AS d
       SET status = 'failed', last_error = 'the webhook was deleted', next_attempt_at = NULL, leased_until = NULL
      FROM ended WHERE d.webhook_id = ended.webhook_id AND d.status = 'pending'
)
SELECT found.agent_id = $2 AS is_owner FROM found

-- name: deliveries
SELECT delivery_id, event_type, status, attempt_count, response_code, created_at, delivered_at, next_attempt_at
  FROM webhook_deliveries WHERE webhook_id = $1 ORDER BY created_at DESC, sequence DESC LIMIT $2

-- name: redeliver
-- Pending again, from the first attempt on.
UPDATE webhook_deliveries AS d
   SET status = 'pending', attempt_count = 0, next_attempt_at = now(), leased_until = NULL, delivered_at = NULL
 WHERE d.webhook_id = $1 AND d.delivery_id = $2
RETURNING delivery_id, event_type, status, attempt_count, response_code, created_at, delivered_at, next_attempt_at

-- name: claim
-- Leases due deliveries: at most $2 for each host that is not in $3, so that one dead endpoint delays
-- nobody, $4 in all, for $1 seconds. The events of one task go to one webhook in their order.
-- counts as: UPDATE webhook_deliveries
WITH due AS (
    SELECT d.delivery_id
      FROM (SELECT DISTINCT w.host FROM webhooks AS w WHERE w.active AND w.host <> ALL ($3::text[])) AS h
     CROSS JOIN LATERAL (
           SELECT p.delivery_id
             FROM webhook_deliveries AS p
            WHERE p.host = h.host AND p.status = 'pending' AND p.next_attempt_at <= now()
              AND (p.leased_until IS NULL OR p.leased_until <= now())
              AND NOT EXISTS (
                  SELECT FROM webhook_deliveries AS e
                   WHERE e.webhook_id = p.webhook_id AND e.subject_id = p.subject_id
                     AND e.status = 'pending' AND e.sequence < p.sequence)
            ORDER BY p.next_attempt_at, p.sequence
            LIMIT $2
              FOR NO KEY UPDATE SKIP LOCKED
           ) AS d
     LIMIT $4
)
UPDATE webhook_deliveries AS d
   SET leased_until = now() + make_interval(secs => $1), attempt_count = d.attempt_count + 1
  FROM due, webhooks AS w
 WHERE d.delivery_id = due.delivery_id AND w.webhook_id = d.webhook_id
RETURNING d.delivery_id, d.webhook_id, d.host, d.event_type, d.payload, d.attempt_count, d.leased_until, w.url, w.secret

-- name: finish
-- Records an attempt and what follows from it. Without a row the lease was lost or the delivery ended
-- otherwise in the meantime, and the attempt counts as none: whoever has the lease now will tell.
-- counts as: UPDATE webhook_deliveries
WITH finished AS (
    UPDATE webhook_deliveries AS d
       SET status = CASE WHEN $3 = 'success' THEN 'success' WHEN $8::double precision IS NULL THEN 'failed' ELSE 'pending' END,
           response_code = $5, last_error = $7,
           next_attempt_at = CASE WHEN $3 <> 'success' THEN now() + make_interval(secs => $8::double precision) END,
           delivered_at = CASE WHEN $3 = 'success' THEN now() END,
           leased_until = NULL
     WHERE d.delivery_id = $1 AND d.status = 'pending' AND d.leased_until = $2
    RETURNING d.delivery_id, d.webhook_id
),
attempt AS (
    INSERT INTO webhook_attempts (delivery_id, attempted_at, duration_us, outcome, response_code, response_body, error)
    SELECT f.delivery_id, now() - make_interval(secs => $4::bigint / 1000000.0), $4, $3, $5, $6, $7 FROM finished AS f
),
endpoint AS (
    UPDATE webhooks AS w
       SET failing_since = CASE WHEN v.failed THEN coalesce(w.failing_since, now()) END,
           active = w.active AND NOT v.gone AND NOT v.failing,
           inactive_reason = coalesce(w.inactive_reason, CASE WHEN v.gone THEN 'gone' WHEN v.failing THEN 'failing' END),
           updated_at = CASE WHEN v.gone OR v.failing THEN now() ELSE w.updated_at END
      FROM (SELECT h.webhook_id, $3 <> 'success' AS failed, ($5 = 410) IS TRUE AS gone,
                   ($3 <> 'success' AND h.failing_since < now() - make_interval(secs => $9)) IS TRUE AS failing
              FROM finished AS f JOIN webhooks AS h USING (webhook_id)) AS v
     WHERE w.webhook_id = v.webhook_id
       AND (v.gone OR v.failing OR v.failed <> (w.failing_since IS NOT NULL))
    RETURNING w.webhook_id, w.active
)
SELECT f.delivery_id, coalesce(e.active, true) AS active
  FROM finished AS f LEFT JOIN endpoint AS e USING (webhook_id)

-- name: give_up
-- Nothing more is sent to an endpoint that was given up.
UPDATE webhook_deliveries AS d
   SET status = 'failed', next_attempt_at = NULL, leased_until = NULL, last_error = 'the endpoint is gone'
 WHERE d.status = 'pending'
   AND d.webhook_id IN (SELECT w.webhook_id FROM webhooks AS w WHERE NOT w.active AND w.webhook_id = $1)

-- name: next_due
-- Seconds until the next delivery falls due; what is due already was just claimed, or waits for another.
-- counts as: SELECT webhook_deliveries
SELECT extract(epoch FROM d.next_attempt_at - now())::double precision AS seconds
  FROM webhook_deliveries AS d
 WHERE d.status = 'pending' AND d.next_attempt_at > now()
 ORDER BY d.next_attempt_at LIMIT 1
