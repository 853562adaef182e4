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
-- Pending again, from the first attempt on, whether its subscription still holds or not.
UPDATE webhook_deliveries AS d
   SET status = 'pending', by_hand = true, attempt_count = 0, next_attempt_at = now(), leased_until = NULL, delivered_at = NULL
 WHERE d.webhook_id = $1 AND d.delivery_id = $2
RETURNING delivery_id, event_type, status, attempt_count, response_code, created_at, delivered_at, next_attempt_at

-- name: claim
-- Leases due deliveries for $1 seconds: of each host at most $2 less the $4 that the worker is sending
-- to the host of $3 already, so that one dead endpoint delays nobody, $5 in all. The events of one task
-- go to one webhook in their order. Deliveries of a subscription that has ended fail instead, unless
-- redelivered by hand: their event had not been committed when what waited for it was failed.
-- counts as: UPDATE webhook_deliveries
WITH RECURSIVE hosts AS (
    (SELECT d.host FROM webhook_deliveries AS d WHERE d.status = 'pending' ORDER BY d.host LIMIT 1)
     UNION ALL
    SELECT (SELECT d.host FROM webhook_deliveries AS d
             WHERE d.status = 'pending' AND d.host > h.host ORDER BY d.host LIMIT 1)
      FROM hosts AS h WHERE h.host IS NOT NULL
),
free AS (
    SELECT h.host, $2::integer - coalesce(b.busy, 0) AS room
      FROM hosts AS h LEFT JOIN unnest($3::text[], $4::integer[]) AS b (host, busy) USING (host)
     WHERE h.host IS NOT NULL AND $2::integer > coalesce(b.busy, 0)
),
due AS (
    SELECT d.delivery_id
      FROM free
     CROSS JOIN LATERAL (
           SELECT p.delivery_id
             FROM webhook_deliveries AS p
            WHERE p.host = free.host AND p.status = 'pending' AND p.next_attempt_at <= now()
              AND (p.leased_until IS NULL OR p.leased_until <= now())
              AND NOT EXISTS (
                  SELECT FROM webhook_deliveries AS e
                   WHERE e.webhook_id = p.webhook_id AND e.subject_id = p.subject_id
                     AND e.status = 'pending' AND e.sequence < p.sequence)
            ORDER BY p.next_attempt_at, p.sequence
            LIMIT free.room
              FOR NO KEY UPDATE SKIP LOCKED
           ) AS d
     LIMIT $5
)
UPDATE webhook_deliveries AS d
   SET status = CASE WHEN v.is_sent THEN 'pending' ELSE 'failed' END,
       leased_until = CASE WHEN v.is_sent THEN now() + make_interval(secs => $1) END,
       next_attempt_at = CASE WHEN v.is_sent THEN d.next_attempt_at END,
       attempt_count = d.attempt_count + v.is_sent::integer,
       last_error = CASE WHEN v.is_sent THEN d.last_error ELSE 'the subscription has ended' END
  FROM due JOIN webhook_deliveries AS s USING (delivery_id) JOIN webhooks AS w USING (webhook_id)
 CROSS JOIN LATERAL (SELECT w.active OR s.by_hand AS is_sent) AS v
 WHERE d.delivery_id = due.delivery_id
RETURNING d.delivery_id, d.webhook_id, d.host, d.event_type, d.payload, d.attempt_count, d.leased_until, w.url, w.secret

-- name: finish
-- Records an attempt and what follows from it. It locks the webhook, then its deliveries, as does
-- `deactivate`; successes of a webhook that does well need not queue for its lock.
-- The attempt was made, so it counts, also when the lease was lost meanwhile: run out, or redelivered
-- or deleted under way. Without the lease, failure says nothing of the delivery, but success ends it:
-- it has arrived. Only when another attempt said so before is it left out, since each success of an
-- attempt is that of a delivery.
-- counts as: UPDATE webhook_deliveries
WITH endpoint AS (
    SELECT w.webhook_id, w.active, w.failing_since IS NOT NULL AS has_failed, ($5 = 410) IS TRUE AS is_gone,
           ($3 <> 'success' AND w.failing_since < now() - make_interval(secs => $9)) IS TRUE AS is_failing
      FROM webhooks AS w
     WHERE w.webhook_id = $10 AND ($3 <> 'success' OR w.failing_since IS NOT NULL)
       FOR NO KEY UPDATE
),
delivery AS (
    SELECT d.delivery_id, d.webhook_id, d.subject_id, d.sequence, d.by_hand, d.status = 'success' AS has_arrived,
           (d.status = 'pending' AND d.leased_until = $2) IS TRUE AS is_ours
      FROM webhook_deliveries AS d
     WHERE d.delivery_id = $1 AND (SELECT count(*) FROM endpoint) >= 0
       FOR NO KEY UPDATE
),
attempt AS (
    INSERT INTO webhook_attempts (delivery_id, attempted_at, duration_us, outcome, response_code, response_body, error)
    SELECT d.delivery_id, now() - make_interval(secs => $4::bigint / 1000000.0), $4, $3, $5, $6, $7
      FROM delivery AS d WHERE $3 <> 'success' OR d.is_ours OR NOT d.has_arrived
),
verdict AS (
    SELECT e.*, $3 <> 'success' AS fails, e.active AND NOT e.is_gone AND NOT e.is_failing AS is_kept
      FROM endpoint AS e JOIN delivery USING (webhook_id)
),
judged AS (
    UPDATE webhooks AS w
       SET failing_since = CASE WHEN v.fails THEN coalesce(w.failing_since, now()) END,
           active = v.is_kept,
           inactive_reason = coalesce(w.inactive_reason, CASE WHEN v.is_gone THEN 'gone' WHEN v.is_failing THEN 'failing' END),
           updated_at = CASE WHEN v.active AND NOT v.is_kept THEN now() ELSE w.updated_at END
      FROM verdict AS v
     WHERE w.webhook_id = v.webhook_id AND (v.fails <> v.has_failed OR v.active <> v.is_kept)
),
finished AS (
    UPDATE webhook_deliveries AS d
       SET status = v.status, response_code = $5, last_error = $7, leased_until = NULL,
           next_attempt_at = CASE WHEN v.status = 'pending' THEN now() + make_interval(secs => $8::double precision) END,
           delivered_at = CASE WHEN v.status = 'success' THEN now() END
      FROM delivery AS this LEFT JOIN verdict USING (webhook_id)
     CROSS JOIN LATERAL (
           SELECT CASE WHEN $3 = 'success' THEN 'success'
                       WHEN $8::double precision IS NULL OR (NOT verdict.is_kept AND NOT this.by_hand) THEN 'failed'
                       ELSE 'pending' END AS status) AS v
     WHERE d.delivery_id = this.delivery_id AND (this.is_ours OR ($3 = 'success' AND NOT this.has_arrived))
),
given_up AS (
    UPDATE webhook_deliveries AS d
       SET status = 'failed', next_attempt_at = NULL, leased_until = NULL, last_error = 'the endpoint was given up'
      FROM verdict AS v
     WHERE NOT v.is_kept AND d.webhook_id = v.webhook_id AND d.delivery_id <> $1
       AND d.status = 'pending' AND NOT d.by_hand
)
SELECT d.is_ours FROM delivery AS d

-- name: next_due
-- Seconds until the next delivery falls due; what is due already was just claimed, or waits for another.
-- counts as: SELECT webhook_deliveries
SELECT extract(epoch FROM d.next_attempt_at - now())::double precision AS seconds
  FROM webhook_deliveries AS d
 WHERE d.status = 'pending' AND d.next_attempt_at > now()
 ORDER BY d.next_attempt_at LIMIT 1
