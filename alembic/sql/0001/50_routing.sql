-- Who may be given work, and who of them gets the next task.

CREATE TABLE public.agent_routes (
    capability  text             NOT NULL,
    agent_id    text             NOT NULL REFERENCES public.agents ON DELETE CASCADE,
    position    double precision NOT NULL DEFAULT random(),
    PRIMARY KEY (agent_id, capability)
);
CREATE INDEX agent_routes_ring ON public.agent_routes (capability, position, agent_id);

COMMENT ON TABLE public.agent_routes IS
    'Which AVAILABLE agent offers what, published capability or tag: kept by triggers on agents and agent_capabilities, read by route_agents().';
COMMENT ON COLUMN public.agent_routes.capability IS 'Capability or tag, lower case.';
COMMENT ON COLUMN public.agent_routes.agent_id IS 'An agent that is AVAILABLE.';
COMMENT ON COLUMN public.agent_routes.position IS 'Random place on a ring, from which route_candidates() takes its window.';

CREATE FUNCTION public.refresh_agent_routes(agent text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    skills text[];
BEGIN
    -- The lock makes a change of status and a publication at the same time see each other.
    PERFORM 1 FROM public.agents AS a WHERE a.agent_id = agent FOR NO KEY UPDATE;
    SELECT array_agg(DISTINCT lower(s.skill)) INTO skills
      FROM public.agents AS a
     CROSS JOIN LATERAL (
           SELECT unnest(a.tags)
            UNION
           SELECT c.name FROM public.agent_capabilities AS c WHERE c.agent_id = a.agent_id AND NOT c.deprecated
           ) AS s (skill)
     WHERE a.agent_id = agent AND a.status = 'AVAILABLE';
    DELETE FROM public.agent_routes AS r
     WHERE r.agent_id = agent AND r.capability <> ALL (coalesce(skills, '{}'));
    INSERT INTO public.agent_routes (capability, agent_id)
    SELECT skill, agent FROM unnest(skills) AS skill
        ON CONFLICT DO NOTHING;
END $$;
COMMENT ON FUNCTION public.refresh_agent_routes(text) IS 'Makes agent_routes of one agent what its row and its capabilities say.';

CREATE FUNCTION public.agents_routes_changed() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM public.refresh_agent_routes(coalesce(NEW.agent_id, OLD.agent_id));
    RETURN NULL;
END $$;
COMMENT ON FUNCTION public.agents_routes_changed() IS 'Keeps agent_routes true to agents and agent_capabilities.';

CREATE TRIGGER agents_routes_inserted AFTER INSERT ON public.agents
    FOR EACH ROW WHEN (NEW.status = 'AVAILABLE') EXECUTE FUNCTION public.agents_routes_changed();
CREATE TRIGGER agents_routes_changed AFTER UPDATE OF status, tags ON public.agents
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status OR OLD.tags IS DISTINCT FROM NEW.tags)
    EXECUTE FUNCTION public.agents_routes_changed();
CREATE TRIGGER agent_capabilities_routes_changed AFTER INSERT OR DELETE OR UPDATE OF name, deprecated, agent_id
    ON public.agent_capabilities
    FOR EACH ROW EXECUTE FUNCTION public.agents_routes_changed();

CREATE FUNCTION public.route_candidates(
    wanted text, strategy text, turns integer, places integer, agent_ttl interval
) RETURNS TABLE (place bigint, agent_id text)
LANGUAGE plpgsql AS $$
DECLARE
    start double precision := random();
BEGIN
    -- Up to 128 capable agents, from a random place of the ring on: all of them when there are no more,
    -- a fair sample when there are, so that ten thousand agents cost what 128 do.
    RETURN QUERY
    WITH sample AS MATERIALIZED (
        SELECT w.agent_id FROM (
            (SELECT r.agent_id FROM public.agent_routes AS r
              WHERE r.capability = lower(wanted) AND r.position >= start ORDER BY r.position LIMIT 128)
            UNION ALL
            (SELECT r.agent_id FROM public.agent_routes AS r
              WHERE r.capability = lower(wanted) AND r.position < start ORDER BY r.position LIMIT 128)
        ) AS w LIMIT 128
    ),
    ready AS MATERIALIZED (
        SELECT a.agent_id, a.last_assigned_at, a.trust_score, a.avg_completion_time_seconds,
               CASE WHEN strategy = 'least_loaded' THEN (
                   SELECT count(*) FROM public.tasks AS t
                    WHERE t.assigned_agent_id = a.agent_id AND t.status IN ('ASSIGNED', 'ACTIVE')
               ) END AS load
          FROM sample AS s
          JOIN public.agents AS a ON a.agent_id = s.agent_id
         WHERE a.status = 'AVAILABLE'
           AND a.last_heartbeat > now() - agent_ttl
           AND (strategy <> 'trust_weighted' OR a.trust_score >= 0.3)
    ),
    -- An agent's turn k is its k-th task of this batch. trust_weighted is a race of Poisson processes whose
    -- rates are the trusts: the order of arrivals is a sequence of independent draws weighted by trust.
    ranked AS (
        SELECT r.agent_id, k, r.last_assigned_at,
               CASE strategy
                   WHEN 'least_loaded' THEN r.load + k
                   WHEN 'trust_weighted' THEN sum(-ln(1 - random()) / r.trust_score) OVER (PARTITION BY r.agent_id ORDER BY k)
                   WHEN 'fastest_response' THEN coalesce(r.avg_completion_time_seconds, -1)
                   ELSE k
               END AS rank
          FROM ready AS r CROSS JOIN generate_series(0, turns - 1) AS k
    )
    SELECT row_number() OVER (ORDER BY c.rank, c.k, c.last_assigned_at NULLS FIRST, c.agent_id), c.agent_id
      FROM ranked AS c
     ORDER BY 1
     LIMIT places;
END $$;
COMMENT ON FUNCTION public.route_candidates(text, text, integer, integer, interval) IS
    'Agents in the order in which they get the next tasks that need this capability; an agent may appear up to turns times. Changes nothing.';

CREATE FUNCTION public.route_agents(
    wanted text, strategy text, places integer, agent_ttl interval
) RETURNS TABLE (place bigint, agent_id text)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    start  double precision := random();
    picked text[];
BEGIN
    IF places = 1 AND strategy = 'round_robin' THEN
        -- The common case, by hand: the same choice as route_candidates() makes, but an agent that is just
        -- being given a task by somebody else is passed over instead of being given a second one.
        SELECT ARRAY[a.agent_id] INTO picked
          FROM ((SELECT r.agent_id FROM public.agent_routes AS r
                  WHERE r.capability = lower(wanted) AND r.position >= start ORDER BY r.position LIMIT 128)
                UNION ALL
                (SELECT r.agent_id FROM public.agent_routes AS r
                  WHERE r.capability = lower(wanted) AND r.position < start ORDER BY r.position LIMIT 128)
                LIMIT 128) AS w
          JOIN public.agents AS a ON a.agent_id = w.agent_id
         WHERE a.status = 'AVAILABLE' AND a.last_heartbeat > now() - agent_ttl
         ORDER BY a.last_assigned_at NULLS FIRST
         LIMIT 1 FOR NO KEY UPDATE OF a SKIP LOCKED;
        IF FOUND THEN
            UPDATE public.agents AS a SET last_assigned_at = clock_timestamp() WHERE a.agent_id = picked[1];
            place := 1;
            agent_id := picked[1];
            RETURN NEXT;
            RETURN;
        END IF;
    END IF;
    SELECT array_agg(c.agent_id ORDER BY c.place) INTO picked
      FROM public.route_candidates(wanted, strategy, places, places, agent_ttl) AS c;
    -- Notes the choice on those rows that are free: waiting for a lock would cost more than it is worth.
    UPDATE public.agents AS a
       SET last_assigned_at = clock_timestamp() + l.last_place * interval '1 microsecond'
      FROM (SELECT f.agent_id, array_position(picked, f.agent_id) AS last_place
              FROM (SELECT b.agent_id FROM public.agents AS b
                     WHERE b.agent_id = ANY (picked) FOR NO KEY UPDATE SKIP LOCKED) AS f) AS l
     WHERE a.agent_id = l.agent_id;
    RETURN QUERY
    SELECT u.ordinality, u.agent_id FROM unnest(picked) WITH ORDINALITY AS u (agent_id, ordinality);
END $$;
COMMENT ON FUNCTION public.route_agents(text, text, integer, interval) IS
    'Chooses agents for the next tasks that need this capability and notes that they were chosen, as far as that needs no waiting.';
