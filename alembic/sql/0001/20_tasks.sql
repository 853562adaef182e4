-- Tasks: one row from acceptance to end.

CREATE TABLE public.tasks (
    task_id              uuid                    PRIMARY KEY DEFAULT gen_random_uuid(),
    client_id            text                    NOT NULL,
    task_type            text                    NOT NULL,
    capability_required  text                    NOT NULL,
    status               public.task_status      NOT NULL DEFAULT 'PENDING',
    priority             public.task_priority    NOT NULL DEFAULT 5,
    is_blocked           boolean                 NOT NULL DEFAULT false,
    routing_strategy     public.routing_strategy NOT NULL DEFAULT 'round_robin',
    retry_policy         public.retry_policy     NOT NULL DEFAULT 'exponential',
    max_retries          public.retries          NOT NULL DEFAULT 3,
    retry_count          public.retries          NOT NULL DEFAULT 0,
    timeout_seconds      public.timeout_seconds  NOT NULL DEFAULT 300,
    assigned_agent_id    text,
    last_agent_id        text,
    failure_reason       public.failure_code,
    error_message        text,
    cancel_reason        text,
    input_data           json                    NOT NULL DEFAULT '{}',
    result_data          json,
    metadata             json,
    created_at           timestamptz             NOT NULL DEFAULT now(),
    updated_at           timestamptz             NOT NULL DEFAULT now(),
    queued_at            timestamptz             NOT NULL DEFAULT now(),
    next_retry_at        timestamptz,
    assigned_at          timestamptz,
    started_at           timestamptz,
    deadline_at          timestamptz,
    completed_at         timestamptz,
    expires_at           timestamptz
) WITH (fillfactor = 85);

-- Lists, newest first: one index for each filter the API offers. With the status in second place, a list
-- of one status is one range of an index, and a list of all is the ends of six.
CREATE INDEX tasks_by_status ON public.tasks (status, created_at, task_id);
CREATE INDEX tasks_by_client ON public.tasks (client_id, status, created_at, task_id);
CREATE INDEX tasks_by_type ON public.tasks (task_type, status, created_at, task_id);
CREATE INDEX tasks_by_agent ON public.tasks (assigned_agent_id, status, created_at, task_id)
    WHERE assigned_agent_id IS NOT NULL;
-- The live few, found without looking at the finished many. A retry that waits for its time is not
-- runnable; when it falls due, next_retry_at is cleared.
CREATE INDEX tasks_runnable ON public.tasks (lower(capability_required), priority DESC, created_at)
    WHERE status = 'PENDING' AND NOT is_blocked AND next_retry_at IS NULL;
CREATE INDEX tasks_oldest_runnable ON public.tasks (created_at)
    WHERE status = 'PENDING' AND NOT is_blocked AND next_retry_at IS NULL;
CREATE INDEX tasks_retry_due ON public.tasks (next_retry_at) WHERE status = 'PENDING' AND next_retry_at IS NOT NULL;
CREATE INDEX tasks_expiry ON public.tasks (expires_at) WHERE status = 'PENDING' AND expires_at IS NOT NULL;
CREATE INDEX tasks_deadline ON public.tasks (deadline_at) WHERE status IN ('ASSIGNED', 'ACTIVE');
CREATE INDEX tasks_in_flight ON public.tasks (assigned_agent_id) WHERE status IN ('ASSIGNED', 'ACTIVE');

COMMENT ON TABLE public.tasks IS
    'One row per task, its current state. What happened to it is in task_events; counters come from there, so deleting ended rows changes no counter.';
COMMENT ON COLUMN public.tasks.task_id IS 'Identifier given by AINS (UUID version 7: grows with time); may not be changed.';
COMMENT ON COLUMN public.tasks.client_id IS 'Who submitted it.';
COMMENT ON COLUMN public.tasks.task_type IS 'Kind of work; a label of most task metrics.';
COMMENT ON COLUMN public.tasks.capability_required IS 'Capability or tag that an agent needs to be given it; compared without regard to case.';
COMMENT ON COLUMN public.tasks.status IS 'PENDING -> ASSIGNED -> ACTIVE -> COMPLETED | FAILED | CANCELLED; a failed attempt returns to PENDING while retries are left.';
COMMENT ON COLUMN public.tasks.priority IS '1 (last) to 10 (first).';
COMMENT ON COLUMN public.tasks.is_blocked IS 'True while it waits for another task; a blocked task is PENDING but not dispatched.';
COMMENT ON COLUMN public.tasks.routing_strategy IS 'How an agent is chosen: round_robin, least_loaded, trust_weighted, fastest_response.';
COMMENT ON COLUMN public.tasks.retry_policy IS 'Delay before retry n: exponential min(2^n, 60) s, linear 5n s, fixed 10 s.';
COMMENT ON COLUMN public.tasks.max_retries IS 'How often a failed attempt may be repeated.';
COMMENT ON COLUMN public.tasks.retry_count IS 'How often it has been repeated.';
COMMENT ON COLUMN public.tasks.timeout_seconds IS 'Seconds that one attempt may take.';
COMMENT ON COLUMN public.tasks.assigned_agent_id IS 'The agent that has it (ASSIGNED, ACTIVE: tasks_ledger() refuses a task without one) or ended it.';
COMMENT ON COLUMN public.tasks.last_agent_id IS 'The agent of the latest attempt, kept when the task goes back to the queue.';
COMMENT ON COLUMN public.tasks.failure_reason IS 'Code of the latest failure: agent_error, timeout, expired, agent_lost, dependency_failed, or a code of the agent''s own; NULL while an attempt runs. FAILED without one counts as unknown.';
COMMENT ON COLUMN public.tasks.error_message IS 'What the agent wrote about the latest failure; free text.';
COMMENT ON COLUMN public.tasks.cancel_reason IS 'What the client wrote when it cancelled; free text.';
COMMENT ON COLUMN public.tasks.input_data IS 'Input, exactly as submitted (json, not jsonb: nothing of it is rewritten).';
COMMENT ON COLUMN public.tasks.result_data IS 'Result, exactly as the agent sent it.';
COMMENT ON COLUMN public.tasks.metadata IS 'Metadata of the client, exactly as submitted.';
COMMENT ON COLUMN public.tasks.created_at IS 'When it was accepted.';
COMMENT ON COLUMN public.tasks.updated_at IS 'When it last changed state or settings.';
COMMENT ON COLUMN public.tasks.queued_at IS 'Start of the current wait in the queue: created_at, or when the retry falls due; ains_task_queue_seconds counts from here.';
COMMENT ON COLUMN public.tasks.next_retry_at IS 'When the retry falls due; NULL otherwise, and again once it is due: only then is the task dispatched.';
COMMENT ON COLUMN public.tasks.assigned_at IS 'When the current or final attempt was assigned.';
COMMENT ON COLUMN public.tasks.started_at IS 'When the current or final attempt started.';
COMMENT ON COLUMN public.tasks.deadline_at IS 'When the current attempt times out: started_at (else assigned_at) plus timeout_seconds.';
COMMENT ON COLUMN public.tasks.completed_at IS 'When it ended, however it ended.';
COMMENT ON COLUMN public.tasks.expires_at IS 'If it is still PENDING then, it fails with expired.';

-- The ledger, chains and dependents know a task by its key, and the ledger has counted it under its type and client.
-- AFTER, since a table with a trigger BEFORE UPDATE has each row locked first, whichever columns change, and that logged.
CREATE FUNCTION public.tasks_refuse_new_key() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'task_id, client_id and task_type of task % cannot be changed', OLD.task_id
        USING ERRCODE = 'restrict_violation', HINT = 'Insert a new task instead.';
END $$;
COMMENT ON FUNCTION public.tasks_refuse_new_key() IS 'Refuses to change the key of a task, its type or its client.';

CREATE TRIGGER tasks_refuse_new_key AFTER UPDATE OF task_id, client_id, task_type ON public.tasks
    FOR EACH ROW WHEN ((OLD.task_id, OLD.client_id, OLD.task_type) IS DISTINCT FROM (NEW.task_id, NEW.client_id, NEW.task_type))
    EXECUTE FUNCTION public.tasks_refuse_new_key();

CREATE FUNCTION public.retry_delay(policy text, retry integer) RETURNS interval
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT make_interval(secs => CASE policy
        WHEN 'linear' THEN 5.0 * retry
        WHEN 'fixed' THEN 10.0
        ELSE least(2.0 ^ least(retry, 6), 60.0)
    END)
$$;
COMMENT ON FUNCTION public.retry_delay(text, integer) IS
    'Delay before the retry of this ordinal (1..): exponential min(2^n, 60) s, linear 5n s, fixed 10 s.';

CREATE FUNCTION public.end_attempts(
    ids uuid[], reason text, message text DEFAULT NULL, result json DEFAULT NULL, reported boolean DEFAULT false
) RETURNS SETOF public.tasks
LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(ids) > 1 THEN
        -- Whose trust will change, in the order of the keys, so that two batches can't wait for each other in a
        -- circle, nor with a group of reports, which ains/db/lane.py sends in this order.
        PERFORM FROM public.agents AS a
          WHERE a.agent_id = ANY (ARRAY(SELECT t.assigned_agent_id FROM public.tasks AS t
                                         WHERE t.task_id = ANY (ids) AND t.retry_count >= t.max_retries))
          ORDER BY a.agent_id COLLATE "C" FOR NO KEY UPDATE;
    END IF;
    RETURN QUERY
    UPDATE public.tasks AS t
       SET status            = CASE WHEN t.retry_count < t.max_retries THEN 'PENDING' ELSE 'FAILED' END,
           retry_count       = t.retry_count + (t.retry_count < t.max_retries)::integer,
           next_retry_at     = CASE WHEN t.retry_count < t.max_retries
                                    THEN now() + public.retry_delay(t.retry_policy, t.retry_count + 1) END,
           queued_at         = CASE WHEN t.retry_count < t.max_retries
                                    THEN now() + public.retry_delay(t.retry_policy, t.retry_count + 1)
                                    ELSE t.queued_at END,
           last_agent_id     = t.assigned_agent_id,
           assigned_agent_id = CASE WHEN t.retry_count < t.max_retries THEN NULL ELSE t.assigned_agent_id END,
           assigned_at       = CASE WHEN t.retry_count < t.max_retries THEN NULL ELSE t.assigned_at END,
           started_at        = CASE WHEN t.retry_count < t.max_retries THEN NULL
                                    WHEN reported THEN coalesce(t.started_at, t.assigned_at)
                                    ELSE t.started_at END,
           deadline_at       = NULL,
           completed_at      = CASE WHEN t.retry_count < t.max_retries THEN NULL ELSE now() END,
           failure_reason    = reason,
           error_message     = message,
           result_data       = coalesce(result, t.result_data),
           updated_at        = now()
     WHERE t.task_id = ANY (ids)
       AND t.status IN ('ASSIGNED', 'ACTIVE')
    RETURNING t.*;
END $$;
COMMENT ON FUNCTION public.end_attempts(uuid[], text, text, json, boolean) IS
    'Ends the running attempts of these tasks as failed: back to PENDING with the next retry due after retry_delay, or FAILED when no retry is left. Tasks that are not ASSIGNED or ACTIVE are left alone. One rule for failed, timed-out and lost attempts; one that its agent reported is taken as started at assignment, whatever the reason.';
