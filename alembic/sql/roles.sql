-- Two roles that need no password, for login roles to be members of:
--
--   CREATE ROLE ains_service LOGIN PASSWORD '...' IN ROLE ains_app;
--   CREATE ROLE prometheus LOGIN PASSWORD '...' IN ROLE ains_scraper;
--
-- `ains migrate --roles` runs this as the role that owns the schema, as often as it likes; every later
-- migration of a database that has it runs it again. Only CREATE ROLE needs more than that ownership.

DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['ains_app', 'ains_scraper'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            EXCEPTION
                WHEN duplicate_object OR unique_violation THEN
                    NULL; -- another database of this server was faster
                WHEN insufficient_privilege THEN
                    RAISE insufficient_privilege USING MESSAGE = format(
                        '%I may not create roles. Have an administrator run: CREATE ROLE %s NOLOGIN; and run this again',
                        current_user, wanted);
            END;
        END IF;
    END LOOP;
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO ains_app, ains_scraper', current_database());
END $$;

-- ains_app is the service: it reads and writes rows, owns nothing and changes no table. Facts it can add,
-- as triggers do in its name; what has been counted it can't change.
GRANT USAGE ON SCHEMA public, metrics TO ains_app;
GRANT SELECT ON public.ains_schema_version TO ains_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON
    public.agents, public.agent_capabilities, public.agent_routes, public.trust_records,
    public.tasks, public.task_dependencies,
    public.task_chains, public.chain_steps,
    public.webhooks, public.webhook_deliveries, public.webhook_attempts
TO ains_app;
GRANT SELECT, INSERT ON
    public.task_events_open, public.chain_events_open, public.webhook_events_open
TO ains_app;
GRANT SELECT ON
    public.task_events, public.task_events_closed,
    public.chain_events, public.chain_events_closed,
    public.webhook_events, public.webhook_events_closed
TO ains_app;
GRANT UPDATE ON metrics.settings TO ains_app;

-- For VACUUM of the open parts; before PostgreSQL 17 only owners may, and autovacuum does it, if less often.
DO $$
BEGIN
    IF current_setting('server_version_num')::integer >= 170000 THEN
        GRANT MAINTAIN ON public.task_events_open, public.chain_events_open, public.webhook_events_open TO ains_app;
    END IF;
END $$;

-- ains_scraper is Prometheus, and whoever draws graphs: the schema metrics, and nothing of a task's input or
-- result. What the views read elsewhere, they read with their owner's rights.
GRANT USAGE ON SCHEMA metrics TO ains_scraper;
GRANT SELECT ON ALL TABLES IN SCHEMA metrics TO ains_app, ains_scraper;
GRANT SELECT ON ALL SEQUENCES IN SCHEMA metrics TO ains_app, ains_scraper;
ALTER DEFAULT PRIVILEGES IN SCHEMA metrics GRANT SELECT ON TABLES TO ains_app, ains_scraper;
ALTER DEFAULT PRIVILEGES IN SCHEMA metrics GRANT SELECT ON SEQUENCES TO ains_app, ains_scraper;

-- Folding, rotating and pruning run with their owner's rights, so only the service may call them.
DO $$
DECLARE
    trusted regprocedure;
BEGIN
    FOR trusted IN
        SELECT p.oid
          FROM pg_catalog.pg_proc AS p
         WHERE p.pronamespace = 'metrics'::regnamespace AND p.prosecdef
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', trusted);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO ains_app', trusted);
    END LOOP;
END $$;
