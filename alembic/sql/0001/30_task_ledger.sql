-- The task ledger: one row for every transition of a task, or for its creation with the first one, written by
-- triggers, so that no writer can forget: the API, a worker, a batch, or somebody's UPDATE in psql.

-- What only some facts have to say, so that the others need not write it: every column of a fact costs the writer of a
-- task some 50 ns and its bytes, which is why they are few.
CREATE TYPE public.task_event_details AS (
    reason         text,
    retry          integer,
    from_priority  smallint,
    blocked_change smallint
);
COMMENT ON TYPE public.task_event_details IS
    'What few facts of the task ledger say; the view task_events shows it as columns of their own.';
COMMENT ON COLUMN public.task_event_details.reason IS 'Failure code of a failed or retried attempt; deleted for a live row that was deleted; else empty.';
COMMENT ON COLUMN public.task_event_details.retry IS 'Ordinal of the retry that this scheduled (1..), 0 when it scheduled none.';
COMMENT ON COLUMN public.task_event_details.from_priority IS 'Priority before, of a task that was in the queue.';
COMMENT ON COLUMN public.task_event_details.blocked_change IS '+1 when a blocked task began to wait in the queue, -1 when one ceased to, else 0.';

CREATE TABLE public.task_events_open (
    at          timestamptz NOT NULL,
    task_id     uuid        NOT NULL,
    task_type   text        NOT NULL,
    client_id   text        NOT NULL,
    agent_id    text        NOT NULL,
    from_status text        NOT NULL,
    to_status   text        NOT NULL,
    priority    smallint    NOT NULL,
    took_us     bigint,
    details     public.task_event_details
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0,
        autovacuum_analyze_threshold = 100000);

CREATE TABLE public.task_events_closed (
    LIKE public.task_events_open
) PARTITION BY RANGE (at);

CREATE INDEX task_events_closed_by_task ON public.task_events_closed (task_id);
CREATE TABLE public.task_events_closed_default PARTITION OF public.task_events_closed DEFAULT;

CREATE FUNCTION public.task_event(from_status text, to_status text, details public.task_event_details) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN from_status = '' THEN 'created'
                WHEN from_status = to_status THEN CASE
                    WHEN to_status <> 'PENDING' THEN 'timed_out'
                    WHEN (details).blocked_change > 0 THEN 'blocked'
                    WHEN (details).blocked_change < 0 THEN 'unblocked'
                    ELSE 'reprioritised' END
                WHEN to_status = 'PENDING' THEN CASE
                    WHEN from_status IN ('COMPLETED', 'FAILED', 'CANCELLED') THEN 'reopened'
                    WHEN (details).retry > 0 THEN 'retried'
                    ELSE 'requeued' END
                ELSE CASE to_status
                    WHEN 'ASSIGNED' THEN 'assigned'
                    WHEN 'ACTIVE' THEN 'started'
                    WHEN 'COMPLETED' THEN 'completed'
                    WHEN 'FAILED' THEN 'failed'
                    WHEN 'CANCELLED' THEN 'cancelled' END
           END
$$;
COMMENT ON FUNCTION public.task_event(text, text, public.task_event_details) IS
    'What a fact of the task ledger is called: created, assigned, started, completed, failed, retried, timed_out, requeued, cancelled, reopened, reprioritised, blocked or unblocked. A task that is created and ASSIGNED at once is created only.';

COMMENT ON TABLE public.task_events_open IS
    'Task ledger, open part: facts land here and metrics.fold() moves them to task_events_closed. Small, no index on purpose. Read the view task_events.';
COMMENT ON TABLE public.task_events_closed IS
    'Task ledger, closed part: history that is already in metrics.totals, partitioned by time. Pruning it changes no counter.';
COMMENT ON TABLE public.task_events_closed_default IS 'Facts outside every partition made so far.';

COMMENT ON COLUMN public.task_events_open.at IS 'When it was written: the order of a task''s facts, also of those of one statement and of transactions that waited for each other, as long as nobody sets the clock back.';
COMMENT ON COLUMN public.task_events_open.task_id IS 'The task; its row may be deleted by now.';
COMMENT ON COLUMN public.task_events_open.task_type IS 'Label, as it was then.';
COMMENT ON COLUMN public.task_events_open.client_id IS 'Label, as it was then.';
COMMENT ON COLUMN public.task_events_open.agent_id IS 'The agent of the attempt, empty when there was none.';
COMMENT ON COLUMN public.task_events_open.from_status IS 'Status before, empty for a new task.';
COMMENT ON COLUMN public.task_events_open.to_status IS 'Status after.';
COMMENT ON COLUMN public.task_events_open.priority IS 'Priority after.';
COMMENT ON COLUMN public.task_events_open.took_us IS 'Microseconds: in the queue, when this assigned it (to_status is ASSIGNED); else execution time of the final attempt, when this ended one.';
COMMENT ON COLUMN public.task_events_open.details IS 'What few facts say; NULL when there is no reason, no retry, the priority is as before and no blocked task began or ceased to wait.';

COMMENT ON COLUMN public.task_events_closed.at IS 'When it was written: the order of a task''s facts, also of those of one statement and of transactions that waited for each other, as long as nobody sets the clock back.';
COMMENT ON COLUMN public.task_events_closed.task_id IS 'The task; its row may be deleted by now.';
COMMENT ON COLUMN public.task_events_closed.task_type IS 'Label, as it was then.';
COMMENT ON COLUMN public.task_events_closed.client_id IS 'Label, as it was then.';
COMMENT ON COLUMN public.task_events_closed.agent_id IS 'The agent of the attempt, empty when there was none.';
COMMENT ON COLUMN public.task_events_closed.from_status IS 'Status before, empty for a new task.';
COMMENT ON COLUMN public.task_events_closed.to_status IS 'Status after.';
COMMENT ON COLUMN public.task_events_closed.priority IS 'Priority after.';
COMMENT ON COLUMN public.task_events_closed.took_us IS 'Microseconds: in the queue, when this assigned it (to_status is ASSIGNED); else execution time of the final attempt, when this ended one.';
COMMENT ON COLUMN public.task_events_closed.details IS 'What few facts say; NULL when there is no reason, no retry, the priority is as before and no blocked task began or ceased to wait.';

CREATE FUNCTION public.microseconds(span interval) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT greatest(0, extract(epoch FROM span) * 1000000)::bigint
$$;
COMMENT ON FUNCTION public.microseconds(interval) IS
    'Length in whole microseconds, never negative (a clock may have jumped), 0 when unknown. Sums of integers never shrink, sums of floats may.';

-- THE definition of the facts of a change. A task enters through PENDING, unless it is created ASSIGNED, and leaves
-- an end state through PENDING: a row inserted as COMPLETED is created and then completed, one updated from COMPLETED
-- to FAILED is reopened and then failed. So every sum over the ledger balances, whatever somebody writes. Nearly all
-- tasks are created ASSIGNED, which is a single fact: created, with the agent and the moment in the queue.
--
-- Whoever writes pays for this. Hence a trigger for each row (to set up a join of transition tables takes longer
-- than all of it), no WHEN (it is parsed again at each UPDATE), one INSERT, which no row is passed to, and few
-- expressions: each is set up anew in every transaction. The steps of a life without trouble come first, with
-- what is known of them; without those lines the rest writes the same, as a test makes sure.
CREATE FUNCTION public.tasks_ledger() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    from_status    text;
    to_status      text;
    from_priority  smallint;
    event          text;
    agent          text;
    reason         text;
    retry          integer;
    blocked_change integer;
    took_us        bigint;
    moment         timestamptz;
    done           boolean; -- a result that is assigned costs a tenth of a PERFORM
BEGIN
    -- A life without trouble:
    IF OLD.status IS NULL THEN
        IF NEW.status = 'PENDING' AND NOT NEW.is_blocked THEN
            INSERT INTO public.task_events_open
                (at, task_id, task_type, client_id, agent_id, from_status, to_status, priority)
            VALUES (clock_timestamp(), NEW.task_id, NEW.task_type, NEW.client_id, '', '', 'PENDING',
                    NEW.priority);
            done := public.task_consequences('created', NEW, '', 'PENDING', '', '', NULL);
            RETURN NULL;
        ELSIF NEW.status = 'ASSIGNED' AND NEW.assigned_agent_id IS NOT NULL AND NOT NEW.is_blocked THEN
            INSERT INTO public.task_events_open
                (at, task_id, task_type, client_id, agent_id, from_status, to_status, priority, took_us)
            VALUES (clock_timestamp(), NEW.task_id, NEW.task_type, NEW.client_id, NEW.assigned_agent_id, '',
                    'ASSIGNED', NEW.priority,
                    public.microseconds(coalesce(NEW.assigned_at, now()) - NEW.queued_at));
            done := public.task_consequences('created', NEW, '', 'ASSIGNED', NEW.assigned_agent_id, '', NULL);
            RETURN NULL;
        END IF;
    ELSIF OLD.status = 'ASSIGNED' AND NEW.status = 'ACTIVE' AND NEW.assigned_agent_id IS NOT NULL THEN
        INSERT INTO public.task_events_open
            (at, task_id, task_type, client_id, agent_id, from_status, to_status, priority)
        VALUES (clock_timestamp(), NEW.task_id, NEW.task_type, NEW.client_id, NEW.assigned_agent_id, 'ASSIGNED',
                'ACTIVE', NEW.priority);
        done := public.task_consequences('started', NEW, 'ASSIGNED', 'ACTIVE', NEW.assigned_agent_id, '', NULL);
        RETURN NULL;
    ELSIF OLD.status = 'ACTIVE' AND NEW.status = 'COMPLETED' AND NEW.assigned_agent_id IS NOT NULL THEN
        took_us := public.microseconds(coalesce(NEW.completed_at, now()) - NEW.started_at);
        INSERT INTO public.task_events_open
            (at, task_id, task_type, client_id, agent_id, from_status, to_status, priority, took_us)
        VALUES (clock_timestamp(), NEW.task_id, NEW.task_type, NEW.client_id, NEW.assigned_agent_id, 'ACTIVE',
                'COMPLETED', NEW.priority, took_us);
        done := public.task_consequences('completed', NEW, 'ACTIVE', 'COMPLETED', NEW.assigned_agent_id, '', took_us);
        RETURN NULL;
    ELSIF OLD.status = 'PENDING' AND NEW.status = 'ASSIGNED' AND NEW.assigned_agent_id IS NOT NULL
          AND NOT OLD.is_blocked AND OLD.priority = NEW.priority THEN
        INSERT INTO public.task_events_open
            (at, task_id, task_type, client_id, agent_id, from_status, to_status, priority, took_us)
        VALUES (clock_timestamp(), NEW.task_id, NEW.task_type, NEW.client_id, NEW.assigned_agent_id, 'PENDING',
                'ASSIGNED', NEW.priority, public.microseconds(coalesce(NEW.assigned_at, now()) - NEW.queued_at));
        done := public.task_consequences('assigned', NEW, 'PENDING', 'ASSIGNED', NEW.assigned_agent_id, '', NULL);
        RETURN NULL;
    END IF;
    -- Whatever else may happen:
    from_status := OLD.status; -- NULL for a new task
    to_status := NEW.status;
    from_priority := CASE WHEN OLD.status = 'PENDING' THEN OLD.priority ELSE NEW.priority END;
    reason := '';
    retry := 0;
    IF NEW.assigned_agent_id IS NULL AND to_status IN ('ASSIGNED', 'ACTIVE') THEN
        -- No CHECK: its text is parsed again by each statement, half as long as all of this takes.
        RAISE EXCEPTION 'task % is % and has no agent', NEW.task_id, to_status
            USING ERRCODE = 'check_violation', HINT = 'Set assigned_agent_id.';
    END IF;
    IF from_status IS NULL THEN
        from_status := '';
        blocked_change := NEW.is_blocked::integer;
        IF to_status = 'ASSIGNED' AND NOT NEW.is_blocked THEN
            agent := NEW.assigned_agent_id;
        ELSE
            agent := '';
            to_status := 'PENDING';
        END IF;
    ELSE
        IF from_status = to_status THEN
            IF from_status <> 'PENDING' OR OLD.priority = NEW.priority AND OLD.is_blocked = NEW.is_blocked THEN
                RETURN NULL;
            END IF;
        ELSIF from_status NOT IN ('PENDING', 'ASSIGNED', 'ACTIVE') THEN
            to_status := 'PENDING';
        END IF;
        agent := coalesce(NEW.assigned_agent_id, OLD.assigned_agent_id, NEW.last_agent_id, '');
        blocked_change := (to_status = 'PENDING' AND NEW.is_blocked)::integer - (from_status = 'PENDING' AND OLD.is_blocked)::integer;
        IF to_status = 'PENDING' AND NEW.retry_count > OLD.retry_count THEN
            retry := NEW.retry_count;
        END IF;
    END IF;
    LOOP
        IF to_status = 'ASSIGNED' AND from_status IN ('', 'PENDING') THEN
            took_us := public.microseconds(coalesce(NEW.assigned_at, now()) - NEW.queued_at);
        ELSIF to_status = 'COMPLETED' OR to_status = 'FAILED' AND NEW.started_at IS NOT NULL THEN
            took_us := public.microseconds(coalesce(NEW.completed_at, now()) - NEW.started_at);
        END IF;
        IF to_status = 'FAILED' THEN
            -- The reason of an earlier attempt is none of a task that fails in the queue.
            reason := CASE WHEN OLD.status = 'PENDING' AND NEW.failure_reason = OLD.failure_reason THEN 'unknown'
                           ELSE coalesce(NEW.failure_reason, 'unknown') END;
        ELSIF retry > 0 AND from_status IN ('ASSIGNED', 'ACTIVE') THEN
            reason := coalesce(NEW.failure_reason, 'unknown');
        END IF;
        -- Told by the deadline, since an agent may report this reason too. Nothing follows from it.
        IF reason = 'timeout' AND from_status <> 'PENDING' AND OLD.deadline_at <= now() THEN
            moment := clock_timestamp();
            INSERT INTO public.task_events_open
                (at, task_id, task_type, client_id, agent_id, from_status, to_status, priority, details)
            VALUES (moment, NEW.task_id, NEW.task_type, NEW.client_id, OLD.assigned_agent_id, from_status,
                    from_status, OLD.priority, ROW (reason, 0, OLD.priority, 0));
        END IF;
        moment := greatest(clock_timestamp(), moment + interval '1 microsecond'); -- however coarse a clock is
        INSERT INTO public.task_events_open AS f
            (at, task_id, task_type, client_id, agent_id, from_status, to_status, priority, took_us, details)
        VALUES (moment, NEW.task_id, NEW.task_type, NEW.client_id, agent, from_status, to_status,
                NEW.priority, took_us,
                CASE WHEN reason <> '' OR retry > 0 OR from_priority <> NEW.priority OR blocked_change <> 0
                     THEN ROW (reason, retry, from_priority, blocked_change)::public.task_event_details END)
        RETURNING public.task_event(f.from_status, f.to_status, f.details) INTO event;
        done := public.task_consequences(event, NEW, from_status, to_status, agent, reason, took_us);
        EXIT WHEN to_status = NEW.status;
        agent := coalesce(NEW.assigned_agent_id, OLD.assigned_agent_id, NEW.last_agent_id, '');
        retry := 0;
        from_status := to_status;
        to_status := NEW.status;
        from_priority := NEW.priority;
        blocked_change := -NEW.is_blocked::integer;
    END LOOP;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION public.tasks_ledger() IS
    'Writes what happened to a task to the ledger: one fact, two when it passes through PENDING, and one more when an attempt ended by its timeout. A new task that is ASSIGNED at once is one fact.';

CREATE FUNCTION public.tasks_ledger_delete() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    agent text := coalesce(OLD.assigned_agent_id, OLD.last_agent_id, '');
    done  boolean;
BEGIN
    IF OLD.status IN ('PENDING', 'ASSIGNED', 'ACTIVE') THEN
        INSERT INTO public.task_events_open
            (at, task_id, task_type, client_id, agent_id, from_status, to_status, priority, details)
        VALUES (clock_timestamp(), OLD.task_id, OLD.task_type, OLD.client_id, agent, OLD.status, 'CANCELLED',
                OLD.priority,
                ROW ('deleted', 0, OLD.priority, -(OLD.status = 'PENDING' AND OLD.is_blocked)::integer));
        done := public.task_consequences('cancelled', OLD, OLD.status, 'CANCELLED', agent, 'deleted', NULL);
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION public.tasks_ledger_delete() IS
    'A live task that is deleted counts as cancelled; an ended one as nothing.';

CREATE FUNCTION public.tasks_ledger_truncate() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    -- With everything that follows from it.
    DELETE FROM public.tasks AS t WHERE t.status IN ('PENDING', 'ASSIGNED', 'ACTIVE');
    RETURN NULL;
END $$;
COMMENT ON FUNCTION public.tasks_ledger_truncate() IS 'TRUNCATE tasks is counted like DELETE of every row.';

CREATE TRIGGER tasks_ledger AFTER INSERT OR UPDATE ON public.tasks
    FOR EACH ROW EXECUTE FUNCTION public.tasks_ledger();
CREATE TRIGGER tasks_ledger_delete AFTER DELETE ON public.tasks
    FOR EACH ROW EXECUTE FUNCTION public.tasks_ledger_delete();
CREATE TRIGGER tasks_ledger_truncate BEFORE TRUNCATE ON public.tasks
    FOR EACH STATEMENT EXECUTE FUNCTION public.tasks_ledger_truncate();
