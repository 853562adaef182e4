-- Webhooks: who wants to hear what, what is to be told, and every attempt to tell it.

CREATE TABLE public.webhooks (
    webhook_id       uuid        PRIMARY KEY,
    agent_id         text        NOT NULL REFERENCES public.agents ON DELETE CASCADE,
    url              text        NOT NULL,
    host             text        NOT NULL,
    events           text[]      NOT NULL,
    secret           text        NOT NULL,
    active           boolean     NOT NULL DEFAULT true,
    inactive_reason  text,
    failing_since    timestamptz,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT webhooks_events_known CHECK (
        cardinality(events) > 0 AND events <@ ARRAY[
            'task.created', 'task.assigned', 'task.started', 'task.completed', 'task.failed', 'task.cancelled',
            'chain.completed', 'chain.failed'])
);
CREATE INDEX webhooks_by_agent ON public.webhooks (agent_id) WHERE active;

COMMENT ON TABLE public.webhooks IS
    'Subscriptions: an agent hears the events of the tasks and chains that it submitted (client_id = agent_id).';
COMMENT ON COLUMN public.webhooks.webhook_id IS 'Identifier given by AINS.';
COMMENT ON COLUMN public.webhooks.agent_id IS 'Whose events it hears.';
COMMENT ON COLUMN public.webhooks.url IS 'Where they are sent.';
COMMENT ON COLUMN public.webhooks.host IS 'Host of the URL: each has its own share of the workers.';
COMMENT ON COLUMN public.webhooks.events IS 'Event types it hears.';
COMMENT ON COLUMN public.webhooks.secret IS 'Signing secret, whsec_...; shown to the client once. Standard Webhooks.';
COMMENT ON COLUMN public.webhooks.active IS 'False ends delivery: deleted by its owner, or given up.';
COMMENT ON COLUMN public.webhooks.inactive_reason IS 'deleted, gone (the endpoint answered 410) or failing (five days without a success).';
COMMENT ON COLUMN public.webhooks.failing_since IS 'First failed attempt since the last success.';
COMMENT ON COLUMN public.webhooks.created_at IS 'When it was registered.';
COMMENT ON COLUMN public.webhooks.updated_at IS 'When it last changed.';

CREATE TABLE public.webhook_deliveries (
    delivery_id      uuid                   PRIMARY KEY DEFAULT gen_random_uuid(),
    sequence         bigint                 NOT NULL GENERATED ALWAYS AS IDENTITY,
    webhook_id       uuid                   NOT NULL REFERENCES public.webhooks ON DELETE CASCADE,
    host             text                   NOT NULL,
    event_type       text                   NOT NULL,
    subject_id       uuid                   NOT NULL,
    payload          text                   NOT NULL,
    status           public.delivery_status NOT NULL DEFAULT 'pending',
    attempt_count    integer                NOT NULL DEFAULT 0,
    response_code    integer,
    last_error       text,
    created_at       timestamptz            NOT NULL DEFAULT now(),
    next_attempt_at  timestamptz            DEFAULT now(),
    leased_until     timestamptz,
    delivered_at     timestamptz,
    by_hand          boolean                NOT NULL DEFAULT false
) WITH (fillfactor = 85);
CREATE INDEX webhook_deliveries_due ON public.webhook_deliveries (host, next_attempt_at, sequence) WHERE status = 'pending';
CREATE INDEX webhook_deliveries_next ON public.webhook_deliveries (next_attempt_at) WHERE status = 'pending';
CREATE INDEX webhook_deliveries_in_order ON public.webhook_deliveries (webhook_id, subject_id, sequence) WHERE status = 'pending';
CREATE INDEX webhook_deliveries_by_webhook ON public.webhook_deliveries (webhook_id, created_at DESC);

COMMENT ON TABLE public.webhook_deliveries IS
    'One row per event and webhook, created in the transaction of the event: none is lost, none invented.';
COMMENT ON COLUMN public.webhook_deliveries.delivery_id IS 'Identifier; sent as webhook-id, equal at every attempt.';
COMMENT ON COLUMN public.webhook_deliveries.sequence IS 'Order of creation: the events of one task are sent in this order.';
COMMENT ON COLUMN public.webhook_deliveries.webhook_id IS 'Its webhook.';
COMMENT ON COLUMN public.webhook_deliveries.host IS 'Host of its webhook''s URL.';
COMMENT ON COLUMN public.webhook_deliveries.event_type IS 'Event type, for example task.completed.';
COMMENT ON COLUMN public.webhook_deliveries.subject_id IS 'The task or chain it tells about.';
COMMENT ON COLUMN public.webhook_deliveries.payload IS 'The body, exactly the bytes that are signed and sent.';
COMMENT ON COLUMN public.webhook_deliveries.status IS 'pending, success, or failed (retries used up, or endpoint gone).';
COMMENT ON COLUMN public.webhook_deliveries.attempt_count IS 'Attempts since it was created or redelivered by hand.';
COMMENT ON COLUMN public.webhook_deliveries.response_code IS 'HTTP status of the latest response.';
COMMENT ON COLUMN public.webhook_deliveries.last_error IS 'What went wrong at the latest attempt.';
COMMENT ON COLUMN public.webhook_deliveries.created_at IS 'When the event happened.';
COMMENT ON COLUMN public.webhook_deliveries.next_attempt_at IS 'When it is tried next; NULL when it has ended.';
COMMENT ON COLUMN public.webhook_deliveries.leased_until IS 'Until then a worker is trying it; a crashed worker''s lease runs out.';
COMMENT ON COLUMN public.webhook_deliveries.delivered_at IS 'When the endpoint accepted it.';
COMMENT ON COLUMN public.webhook_deliveries.by_hand IS
    'Redelivered by hand: it is tried although its subscription has ended or ends, until that is deleted (again).';

CREATE TABLE public.webhook_attempts (
    attempt_id     bigint                 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delivery_id    uuid                   NOT NULL REFERENCES public.webhook_deliveries ON DELETE CASCADE,
    attempted_at   timestamptz            NOT NULL,
    duration_us    bigint                 NOT NULL,
    outcome        public.attempt_outcome NOT NULL,
    response_code  integer,
    response_body  text,
    error          text
);
CREATE INDEX webhook_attempts_by_delivery ON public.webhook_attempts (delivery_id, attempt_id);

COMMENT ON TABLE public.webhook_attempts IS 'Every HTTP attempt of every delivery.';
COMMENT ON COLUMN public.webhook_attempts.attempt_id IS 'Grows with time.';
COMMENT ON COLUMN public.webhook_attempts.delivery_id IS 'Its delivery.';
COMMENT ON COLUMN public.webhook_attempts.attempted_at IS 'When the request was sent.';
COMMENT ON COLUMN public.webhook_attempts.duration_us IS 'Request sent to response or error, in microseconds.';
COMMENT ON COLUMN public.webhook_attempts.outcome IS 'success, http_error, timeout, connect_error or blocked.';
COMMENT ON COLUMN public.webhook_attempts.response_code IS 'HTTP status, when there was a response.';
COMMENT ON COLUMN public.webhook_attempts.response_body IS 'First kilobyte of the response.';
COMMENT ON COLUMN public.webhook_attempts.error IS 'What went wrong.';

-- The webhook ledger.
CREATE TABLE public.webhook_events_open (
    event_id        bigint      NOT NULL GENERATED BY DEFAULT AS IDENTITY (CACHE 100),
    at              timestamptz NOT NULL,
    event           text        NOT NULL,
    delivery_id     uuid        NOT NULL,
    event_type      text        NOT NULL,
    outcome         text        NOT NULL,
    pending_change  smallint    NOT NULL,
    duration_us     bigint
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0,
        autovacuum_analyze_threshold = 100000);
CREATE TABLE public.webhook_events_closed (LIKE public.webhook_events_open) PARTITION BY RANGE (at);
CREATE INDEX webhook_events_closed_by_delivery ON public.webhook_events_closed (delivery_id);
CREATE TABLE public.webhook_events_closed_default PARTITION OF public.webhook_events_closed DEFAULT;
CREATE VIEW public.webhook_events AS
    SELECT * FROM public.webhook_events_open UNION ALL SELECT * FROM public.webhook_events_closed;

COMMENT ON TABLE public.webhook_events_open IS 'Webhook ledger, open part: see task_events_open. Read the view webhook_events.';
COMMENT ON TABLE public.webhook_events_closed IS 'Webhook ledger, closed part: history that is already in metrics.totals, partitioned by time.';
COMMENT ON TABLE public.webhook_events_closed_default IS 'Facts outside every partition made so far.';
COMMENT ON VIEW public.webhook_events IS 'Everything that happened to deliveries: created, attempted, ended, redelivered, deleted.';
COMMENT ON COLUMN public.webhook_events_open.event_id IS 'Orders facts of the same instant; gaps are normal.';
COMMENT ON COLUMN public.webhook_events_open.at IS 'When it was written.';
COMMENT ON COLUMN public.webhook_events_open.event IS 'created, attempted, ended, redelivered or deleted.';
COMMENT ON COLUMN public.webhook_events_open.delivery_id IS 'The delivery; its row may be deleted by now.';
COMMENT ON COLUMN public.webhook_events_open.event_type IS 'Label, for example task.completed.';
COMMENT ON COLUMN public.webhook_events_open.outcome IS 'Of an attempt: success, http_error ...; of an end: success or failed.';
COMMENT ON COLUMN public.webhook_events_open.pending_change IS '+1 when it began to wait for an attempt, -1 when it ceased to, else 0.';
COMMENT ON COLUMN public.webhook_events_open.duration_us IS 'Time of the HTTP attempt in microseconds.';
COMMENT ON COLUMN public.webhook_events_closed.event_id IS 'Orders facts of the same instant; gaps are normal.';
COMMENT ON COLUMN public.webhook_events_closed.at IS 'When it was written.';
COMMENT ON COLUMN public.webhook_events_closed.event IS 'created, attempted, ended, redelivered or deleted.';
COMMENT ON COLUMN public.webhook_events_closed.delivery_id IS 'The delivery; its row may be deleted by now.';
COMMENT ON COLUMN public.webhook_events_closed.event_type IS 'Label, for example task.completed.';
COMMENT ON COLUMN public.webhook_events_closed.outcome IS 'Of an attempt: success, http_error ...; of an end: success or failed.';
COMMENT ON COLUMN public.webhook_events_closed.pending_change IS '+1 when it began to wait for an attempt, -1 when it ceased to, else 0.';
COMMENT ON COLUMN public.webhook_events_closed.duration_us IS 'Time of the HTTP attempt in microseconds.';
COMMENT ON COLUMN public.webhook_events.event_id IS 'Orders facts of the same instant; gaps are normal.';
COMMENT ON COLUMN public.webhook_events.at IS 'When it was written.';
COMMENT ON COLUMN public.webhook_events.event IS 'created, attempted, ended, redelivered or deleted.';
COMMENT ON COLUMN public.webhook_events.delivery_id IS 'The delivery; its row may be deleted by now.';
COMMENT ON COLUMN public.webhook_events.event_type IS 'Label, for example task.completed.';
COMMENT ON COLUMN public.webhook_events.outcome IS 'Of an attempt: success, http_error ...; of an end: success or failed.';
COMMENT ON COLUMN public.webhook_events.pending_change IS '+1 when it began to wait for an attempt, -1 when it ceased to, else 0.';
COMMENT ON COLUMN public.webhook_events.duration_us IS 'Time of the HTTP attempt in microseconds.';

CREATE FUNCTION public.webhook_deliveries_ledger_insert() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.webhook_events_open (at, event, delivery_id, event_type, outcome, pending_change)
    SELECT clock_timestamp(), 'created', n.delivery_id, n.event_type, '', 1 FROM new_rows AS n
     UNION ALL
    SELECT clock_timestamp(), 'ended', n.delivery_id, n.event_type, n.status, -1 FROM new_rows AS n WHERE n.status <> 'pending';
    RETURN NULL;
END $$;
COMMENT ON FUNCTION public.webhook_deliveries_ledger_insert() IS 'Writes new deliveries to the webhook ledger.';

CREATE FUNCTION public.webhook_deliveries_ledger_update() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.webhook_events_open (at, event, delivery_id, event_type, outcome, pending_change)
    SELECT clock_timestamp(), CASE WHEN n.status = 'pending' THEN 'redelivered' ELSE 'ended' END, n.delivery_id, n.event_type,
           CASE WHEN n.status = 'pending' THEN '' ELSE n.status END,
           (n.status = 'pending')::integer - (o.status = 'pending')::integer
      -- FULL, since no nested loop can do it: the plan that suited one row is kept for ten thousand.
      FROM old_rows AS o FULL JOIN new_rows AS n ON n.delivery_id = o.delivery_id
     WHERE o.status IS DISTINCT FROM n.status;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION public.webhook_deliveries_ledger_update() IS 'Writes the ends of deliveries to the webhook ledger.';

CREATE FUNCTION public.webhook_deliveries_ledger_delete() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.webhook_events_open (at, event, delivery_id, event_type, outcome, pending_change)
    SELECT clock_timestamp(), 'deleted', o.delivery_id, o.event_type, '', -1 FROM old_rows AS o WHERE o.status = 'pending';
    RETURN NULL;
END $$;
COMMENT ON FUNCTION public.webhook_deliveries_ledger_delete() IS
    'A pending delivery that is deleted is pending no more; it reached no end and counts as none.';

CREATE FUNCTION public.webhook_deliveries_ledger_truncate() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM public.webhook_deliveries AS d WHERE d.status = 'pending';
    RETURN NULL;
END $$;
COMMENT ON FUNCTION public.webhook_deliveries_ledger_truncate() IS
    'TRUNCATE webhook_deliveries is counted like DELETE of every row.';

CREATE FUNCTION public.webhook_attempts_ledger() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.webhook_events_open (at, event, delivery_id, event_type, outcome, pending_change, duration_us)
    SELECT clock_timestamp(), 'attempted', n.delivery_id, d.event_type, n.outcome, 0, greatest(0, n.duration_us)
      FROM new_rows AS n JOIN public.webhook_deliveries AS d USING (delivery_id);
    RETURN NULL;
END $$;
COMMENT ON FUNCTION public.webhook_attempts_ledger() IS 'Writes attempts to the webhook ledger.';

CREATE TRIGGER webhook_deliveries_ledger_insert AFTER INSERT ON public.webhook_deliveries
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.webhook_deliveries_ledger_insert();
CREATE TRIGGER webhook_deliveries_ledger_update AFTER UPDATE ON public.webhook_deliveries
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION public.webhook_deliveries_ledger_update();
CREATE TRIGGER webhook_deliveries_ledger_delete AFTER DELETE ON public.webhook_deliveries
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION public.webhook_deliveries_ledger_delete();
CREATE TRIGGER webhook_deliveries_ledger_truncate BEFORE TRUNCATE ON public.webhook_deliveries
    FOR EACH STATEMENT EXECUTE FUNCTION public.webhook_deliveries_ledger_truncate();
CREATE TRIGGER webhook_attempts_ledger AFTER INSERT ON public.webhook_attempts
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.webhook_attempts_ledger();

-- Events become deliveries in the transaction of the fact.
CREATE FUNCTION public.deliver_task_event(event text, task public.tasks, to_status text, agent text, reason text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    told text := 'task.' || event;
BEGIN
    INSERT INTO public.webhook_deliveries (webhook_id, host, event_type, subject_id, payload)
    SELECT w.webhook_id, w.host, told, task.task_id,
           json_build_object(
               'type', told,
               'timestamp', to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'),
               'data', json_build_object(
                   'task_id', task.task_id, 'client_id', task.client_id, 'task_type', task.task_type,
                   'status', to_status, 'agent_id', nullif(agent, ''), 'failure_reason', nullif(reason, ''),
                   'result_data', CASE WHEN event = 'completed' THEN task.result_data END,
                   'error_message', CASE WHEN event = 'failed' THEN task.error_message END)
           )::text
      FROM public.webhooks AS w
     WHERE w.agent_id = task.client_id AND w.active AND told = ANY (w.events)
     ORDER BY w.webhook_id;
END $$;
COMMENT ON FUNCTION public.deliver_task_event IS
    'Creates a delivery of this fact for each active webhook that hears it.';

CREATE FUNCTION public.deliver_chain_event() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.webhook_deliveries (webhook_id, host, event_type, subject_id, payload)
    SELECT w.webhook_id, w.host, 'chain.' || lower(NEW.status), NEW.chain_id,
           json_build_object(
               'type', 'chain.' || lower(NEW.status),
               'timestamp', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'),
               'data', json_build_object(
                   'chain_id', NEW.chain_id, 'client_id', NEW.client_id, 'name', NEW.name, 'status', NEW.status,
                   'total_steps', NEW.total_steps, 'current_step', NEW.current_step, 'error_message', NEW.error_message)
           )::text
      FROM public.webhooks AS w
     WHERE w.agent_id = NEW.client_id AND w.active AND 'chain.' || lower(NEW.status) = ANY (w.events)
     ORDER BY w.webhook_id;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION public.deliver_chain_event() IS 'Creates the deliveries of chain.completed and chain.failed.';
CREATE TRIGGER task_chains_deliver AFTER UPDATE OF status ON public.task_chains
    FOR EACH ROW WHEN (NEW.status IN ('COMPLETED', 'FAILED') AND OLD.status IS DISTINCT FROM NEW.status)
    EXECUTE FUNCTION public.deliver_chain_event();
