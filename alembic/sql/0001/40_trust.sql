-- Trust and the totals of agents follow from what happens to tasks, whoever writes it.

CREATE FUNCTION public.tasks_trust() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    ended   record;
    before  double precision;
    delta   double precision;
    after   double precision;
BEGIN
    -- In the order of agent_id, so that two batches can't wait for each other in a circle.
    FOR ended IN
        SELECT coalesce(n.assigned_agent_id, n.last_agent_id) AS agent_id,
               n.task_id, n.status, n.failure_reason,
               coalesce(n.completed_at, now()) AS completed_at,
               public.microseconds(coalesce(n.completed_at, now()) - n.started_at) / 1000000.0 AS seconds,
               n.timeout_seconds
          FROM old_rows AS o
          JOIN new_rows AS n USING (task_id)
         WHERE o.status <> n.status
           AND n.status IN ('COMPLETED', 'FAILED')
           AND coalesce(n.assigned_agent_id, n.last_agent_id) IS NOT NULL
         ORDER BY 1, n.completed_at
    LOOP
        SELECT trust_score INTO before
          FROM public.agents WHERE agent_id = ended.agent_id FOR NO KEY UPDATE;
        CONTINUE WHEN NOT FOUND;
        delta := CASE
            WHEN ended.status = 'COMPLETED'
            THEN 0.02 + CASE WHEN ended.seconds < ended.timeout_seconds / 2.0 THEN 0.03 ELSE 0 END
            WHEN coalesce(ended.failure_reason, 'unknown') IN ('expired', 'dependency_failed', 'unknown')
            THEN 0
            ELSE -0.05 END;
        after := round(least(1, greatest(0, before + delta))::numeric, 6);
        UPDATE public.agents AS a
           SET trust_score = after,
               total_tasks_completed = a.total_tasks_completed + (ended.status = 'COMPLETED')::integer,
               total_tasks_failed = a.total_tasks_failed + (ended.status = 'FAILED')::integer,
               avg_completion_time_seconds = CASE
                   WHEN ended.status = 'COMPLETED' AND ended.seconds IS NOT NULL
                   THEN coalesce(0.7 * a.avg_completion_time_seconds + 0.3 * ended.seconds, ended.seconds)
                   ELSE a.avg_completion_time_seconds END,
               last_task_completed_at = CASE
                   WHEN ended.status = 'COMPLETED' THEN ended.completed_at ELSE a.last_task_completed_at END,
               updated_at = now()
         WHERE a.agent_id = ended.agent_id;
        IF after <> before THEN
            INSERT INTO public.trust_records
                (agent_id, event_type, trust_delta, trust_score_before, trust_score_after, reason, task_id)
            VALUES (ended.agent_id, CASE ended.status WHEN 'COMPLETED' THEN 'task_completed' ELSE 'task_failed' END,
                    delta, before, after, ended.failure_reason, ended.task_id);
        END IF;
    END LOOP;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION public.tasks_trust() IS
    'COMPLETED: +0.02, +0.03 more in less than half the timeout. FAILED for good by the agent''s doing (not expired, dependency_failed or unknown): -0.05. Keeps totals, moving average and trust_records.';

CREATE TRIGGER tasks_trust AFTER UPDATE ON public.tasks
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION public.tasks_trust();
