-- Tasks that wait for other tasks. tasks.is_blocked is kept true to the state by the ledger's triggers, in
-- the transaction that ends the dependency.

CREATE TABLE public.task_dependencies (
    task_id     uuid NOT NULL REFERENCES public.tasks ON DELETE CASCADE,
    depends_on  uuid NOT NULL,
    PRIMARY KEY (depends_on, task_id)
);
CREATE INDEX task_dependencies_by_task ON public.task_dependencies (task_id);

COMMENT ON TABLE public.task_dependencies IS
    'task_id may run only when depends_on is COMPLETED. A dependency whose row was pruned counts as completed: what ended otherwise had failed its dependents by then.';
COMMENT ON COLUMN public.task_dependencies.task_id IS 'The task that waits.';
COMMENT ON COLUMN public.task_dependencies.depends_on IS 'The task it waits for; its row may have been pruned.';

CREATE FUNCTION public.settle_dependents(facts public.task_events_open[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    changed uuid[] := ARRAY(SELECT DISTINCT f.task_id FROM unnest(facts) AS f);
    doomed  uuid[];
    waiting uuid[];
BEGIN
    IF NOT EXISTS (SELECT FROM public.task_dependencies AS d WHERE d.depends_on = ANY (changed)) THEN
        RETURN;
    END IF;

    -- Everything below a task that failed or was cancelled fails with it, all the way down, at once:
    -- the nested facts find no dependents left that are still PENDING.
    WITH RECURSIVE below AS (
        SELECT d.task_id
          FROM unnest(facts) AS f
          JOIN public.task_dependencies AS d ON d.depends_on = f.task_id
         WHERE f.to_status IN ('FAILED', 'CANCELLED')
        UNION
        SELECT d.task_id
          FROM below AS b
          -- OFFSET 0: look each one up by the index; a level of the tree may be one row wide.
         CROSS JOIN LATERAL (SELECT n.task_id FROM public.task_dependencies AS n
                              WHERE n.depends_on = b.task_id OFFSET 0) AS d
    )
    SELECT array_agg(t.task_id ORDER BY t.task_id) INTO doomed
      FROM below AS b
      JOIN public.tasks AS t ON t.task_id = b.task_id
     WHERE t.status = 'PENDING' AND t.is_blocked;
    IF doomed IS NOT NULL THEN
        PERFORM FROM public.tasks AS t WHERE t.task_id = ANY (doomed) ORDER BY t.task_id FOR NO KEY UPDATE;
        UPDATE public.tasks AS t
           SET status = 'FAILED', is_blocked = false, failure_reason = 'dependency_failed',
               error_message = 'A task it depends on failed or was cancelled.',
               next_retry_at = NULL, completed_at = now(), updated_at = now()
         WHERE t.task_id = ANY (doomed) AND t.status = 'PENDING';
    END IF;

    -- The rest: lock first, look after, in a new snapshot. Two dependencies of one task that end at the
    -- same time meet at its lock, and the second one sees the first.
    SELECT array_agg(DISTINCT d.task_id) INTO waiting
      FROM public.task_dependencies AS d
     WHERE d.depends_on = ANY (changed);
    PERFORM FROM public.tasks AS t
      WHERE t.task_id = ANY (waiting) AND t.status = 'PENDING'
      ORDER BY t.task_id FOR NO KEY UPDATE;
    UPDATE public.tasks AS t
       SET is_blocked = s.blocked, updated_at = now()
      FROM (SELECT w.task_id,
                   EXISTS (SELECT FROM public.task_dependencies AS d
                             JOIN public.tasks AS u ON u.task_id = d.depends_on
                            WHERE d.task_id = w.task_id AND u.status <> 'COMPLETED') AS blocked
              FROM unnest(waiting) AS w (task_id)) AS s
     WHERE t.task_id = s.task_id AND t.status = 'PENDING' AND t.is_blocked <> s.blocked;
END $$;
COMMENT ON FUNCTION public.settle_dependents(public.task_events_open[]) IS
    'Fails the dependents of tasks that failed or were cancelled (dependency_failed, all the way down), unblocks those whose last dependency completed, blocks those whose dependency was reopened.';
