-- What follows from a fact, in the transaction that wrote it, whoever wrote it.

CREATE FUNCTION public.apply_trust(facts public.task_events_open[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    fact    record;
    before  double precision;
    delta   double precision;
    after   double precision;
BEGIN
    -- In the order of agent_id, so that two batches can't wait for each other in a circle.
    FOR fact IN
        SELECT f.agent_id, f.task_id, f.event, f.reason, f.at, f.duration_us / 1000000.0 AS seconds,
               (SELECT t.timeout_seconds FROM public.tasks AS t WHERE t.task_id = f.task_id) AS timeout_seconds
          FROM unnest(facts) AS f
         WHERE f.event IN ('completed', 'failed') AND f.agent_id <> ''
         ORDER BY f.agent_id, f.event_id
    LOOP
        SELECT trust_score INTO before
          FROM public.agents WHERE agent_id = fact.agent_id FOR NO KEY UPDATE;
        CONTINUE WHEN NOT FOUND;
        delta := CASE
            WHEN fact.event = 'completed'
            THEN 0.02 + CASE WHEN fact.seconds < fact.timeout_seconds / 2.0 THEN 0.03 ELSE 0 END
            WHEN fact.reason IN ('expired', 'dependency_failed', 'unknown')
            THEN 0
            ELSE -0.05 END;
        after := round(least(1, greatest(0, before + delta))::numeric, 6);
        UPDATE public.agents AS a
           SET trust_score = after,
               total_tasks_completed = a.total_tasks_completed + (fact.event = 'completed')::integer,
               total_tasks_failed = a.total_tasks_failed + (fact.event = 'failed')::integer,
               avg_completion_time_seconds = CASE
                   WHEN fact.event = 'completed'
                   THEN coalesce(0.7 * a.avg_completion_time_seconds + 0.3 * fact.seconds, fact.seconds)
                   ELSE a.avg_completion_time_seconds END,
               last_task_completed_at = CASE
                   WHEN fact.event = 'completed' THEN fact.at ELSE a.last_task_completed_at END,
               updated_at = now()
         WHERE a.agent_id = fact.agent_id;
        IF after <> before THEN
            INSERT INTO public.trust_records
                (agent_id, event_type, trust_delta, trust_score_before, trust_score_after, reason, task_id)
            VALUES (fact.agent_id, 'task_' || fact.event, delta, before, after, nullif(fact.reason, ''), fact.task_id);
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION public.apply_trust(public.task_events_open[]) IS
    'COMPLETED: +0.02, +0.03 more in less than half the timeout. FAILED for good by the agent''s doing (not expired, dependency_failed or unknown): -0.05. Keeps totals, moving average and trust_records.';

CREATE FUNCTION public.task_consequences(facts public.task_events_open[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM public.apply_trust(facts);
END $$;
COMMENT ON FUNCTION public.task_consequences(public.task_events_open[]) IS
    'Everything that follows from facts of the task ledger, called by its triggers in the same transaction.';
