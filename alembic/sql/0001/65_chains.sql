-- Chains: steps that run one after the other, each as a task of its own.

CREATE TABLE public.task_chains (
    chain_id       uuid                PRIMARY KEY,
    name           text                NOT NULL,
    client_id      text                NOT NULL,
    status         public.chain_status NOT NULL DEFAULT 'PENDING',
    total_steps    integer             NOT NULL,
    current_step   integer             NOT NULL DEFAULT 0,
    error_message  text,
    created_at     timestamptz         NOT NULL DEFAULT now(),
    updated_at     timestamptz         NOT NULL DEFAULT now(),
    started_at     timestamptz,
    completed_at   timestamptz,
    CONSTRAINT task_chains_has_steps CHECK (total_steps BETWEEN 1 AND 100)
);
CREATE INDEX task_chains_by_creation ON public.task_chains (created_at, chain_id);
CREATE INDEX task_chains_by_client ON public.task_chains (client_id, created_at);
CREATE INDEX task_chains_by_status ON public.task_chains (status, created_at);

COMMENT ON TABLE public.task_chains IS 'One row per chain. An ended chain stays ended.';
COMMENT ON COLUMN public.task_chains.chain_id IS 'Identifier given by AINS (UUID version 7).';
COMMENT ON COLUMN public.task_chains.name IS 'Name for people.';
COMMENT ON COLUMN public.task_chains.client_id IS 'Who submitted it; also the client of its tasks.';
COMMENT ON COLUMN public.task_chains.status IS 'PENDING until the first step''s task is assigned, RUNNING, then COMPLETED, FAILED or CANCELLED.';
COMMENT ON COLUMN public.task_chains.total_steps IS 'Number of steps.';
COMMENT ON COLUMN public.task_chains.current_step IS 'Index of the step that waits or runs, from 0; total_steps when all are completed.';
COMMENT ON COLUMN public.task_chains.error_message IS 'Why it failed.';
COMMENT ON COLUMN public.task_chains.created_at IS 'When it was accepted.';
COMMENT ON COLUMN public.task_chains.updated_at IS 'When it last changed.';
COMMENT ON COLUMN public.task_chains.started_at IS 'When its first step started.';
COMMENT ON COLUMN public.task_chains.completed_at IS 'When it ended, however it ended.';

CREATE TABLE public.chain_steps (
    chain_id             uuid                   NOT NULL REFERENCES public.task_chains ON DELETE CASCADE,
    step_index           integer                NOT NULL,
    name                 text,
    task_type            text                   NOT NULL,
    capability_required  text                   NOT NULL,
    input_data           json                   NOT NULL DEFAULT '{}',
    priority             public.task_priority   NOT NULL DEFAULT 5,
    timeout_seconds      public.timeout_seconds NOT NULL DEFAULT 300,
    max_retries          public.retries         NOT NULL DEFAULT 3,
    use_previous_output  boolean                NOT NULL DEFAULT false,
    status               public.chain_status    NOT NULL DEFAULT 'PENDING',
    task_id              uuid,
    result_data          json,
    error_message        text,
    started_at           timestamptz,
    completed_at         timestamptz,
    PRIMARY KEY (chain_id, step_index),
    -- As with the types above: what its task could not be must not be found out when the step before completes.
    CONSTRAINT chain_steps_input_is_object CHECK (json_typeof(input_data) = 'object')
);
CREATE UNIQUE INDEX chain_steps_by_task ON public.chain_steps (task_id) WHERE task_id IS NOT NULL;

COMMENT ON TABLE public.chain_steps IS
    'The steps of chains. A step''s task is created in the transaction that completed the step before, so a crash loses and repeats none.';
COMMENT ON COLUMN public.chain_steps.chain_id IS 'Its chain.';
COMMENT ON COLUMN public.chain_steps.step_index IS 'Its place in the chain, from 0.';
COMMENT ON COLUMN public.chain_steps.name IS 'Name for people.';
COMMENT ON COLUMN public.chain_steps.task_type IS 'task_type of its task.';
COMMENT ON COLUMN public.chain_steps.capability_required IS 'capability_required of its task.';
COMMENT ON COLUMN public.chain_steps.input_data IS 'Input of its task, as submitted.';
COMMENT ON COLUMN public.chain_steps.priority IS 'Priority of its task.';
COMMENT ON COLUMN public.chain_steps.timeout_seconds IS 'timeout_seconds of its task.';
COMMENT ON COLUMN public.chain_steps.max_retries IS 'max_retries of its task.';
COMMENT ON COLUMN public.chain_steps.use_previous_output IS 'Whether the result of the step before is added to the input as previous_output.';
COMMENT ON COLUMN public.chain_steps.status IS 'PENDING until its task is assigned, RUNNING, then COMPLETED, FAILED or CANCELLED.';
COMMENT ON COLUMN public.chain_steps.task_id IS 'Its task, once it has one.';
COMMENT ON COLUMN public.chain_steps.result_data IS 'Result of its task, kept when the task is pruned.';
COMMENT ON COLUMN public.chain_steps.error_message IS 'Why it failed.';
COMMENT ON COLUMN public.chain_steps.started_at IS 'When its task was first assigned.';
COMMENT ON COLUMN public.chain_steps.completed_at IS 'When it ended.';

-- The chain ledger: as for tasks, one row per transition of a chain or a step.
CREATE TABLE public.chain_events_open (
    event_id     bigint      NOT NULL GENERATED BY DEFAULT AS IDENTITY (CACHE 20),
    at           timestamptz NOT NULL,
    subject      text        NOT NULL,
    chain_id     uuid        NOT NULL,
    step_index   integer,
    from_status  text        NOT NULL,
    to_status    text        NOT NULL,
    duration_us  bigint
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0,
        autovacuum_analyze_threshold = 100000);
CREATE TABLE public.chain_events_closed (LIKE public.chain_events_open) PARTITION BY RANGE (at);
CREATE INDEX chain_events_closed_by_chain ON public.chain_events_closed (chain_id);
CREATE TABLE public.chain_events_closed_default PARTITION OF public.chain_events_closed DEFAULT;
CREATE VIEW public.chain_events AS
    SELECT * FROM public.chain_events_open UNION ALL SELECT * FROM public.chain_events_closed;

COMMENT ON TABLE public.chain_events_open IS 'Chain ledger, open part: see task_events_open. Read the view chain_events.';
COMMENT ON TABLE public.chain_events_closed IS 'Chain ledger, closed part: history that is already in metrics.totals, partitioned by time.';
COMMENT ON TABLE public.chain_events_closed_default IS 'Facts outside every partition made so far.';
COMMENT ON VIEW public.chain_events IS 'Everything that happened to chains and their steps, one row per transition.';
COMMENT ON COLUMN public.chain_events_open.event_id IS 'Orders facts of the same instant; gaps are normal.';
COMMENT ON COLUMN public.chain_events_open.at IS 'When it was written.';
COMMENT ON COLUMN public.chain_events_open.subject IS 'chain or step.';
COMMENT ON COLUMN public.chain_events_open.chain_id IS 'The chain; its row may be deleted by now.';
COMMENT ON COLUMN public.chain_events_open.step_index IS 'The step, NULL for the chain itself.';
COMMENT ON COLUMN public.chain_events_open.from_status IS 'Status before, empty for a new chain.';
COMMENT ON COLUMN public.chain_events_open.to_status IS 'Status after.';
COMMENT ON COLUMN public.chain_events_open.duration_us IS 'Started to finished in microseconds, when this ended the chain.';
COMMENT ON COLUMN public.chain_events_closed.event_id IS 'Orders facts of the same instant; gaps are normal.';
COMMENT ON COLUMN public.chain_events_closed.at IS 'When it was written.';
COMMENT ON COLUMN public.chain_events_closed.subject IS 'chain or step.';
COMMENT ON COLUMN public.chain_events_closed.chain_id IS 'The chain; its row may be deleted by now.';
COMMENT ON COLUMN public.chain_events_closed.step_index IS 'The step, NULL for the chain itself.';
COMMENT ON COLUMN public.chain_events_closed.from_status IS 'Status before, empty for a new chain.';
COMMENT ON COLUMN public.chain_events_closed.to_status IS 'Status after.';
COMMENT ON COLUMN public.chain_events_closed.duration_us IS 'Started to finished in microseconds, when this ended the chain.';
COMMENT ON COLUMN public.chain_events.event_id IS 'Orders facts of the same instant; gaps are normal.';
COMMENT ON COLUMN public.chain_events.at IS 'When it was written.';
COMMENT ON COLUMN public.chain_events.subject IS 'chain or step.';
COMMENT ON COLUMN public.chain_events.chain_id IS 'The chain; its row may be deleted by now.';
COMMENT ON COLUMN public.chain_events.step_index IS 'The step, NULL for the chain itself.';
COMMENT ON COLUMN public.chain_events.from_status IS 'Status before, empty for a new chain.';
COMMENT ON COLUMN public.chain_events.to_status IS 'Status after.';
COMMENT ON COLUMN public.chain_events.duration_us IS 'Started to finished in microseconds, when this ended the chain.';

CREATE FUNCTION public.write_chain_fact(
    subject text, chain_id uuid, step_index integer, from_status text, to_status text, duration_us bigint DEFAULT NULL
) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO public.chain_events_open (at, subject, chain_id, step_index, from_status, to_status, duration_us)
    VALUES (clock_timestamp(), $1, $2, $3, $4, $5, $6)
$$;
COMMENT ON FUNCTION public.write_chain_fact(text, uuid, integer, text, text, bigint) IS 'Writes one fact to the chain ledger.';

CREATE FUNCTION public.task_chains_ledger() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    chain     public.task_chains := CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
    old_status text := CASE WHEN TG_OP = 'INSERT' THEN '' ELSE OLD.status END;
    new_status text := CASE WHEN TG_OP = 'DELETE' THEN 'CANCELLED' ELSE NEW.status END;
BEGIN
    -- A chain always enters through PENDING, whatever somebody writes, so that every sum balances.
    IF old_status = '' AND new_status <> 'PENDING' THEN
        PERFORM public.write_chain_fact('chain', chain.chain_id, NULL, '', 'PENDING');
        old_status := 'PENDING';
    END IF;
    PERFORM public.write_chain_fact(
        'chain', chain.chain_id, NULL, old_status, new_status,
        CASE WHEN new_status = 'COMPLETED' OR new_status IN ('FAILED', 'CANCELLED') AND chain.started_at IS NOT NULL
             THEN coalesce(public.microseconds(coalesce(chain.completed_at, now()) - chain.started_at), 0) END
    );
    RETURN NULL;
END $$;
COMMENT ON FUNCTION public.task_chains_ledger() IS
    'Writes the transitions of chains to the chain ledger. A live chain that is deleted counts as cancelled.';

CREATE TRIGGER task_chains_ledger_insert AFTER INSERT ON public.task_chains
    FOR EACH ROW EXECUTE FUNCTION public.task_chains_ledger();
CREATE TRIGGER task_chains_ledger_update AFTER UPDATE OF status ON public.task_chains
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION public.task_chains_ledger();
CREATE TRIGGER task_chains_ledger_delete AFTER DELETE ON public.task_chains
    FOR EACH ROW WHEN (OLD.status IN ('PENDING', 'RUNNING')) EXECUTE FUNCTION public.task_chains_ledger();

CREATE FUNCTION public.chain_steps_ledger() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM public.write_chain_fact(
        'step', NEW.chain_id, NEW.step_index, CASE WHEN TG_OP = 'INSERT' THEN '' ELSE OLD.status END, NEW.status);
    RETURN NULL;
END $$;
COMMENT ON FUNCTION public.chain_steps_ledger() IS 'Writes the transitions of steps to the chain ledger.';
CREATE TRIGGER chain_steps_ledger_insert AFTER INSERT ON public.chain_steps
    FOR EACH ROW WHEN (NEW.status <> 'PENDING') EXECUTE FUNCTION public.chain_steps_ledger();
CREATE TRIGGER chain_steps_ledger_update AFTER UPDATE OF status ON public.chain_steps
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION public.chain_steps_ledger();

-- What must hold whoever writes: a chain never goes back, and an ended one has nothing left that lives; steps leave
-- with their chain.
CREATE FUNCTION public.task_chains_go_forward() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status = 'RUNNING' THEN
        RAISE EXCEPTION 'chain % is RUNNING and was created once: it can''t be PENDING again', OLD.chain_id
            USING ERRCODE = 'check_violation', HINT = 'Cancel the chain and submit it again.';
    END IF;
    RAISE EXCEPTION 'chain % is %; an ended chain stays ended', OLD.chain_id, OLD.status
        USING ERRCODE = 'check_violation', HINT = 'Submit the chain again.';
END $$;
COMMENT ON FUNCTION public.task_chains_go_forward() IS
    'Refuses to change the status of an ended chain, or of a running one to PENDING.';
CREATE TRIGGER task_chains_go_forward BEFORE UPDATE OF status ON public.task_chains
    FOR EACH ROW WHEN (OLD.status IN ('COMPLETED', 'FAILED', 'CANCELLED') AND NEW.status <> OLD.status
                       OR OLD.status = 'RUNNING' AND NEW.status = 'PENDING')
    EXECUTE FUNCTION public.task_chains_go_forward();

CREATE FUNCTION public.task_chains_ended() RETURNS trigger
LANGUAGE plpgsql
SET enable_seqscan = off AS $$
DECLARE
    live uuid[];
BEGIN
    WITH ended AS (
        UPDATE public.chain_steps AS s
           SET status = 'CANCELLED', completed_at = now()
         WHERE s.chain_id = OLD.chain_id AND s.status IN ('PENDING', 'RUNNING')
        RETURNING s.task_id
    )
    SELECT array_agg(ended.task_id) FILTER (WHERE ended.task_id IS NOT NULL) INTO live FROM ended;
    IF live IS NOT NULL THEN
        UPDATE public.tasks AS t
           SET status = 'CANCELLED', cancel_reason = 'chain ended', is_blocked = false,
               deadline_at = NULL, next_retry_at = NULL, completed_at = now(), updated_at = now()
         WHERE t.task_id = ANY (live)
           -- CASE: to be found by the key, and not among all that are live.
           AND CASE WHEN t.status IN ('PENDING', 'ASSIGNED', 'ACTIVE') THEN true END;
    END IF;
    RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD END;
END $$;
COMMENT ON FUNCTION public.task_chains_ended() IS
    'Whatever of an ended or deleted chain has not ended yet is cancelled: steps that wait or run, and their tasks.';
CREATE TRIGGER task_chains_ended AFTER UPDATE OF status ON public.task_chains
    FOR EACH ROW WHEN (OLD.status IN ('PENDING', 'RUNNING') AND NEW.status NOT IN ('PENDING', 'RUNNING'))
    EXECUTE FUNCTION public.task_chains_ended();
CREATE TRIGGER task_chains_deleted BEFORE DELETE ON public.task_chains
    FOR EACH ROW WHEN (OLD.status IN ('PENDING', 'RUNNING')) EXECUTE FUNCTION public.task_chains_ended();

CREATE FUNCTION public.chain_steps_truncated() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE public.task_chains AS c
       SET status = 'CANCELLED', completed_at = now(), updated_at = now()
     WHERE c.status IN ('PENDING', 'RUNNING');
    RETURN NULL;
END $$;
COMMENT ON FUNCTION public.chain_steps_truncated() IS 'TRUNCATE of chains or steps cancels what lives.';
-- Chains can't be truncated without their steps.
CREATE TRIGGER chain_steps_truncated BEFORE TRUNCATE ON public.chain_steps
    FOR EACH STATEMENT EXECUTE FUNCTION public.chain_steps_truncated();

CREATE FUNCTION public.chain_steps_stay() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'step % of chain % cannot be deleted alone', OLD.step_index, OLD.chain_id
        USING ERRCODE = 'restrict_violation', HINT = 'Delete the chain.';
END $$;
COMMENT ON FUNCTION public.chain_steps_stay() IS 'Refuses to delete a step without its chain.';
CREATE TRIGGER chain_steps_stay BEFORE DELETE ON public.chain_steps
    FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION public.chain_steps_stay();

CREATE FUNCTION public.uuid7() RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
    -- 48 bits of Unix milliseconds over a random (version 4) UUID, whose version 0100 becomes 0111.
    SELECT encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
               PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
               FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid
$$;
COMMENT ON FUNCTION public.uuid7() IS 'A UUID of version 7 (RFC 9562): grows with time.';

CREATE FUNCTION public.start_chain_step(chain uuid, step integer, previous json) RETURNS uuid
LANGUAGE plpgsql
SET enable_seqscan = off AS $$
DECLARE
    new_task uuid := public.uuid7();
BEGIN
    INSERT INTO public.tasks
        (task_id, client_id, task_type, capability_required, input_data, priority, timeout_seconds, max_retries, metadata)
    SELECT new_task, c.client_id, s.task_type, s.capability_required,
           -- Values keep their text: numbers are not rounded, nothing is reordered.
           CASE WHEN s.use_previous_output AND step > 0
                THEN (SELECT json_object_agg(e.key, e.value)
                        FROM (SELECT i.key, i.value FROM json_each(s.input_data) AS i WHERE i.key <> 'previous_output'
                              UNION ALL
                              SELECT 'previous_output', coalesce(previous, 'null'::json)) AS e)
                ELSE s.input_data END,
           s.priority, s.timeout_seconds, s.max_retries,
           json_build_object('chain_id', c.chain_id, 'step_index', s.step_index)
      FROM public.chain_steps AS s
      JOIN public.task_chains AS c USING (chain_id)
     WHERE s.chain_id = chain AND s.step_index = step;
    UPDATE public.chain_steps AS s SET task_id = new_task WHERE s.chain_id = chain AND s.step_index = step;
    RETURN new_task;
END $$;
COMMENT ON FUNCTION public.start_chain_step(uuid, integer, json) IS
    'Creates the task of a step; previous is the result of the step before, for use_previous_output.';

CREATE FUNCTION public.advance_chain(task public.tasks, to_status text, reason text) RETURNS void
LANGUAGE plpgsql
-- Every lookup has its index, also by a plan that was made when there were no chains.
SET enable_seqscan = off AS $$
DECLARE
    step record;
    why  text := nullif(CASE to_status WHEN 'FAILED' THEN coalesce(task.error_message, reason)
                                       WHEN 'CANCELLED' THEN coalesce(nullif(reason, ''), task.cancel_reason) END, '');
BEGIN
    SELECT s.chain_id, s.step_index INTO step
      FROM public.chain_steps AS s
     WHERE s.task_id = task.task_id AND s.status IN ('PENDING', 'RUNNING');
    IF NOT FOUND THEN
        RETURN;
    END IF;
    -- One at a time per chain, always after the task: a cancellation and a completion meet here.
    PERFORM FROM public.task_chains AS c
      WHERE c.chain_id = step.chain_id AND c.status IN ('PENDING', 'RUNNING') FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF to_status IN ('ASSIGNED', 'ACTIVE', 'COMPLETED') THEN
        UPDATE public.task_chains AS c
           SET status = 'RUNNING', started_at = now(), updated_at = now()
         WHERE c.chain_id = step.chain_id AND c.status = 'PENDING';
        UPDATE public.chain_steps AS s
           SET status = 'RUNNING', started_at = now()
         WHERE s.chain_id = step.chain_id AND s.step_index = step.step_index AND s.status = 'PENDING';
        IF to_status <> 'COMPLETED' THEN
            RETURN;
        END IF;
    END IF;
    UPDATE public.chain_steps AS s
       SET status = to_status, completed_at = now(), result_data = task.result_data, error_message = why
     WHERE s.chain_id = step.chain_id AND s.step_index = step.step_index;
    IF to_status = 'COMPLETED' THEN
        UPDATE public.task_chains AS c
           SET current_step = step.step_index + 1, updated_at = now(),
               status = CASE WHEN step.step_index + 1 >= c.total_steps THEN 'COMPLETED' ELSE c.status END,
               completed_at = CASE WHEN step.step_index + 1 >= c.total_steps THEN now() END
         WHERE c.chain_id = step.chain_id;
        PERFORM public.start_chain_step(s.chain_id, s.step_index, task.result_data)
           FROM public.chain_steps AS s
          WHERE s.chain_id = step.chain_id AND s.step_index = step.step_index + 1 AND s.status = 'PENDING';
    ELSE
        UPDATE public.task_chains AS c
           SET status = to_status, completed_at = now(), updated_at = now(),
               error_message = concat_ws(': ', format('Step %s %s', step.step_index,
                   CASE to_status WHEN 'FAILED' THEN 'failed' ELSE 'was cancelled' END), why)
         WHERE c.chain_id = step.chain_id;
    END IF;
END $$;
COMMENT ON FUNCTION public.advance_chain IS
    'Moves a chain on when the task of its step was assigned or ended: the next step''s task is created in the transaction that completed the one before.';

CREATE FUNCTION public.cancel_chain(chain uuid) RETURNS TABLE (status text, cancelled boolean)
LANGUAGE plpgsql
SET enable_seqscan = off AS $$
#variable_conflict use_column
BEGIN
    cancelled := false;
    FOR attempt IN 1..10 LOOP
        -- By its task, and advance_chain() does the rest: everybody locks the task first and then the chain.
        UPDATE public.tasks AS t
           SET status = 'CANCELLED', cancel_reason = 'chain cancelled', is_blocked = false,
               deadline_at = NULL, next_retry_at = NULL, completed_at = now(), updated_at = now()
         WHERE t.task_id = ANY (ARRAY(SELECT s.task_id FROM public.chain_steps AS s
                                       WHERE s.chain_id = chain AND s.status IN ('PENDING', 'RUNNING')))
           AND CASE WHEN t.status IN ('PENDING', 'ASSIGNED', 'ACTIVE') THEN true END;
        cancelled := FOUND;
        SELECT c.status INTO status FROM public.task_chains AS c WHERE c.chain_id = chain;
        IF NOT FOUND THEN
            RETURN;
        END IF;
        IF status NOT IN ('PENDING', 'RUNNING') THEN
            IF cancelled THEN
                UPDATE public.task_chains AS c SET error_message = NULL WHERE c.chain_id = chain;
            END IF;
            RETURN NEXT;
            RETURN;
        END IF;
        -- Its step completed just now: the next one has a task by now.
    END LOOP;
    -- Or somebody made a live chain without a live task.
    UPDATE public.task_chains AS c
       SET status = 'CANCELLED', completed_at = now(), updated_at = now()
     WHERE c.chain_id = chain AND c.status IN ('PENDING', 'RUNNING');
    cancelled := FOUND;
    RETURN QUERY SELECT c.status::text, cancelled FROM public.task_chains AS c WHERE c.chain_id = chain;
END $$;
COMMENT ON FUNCTION public.cancel_chain(uuid) IS
    'Cancels a live chain, its steps and its task. Returns the status of the chain now and whether this call cancelled it; nothing when it is unknown.';

CREATE FUNCTION public.submit_chain(chain uuid, chain_name text, client text, steps json) RETURNS SETOF public.task_chains
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.task_chains (chain_id, name, client_id, total_steps)
    VALUES (chain, chain_name, client, json_array_length(steps));
    INSERT INTO public.chain_steps
        (chain_id, step_index, name, task_type, capability_required, input_data, priority, timeout_seconds,
         max_retries, use_previous_output)
    SELECT chain, e.place - 1, s.name, s.task_type, s.capability_required, coalesce(s.input_data, '{}'),
           coalesce(s.priority, 5), coalesce(s.timeout_seconds, 300), coalesce(s.max_retries, 3),
           coalesce(s.use_previous_output, false)
      FROM json_array_elements(steps) WITH ORDINALITY AS e (step, place)
     CROSS JOIN LATERAL json_to_record(e.step) AS s (
           name text, task_type text, capability_required text, input_data json, priority smallint,
           timeout_seconds integer, max_retries integer, use_previous_output boolean);
    PERFORM public.start_chain_step(chain, 0, NULL);
    RETURN QUERY SELECT * FROM public.task_chains AS c WHERE c.chain_id = chain;
END $$;
COMMENT ON FUNCTION public.submit_chain(uuid, text, text, json) IS
    'Creates a chain, its steps (a JSON array of objects) and the task of the first one.';
