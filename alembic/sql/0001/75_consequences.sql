-- What follows from a fact, in the transaction that wrote it, whoever wrote it.

CREATE FUNCTION public.apply_trust(facts public.task_events_open[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    fact public.task_events_open;
BEGIN
    -- In the order of agent_id, so that two batches can't wait for each other in a circle.
    IF cardinality(facts) > 1 THEN
        facts := ARRAY(SELECT f FROM unnest(facts) AS f ORDER BY f.agent_id, f.event_id);
    END IF;
    FOREACH fact IN ARRAY facts LOOP
        WITH old AS (
            SELECT a.agent_id, a.trust_score,
                   fact.duration_us / 1000000.0::double precision AS seconds,
                   CASE
                       WHEN fact.event = 'failed'
                       THEN CASE WHEN fact.reason IN ('expired', 'dependency_failed', 'unknown') THEN 0 ELSE -0.05 END
                       WHEN fact.duration_us < 500000.0 * (SELECT t.timeout_seconds FROM public.tasks AS t WHERE t.task_id = fact.task_id)
                       THEN 0.05
                       ELSE 0.02
                   END AS delta
              FROM public.agents AS a WHERE a.agent_id = fact.agent_id FOR NO KEY UPDATE
        ),
        new AS (
            UPDATE public.agents AS a
               SET trust_score = round(least(1, greatest(0, old.trust_score + old.delta))::numeric, 6),
                   total_tasks_completed = a.total_tasks_completed + (fact.event = 'completed')::integer,
                   total_tasks_failed = a.total_tasks_failed + (fact.event = 'failed')::integer,
                   avg_completion_time_seconds = CASE
                       WHEN fact.event = 'completed'
                       THEN coalesce(0.7 * a.avg_completion_time_seconds + 0.3 * old.seconds, old.seconds)
                       ELSE a.avg_completion_time_seconds END,
                   last_task_completed_at = CASE
                       WHEN fact.event = 'completed' THEN fact.at ELSE a.last_task_completed_at END,
                   updated_at = fact.at
              FROM old
             WHERE a.agent_id = old.agent_id
            RETURNING a.agent_id, old.delta, old.trust_score AS before, a.trust_score AS after
        )
        INSERT INTO public.trust_records
            (agent_id, event_type, trust_delta, trust_score_before, trust_score_after, reason, task_id)
        SELECT new.agent_id, 'task_' || fact.event, new.delta, new.before, new.after, nullif(fact.reason, ''), fact.task_id
          FROM new WHERE new.after <> new.before;
    END LOOP;
END $$;
COMMENT ON FUNCTION public.apply_trust(public.task_events_open[]) IS
    'Facts completed and failed: COMPLETED +0.02, +0.03 more in less than half the timeout; FAILED for good by the agent''s doing (not expired, dependency_failed or unknown) -0.05. Keeps totals, moving average and trust_records.';

CREATE FUNCTION public.task_consequences(facts public.task_events_open[]) RETURNS boolean
LANGUAGE plpgsql
-- For the lookups of what most tasks don't have: by index, whatever the planner believes, see 60_dependencies.sql.
SET enable_seqscan = off AS $$
DECLARE
    fact     public.task_events_open;
    judged   public.task_events_open[];
    settled  public.task_events_open[];
    ids      uuid[];
    clients  text[];
    reopened boolean := false;
    moved    boolean := false;
BEGIN
    FOREACH fact IN ARRAY facts LOOP
        IF fact.event IN ('completed', 'failed') AND fact.agent_id <> '' THEN
            judged := judged || fact;
        END IF;
        IF fact.event IN ('completed', 'failed', 'cancelled', 'reopened') THEN
            settled := settled || fact;
            reopened := reopened OR fact.event = 'reopened';
        END IF;
        IF fact.to_status <> 'PENDING' THEN
            moved := true;
        END IF;
        ids := ids || fact.task_id;
        IF clients IS NULL OR fact.client_id <> ALL (clients) THEN
            clients := clients || fact.client_id;
        END IF;
    END LOOP;
    IF judged IS NOT NULL THEN
        PERFORM public.apply_trust(judged);
    END IF;
    -- Before what follows from it, which tells of events of its own: a task has completed when the next begins.
    IF EXISTS (SELECT FROM public.webhooks AS w WHERE w.agent_id = ANY (clients) AND w.active) THEN
        PERFORM public.deliver_task_events(facts);
    END IF;
    IF settled IS NOT NULL
       AND (reopened OR EXISTS (SELECT FROM public.task_dependencies AS d WHERE d.depends_on = ANY (ids))) THEN
        PERFORM public.settle_dependents(settled);
    END IF;
    IF moved AND EXISTS (SELECT FROM public.chain_steps AS s WHERE s.task_id = ANY (ids)) THEN
        PERFORM public.advance_chains(facts);
    END IF;
    RETURN true;
END $$;
COMMENT ON FUNCTION public.task_consequences(public.task_events_open[]) IS
    'Everything that follows from facts of the task ledger, called by its triggers in the same transaction.';
