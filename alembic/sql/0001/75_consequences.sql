-- What follows from a fact, in the transaction that wrote it, whoever wrote it.

CREATE FUNCTION public.apply_trust(
    event text, from_status text, agent text, reason text, duration_us bigint,
    task_id uuid, timeout_seconds integer, failure_reason text
) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    completed boolean := event = 'completed';
    seconds   double precision := duration_us / 1000000.0::double precision;
    delta     double precision := 0;
    before    double precision;
    after     double precision;
BEGIN
    IF completed THEN
        delta := CASE WHEN duration_us < 500000.0 * timeout_seconds THEN 0.05 ELSE 0.02 END;
    ELSIF from_status <> 'PENDING' AND failure_reason IS NOT NULL
          OR reason NOT IN ('expired', 'dependency_failed', 'unknown') THEN
        -- An attempt that failed is the agent's, whatever code it gave.
        delta := -0.05;
    END IF;
    SELECT a.trust_score INTO before FROM public.agents AS a WHERE a.agent_id = agent FOR NO KEY UPDATE;
    UPDATE public.agents AS a
       SET trust_score = round(least(1, greatest(0, before + delta))::numeric, 6),
           total_tasks_completed = a.total_tasks_completed + completed::integer,
           total_tasks_failed = a.total_tasks_failed + (NOT completed)::integer,
           avg_completion_time_seconds = CASE
               WHEN completed THEN coalesce(0.7 * a.avg_completion_time_seconds + 0.3 * seconds, seconds)
               ELSE a.avg_completion_time_seconds END,
           last_task_completed_at = CASE WHEN completed THEN clock_timestamp() ELSE a.last_task_completed_at END,
           updated_at = clock_timestamp()
     WHERE a.agent_id = agent
    RETURNING a.trust_score INTO after;
    IF after <> before THEN
        INSERT INTO public.trust_records
            (agent_id, event_type, trust_delta, trust_score_before, trust_score_after, reason, task_id)
        VALUES (agent, 'task_' || event, delta, before, after, nullif(apply_trust.reason, ''), apply_trust.task_id);
    END IF;
    RETURN true;
END $$;
COMMENT ON FUNCTION public.apply_trust IS
    'Of a fact completed or failed: COMPLETED +0.02, +0.03 more in less than half the timeout; FAILED for good by the agent''s doing -0.05, which is any attempt that ended with a reason, and nothing that AINS itself ended in the queue. Keeps totals, moving average and trust_records.';

CREATE FUNCTION public.task_consequences(
    event text, task public.tasks, from_status text, to_status text, agent text, reason text, duration_us bigint
) RETURNS boolean
LANGUAGE plpgsql
-- For the lookups of what most tasks don't have: by index, whatever the planner believes, see 60_dependencies.sql.
SET enable_seqscan = off AS $$
DECLARE
    concerns boolean;
    heard    boolean;
    awaited  boolean;
    chained  boolean;
    done     boolean;
BEGIN
    -- Mostly nobody wants to know, which one question tells: a webhook of the client's, a chain that the task is a
    -- step of, or a task that waits for its end.
    IF to_status IN ('ASSIGNED', 'ACTIVE') THEN
        concerns := EXISTS (SELECT FROM public.webhooks AS w WHERE w.agent_id = task.client_id AND w.active)
                    OR EXISTS (SELECT FROM public.chain_steps AS s WHERE s.task_id = task.task_id);
    ELSIF event = 'created' THEN
        concerns := EXISTS (SELECT FROM public.webhooks AS w WHERE w.agent_id = task.client_id AND w.active);
    ELSIF to_status = 'PENDING' THEN
        concerns := event = 'reopened';
    ELSE
        IF agent <> '' AND event IN ('completed', 'failed') THEN
            -- A result that is assigned costs a tenth of a PERFORM, and no row is passed.
            done := public.apply_trust(event, from_status, agent, reason, duration_us,
                                       task.task_id, task.timeout_seconds, task.failure_reason);
        END IF;
        concerns := EXISTS (SELECT FROM public.webhooks AS w WHERE w.agent_id = task.client_id AND w.active)
                    OR EXISTS (SELECT FROM public.chain_steps AS s WHERE s.task_id = task.task_id)
                    OR EXISTS (SELECT FROM public.task_dependencies AS d WHERE d.depends_on = task.task_id);
    END IF;
    IF NOT concerns THEN
        RETURN true;
    END IF;
    SELECT EXISTS (SELECT FROM public.webhooks AS w WHERE w.agent_id = task.client_id AND w.active),
           EXISTS (SELECT FROM public.task_dependencies AS d WHERE d.depends_on = task.task_id),
           EXISTS (SELECT FROM public.chain_steps AS s WHERE s.task_id = task.task_id)
      INTO heard, awaited, chained;
    IF event = 'created' AND to_status = 'ASSIGNED' THEN
        IF heard THEN
            PERFORM public.deliver_task_event(event, task, 'PENDING', '', '');
        END IF;
        event := 'assigned';
    END IF;
    -- Before what follows from it, which tells of events of its own: a task has completed when the next begins.
    IF heard THEN
        PERFORM public.deliver_task_event(event, task, to_status, agent, reason);
    END IF;
    IF awaited AND to_status IN ('COMPLETED', 'FAILED', 'CANCELLED') OR event = 'reopened' THEN
        PERFORM public.settle_dependents(event, task.task_id);
    END IF;
    IF chained AND to_status <> 'PENDING' THEN
        PERFORM public.advance_chain(task, to_status, reason);
    END IF;
    RETURN true;
END $$;
COMMENT ON FUNCTION public.task_consequences IS
    'Everything that follows from a fact of the task ledger, called by tasks_ledger() in the same transaction. Of a task that is created and ASSIGNED at once, both are told.';
