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
-- It looks at the first $6 due deliveries of a host; `set_aside` sees to it that more need not be.
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
      LEFT JOIN LATERAL (
           SELECT b.next_attempt_at, b.sequence
             FROM webhook_deliveries AS b
            WHERE b.host = free.host AND b.status = 'pending' AND b.next_attempt_at <= now()
            ORDER BY b.next_attempt_at, b.sequence OFFSET $6 LIMIT 1
           ) AS beyond ON true
     CROSS JOIN LATERAL (
           SELECT p.delivery_id
             FROM webhook_deliveries AS p
            WHERE p.host = free.host AND p.status = 'pending'
              AND (p.next_attempt_at, p.sequence)
                  < (coalesce(beyond.next_attempt_at, now()), coalesce(beyond.sequence, 9223372036854775807))
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

-- name: set_aside
-- Makes way for a claim that found less than a host has room for ($1 and the busy $2, $3 as there)
-- among the first $4 due deliveries of that host: those that wait behind an earlier event of their task
-- are not due before it is, nor is anything lost when it is done sooner, since `finish` calls the next
-- one. $5 seconds at most, should it have missed one that was set aside in the same moment.
-- counts as: UPDATE webhook_deliveries
WITH RECURSIVE hosts AS (
    (SELECT d.host FROM webhook_deliveries AS d WHERE d.status = 'pending' ORDER BY d.host LIMIT 1)
     UNION ALL
    SELECT (SELECT d.host FROM webhook_deliveries AS d
             WHERE d.status = 'pending' AND d.host > h.host ORDER BY d.host LIMIT 1)
      FROM hosts AS h WHERE h.host IS NOT NULL
),
crowded AS (
    SELECT h.host
      FROM hosts AS h LEFT JOIN unnest($2::text[], $3::integer[]) AS b (host, busy) USING (host)
     WHERE h.host IS NOT NULL AND $1::integer > coalesce(b.busy, 0)
       AND EXISTS (
           SELECT FROM webhook_deliveries AS d
            WHERE d.host = h.host AND d.status = 'pending' AND d.next_attempt_at <= now()
            ORDER BY d.next_attempt_at, d.sequence OFFSET $4 LIMIT 1)
),
followers AS (
    SELECT d.delivery_id, first.due_at
      FROM crowded
     CROSS JOIN LATERAL (
           SELECT p.delivery_id, p.webhook_id, p.subject_id, p.sequence
             FROM webhook_deliveries AS p
            WHERE p.host = crowded.host AND p.status = 'pending' AND p.next_attempt_at <= now()
            ORDER BY p.next_attempt_at, p.sequence LIMIT $4
              FOR NO KEY UPDATE SKIP LOCKED
           ) AS d
     CROSS JOIN LATERAL (
           SELECT greatest(e.next_attempt_at, e.leased_until, now() + interval '10 seconds') AS due_at
             FROM webhook_deliveries AS e
            WHERE e.webhook_id = d.webhook_id AND e.subject_id = d.subject_id
              AND e.status = 'pending' AND e.sequence < d.sequence
            ORDER BY e.sequence LIMIT 1
           ) AS first
),
aside AS (
    UPDATE webhook_deliveries AS d
       SET next_attempt_at = least(f.due_at, now() + make_interval(secs => $5))
      FROM followers AS f WHERE d.delivery_id = f.delivery_id
    RETURNING d.delivery_id
)
SELECT count(*) FROM aside

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
    RETURNING d.webhook_id, d.subject_id, d.sequence, d.status
),
next AS (
    -- Who holds its lock may be waiting for ours: skip it, it is called later.
    SELECT n.delivery_id
      FROM finished AS f JOIN webhook_deliveries AS n USING (webhook_id, subject_id)
      LEFT JOIN verdict AS v USING (webhook_id)
     WHERE f.status <> 'pending' AND n.status = 'pending' AND n.sequence > f.sequence
       AND v.is_kept IS NOT FALSE
     ORDER BY n.sequence LIMIT 1
       FOR NO KEY UPDATE OF n SKIP LOCKED
),
called AS (
    UPDATE webhook_deliveries AS d SET next_attempt_at = now()
      FROM next WHERE d.delivery_id = next.delivery_id AND d.next_attempt_at > now() AND d.attempt_count = 0
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
