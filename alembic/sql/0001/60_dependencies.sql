-- Tasks that wait for other tasks. tasks.is_blocked is kept true to the state by triggers, in the
-- transaction that ends the dependency or changes the dependencies.
--
-- Who creates a dependent locks its dependencies FOR SHARE first, in the order of the keys, and then looks at
-- their states: whatever ends one of them waits for that and then sees the dependent, or has ended it before.
-- All this counts on READ COMMITTED, as which the service works. Somebody in psql who ends a task in a
-- transaction of a stricter level overlooks a dependent created since its first statement;
-- SELECT settle_tasks(ARRAY(SELECT task_id FROM tasks WHERE status = 'PENDING' AND is_blocked)) finds it.
--
-- Every lookup here is one of a key, and has to stay that with ten thousand dependents of one task, and in a
-- plan that was made when the tables were small. Hence enable_seqscan = off, and no status next to a key:
-- the planner thinks little of an index on the status as long as few are PENDING, or nobody has counted them.
-- OFFSET 0 and CASE keep it from combining the two. Nor may a task's own dependencies be looked for in all of
-- the primary key, which would have them without a look at the table: enable_indexonlyscan = off.

CREATE TABLE public.task_dependencies (
    task_id     uuid NOT NULL REFERENCES public.tasks ON DELETE CASCADE,
    depends_on  uuid NOT NULL,
    PRIMARY KEY (depends_on, task_id),
    CONSTRAINT task_dependencies_not_on_itself CHECK (task_id <> depends_on)
);
-- Not of both: an empty table's plan, kept while it fills, could look for depends_on in all of that index.
CREATE INDEX task_dependencies_by_task ON public.task_dependencies (task_id);

COMMENT ON TABLE public.task_dependencies IS
    'task_id may run only when depends_on is COMPLETED. A dependency whose row is gone counts as completed: what ended otherwise had failed its dependents by then.';
COMMENT ON COLUMN public.task_dependencies.task_id IS 'The task that waits.';
COMMENT ON COLUMN public.task_dependencies.depends_on IS 'The task it waits for; its row may be pruned by now.';

CREATE FUNCTION public.doomed_tasks(roots uuid[]) RETURNS SETOF uuid
LANGUAGE sql STABLE
SET enable_seqscan = off SET jit = off AS $$
    WITH RECURSIVE doomed AS (
        SELECT t.task_id
          FROM unnest(roots) AS root (task_id)
         CROSS JOIN LATERAL (SELECT p.task_id, p.status FROM public.tasks AS p
                              WHERE p.task_id = root.task_id OFFSET 0) AS t
         WHERE t.status = 'PENDING'
         UNION
        SELECT t.task_id
          FROM doomed
         CROSS JOIN LATERAL (SELECT d.task_id FROM public.task_dependencies AS d
                              WHERE d.depends_on = doomed.task_id OFFSET 0) AS d
         CROSS JOIN LATERAL (SELECT p.task_id, p.status FROM public.tasks AS p
                              WHERE p.task_id = d.task_id OFFSET 0) AS t
         WHERE t.status = 'PENDING'
    )
    SELECT doomed.task_id FROM doomed
$$;
COMMENT ON FUNCTION public.doomed_tasks(uuid[]) IS
    'Those of these tasks that are PENDING, and every PENDING task that depends on one of them, all the way down.';

CREATE FUNCTION public.fail_dependents(roots uuid[]) RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off SET jit = off AS $$
DECLARE
    doomed uuid[];
BEGIN
    -- Locked in the order of the keys, as everywhere, and looked at again when nobody else can touch them.
    -- A dependent that somebody created in between is found by the facts that this update writes.
    PERFORM FROM public.tasks AS t
      WHERE t.task_id = ANY (ARRAY(SELECT public.doomed_tasks(roots)))
      ORDER BY t.task_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    doomed := ARRAY(SELECT public.doomed_tasks(roots));
    UPDATE public.tasks AS t
       SET status = 'FAILED', is_blocked = false, failure_reason = 'dependency_failed',
           error_message = 'A task it depends on failed or was cancelled.',
           next_retry_at = NULL, completed_at = now(), updated_at = now()
     WHERE t.task_id = ANY (doomed) AND CASE t.status WHEN 'PENDING' THEN true END;
END $$;
COMMENT ON FUNCTION public.fail_dependents(uuid[]) IS
    'Fails those of these tasks that are PENDING, and everything PENDING below them, with dependency_failed.';

CREATE FUNCTION public.settle_tasks(ids uuid[]) RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_indexonlyscan = off SET jit = off AS $$
DECLARE
    doomed  uuid[];
    changed uuid[];
BEGIN
    -- Lock first, look after, in a new snapshot: two dependencies of one task that end at the same time
    -- meet at its lock, and the second one sees the first.
    PERFORM FROM public.tasks AS t
      WHERE t.task_id = ANY (ids) AND CASE t.status WHEN 'PENDING' THEN true END
      ORDER BY t.task_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT array_agg(t.task_id) FILTER (WHERE s.doomed),
           array_agg(t.task_id) FILTER (WHERE NOT s.doomed AND s.blocked <> t.is_blocked)
      INTO doomed, changed
      FROM unnest(ids) AS i (task_id)
     CROSS JOIN LATERAL (SELECT p.task_id, p.status, p.is_blocked FROM public.tasks AS p
                          WHERE p.task_id = i.task_id OFFSET 0) AS t
     CROSS JOIN LATERAL (
           SELECT coalesce(bool_or(u.status <> 'COMPLETED'), false) AS blocked,
                  coalesce(bool_or(u.status IN ('FAILED', 'CANCELLED')), false) AS doomed
             FROM public.task_dependencies AS d
            CROSS JOIN LATERAL (SELECT p.status FROM public.tasks AS p
                                 WHERE p.task_id = d.depends_on OFFSET 0) AS u
            WHERE d.task_id = t.task_id) AS s
     WHERE t.status = 'PENDING';
    IF doomed IS NOT NULL THEN
        PERFORM public.fail_dependents(doomed);
    END IF;
    IF changed IS NOT NULL THEN
        UPDATE public.tasks AS t
           SET is_blocked = NOT t.is_blocked, updated_at = now()
         WHERE t.task_id = ANY (changed) AND CASE t.status WHEN 'PENDING' THEN true END;
    END IF;
END $$;
COMMENT ON FUNCTION public.settle_tasks(uuid[]) IS
    'Makes those of these tasks that are PENDING what their dependencies say: blocked, free, or FAILED (dependency_failed). May be called at any time.';

CREATE FUNCTION public.settle_dependents(event text, task_id uuid) RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_indexonlyscan = off SET jit = off AS $$
DECLARE
    waiting uuid[] := ARRAY(SELECT d.task_id FROM public.task_dependencies AS d
                             WHERE d.depends_on = settle_dependents.task_id);
BEGIN
    CASE event
        WHEN 'completed' THEN
            PERFORM public.settle_tasks(waiting);
        WHEN 'reopened' THEN
            -- It looks at its own dependencies again, too.
            PERFORM public.settle_tasks(waiting || ARRAY(
                SELECT d.task_id FROM public.task_dependencies AS d WHERE d.task_id = settle_dependents.task_id LIMIT 1));
        ELSE
            PERFORM public.fail_dependents(waiting);
    END CASE;
END $$;
COMMENT ON FUNCTION public.settle_dependents(text, uuid) IS
    'Unblocks the dependents of a task whose last dependency it was (completed), blocks them again (reopened), or fails them (failed, cancelled; dependency_failed, all the way down).';

-- Dependencies that somebody writes or deletes by hand.
CREATE FUNCTION public.task_dependencies_changed() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    CASE TG_OP
        WHEN 'INSERT' THEN
            PERFORM public.settle_tasks(ARRAY(SELECT DISTINCT n.task_id FROM new_rows AS n));
        WHEN 'TRUNCATE' THEN
            PERFORM public.settle_tasks(
                ARRAY(SELECT t.task_id FROM public.tasks AS t WHERE t.status = 'PENDING' AND t.is_blocked));
        ELSE
            PERFORM public.settle_tasks(ARRAY[OLD.task_id, NEW.task_id]);
    END CASE;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION public.task_dependencies_changed() IS 'Keeps tasks true to their dependencies, whoever changes those.';

CREATE TRIGGER task_dependencies_inserted AFTER INSERT ON public.task_dependencies
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.task_dependencies_changed();
-- Not when a task is deleted and takes its dependencies along: row by row, so that it costs nothing then.
CREATE TRIGGER task_dependencies_changed AFTER UPDATE OR DELETE ON public.task_dependencies
    FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION public.task_dependencies_changed();
CREATE TRIGGER task_dependencies_truncated AFTER TRUNCATE ON public.task_dependencies
    FOR EACH STATEMENT EXECUTE FUNCTION public.task_dependencies_changed();
