-- Who may be given work, and who of them gets the next task.

CREATE TABLE public.agent_routes (
    capability  text             NOT NULL,
    agent_id    text             NOT NULL REFERENCES public.agents ON DELETE CASCADE,
    lap         smallint         NOT NULL,
    position    double precision NOT NULL,
    PRIMARY KEY (agent_id, capability, lap)
);
CREATE INDEX agent_routes_ring ON public.agent_routes (capability, position, agent_id);

COMMENT ON TABLE public.agent_routes IS
    'Which AVAILABLE agent offers what, published capability or tag: kept by triggers on agents and agent_capabilities, read by route_window(). The agents of a capability stand on a ring of length 1, written down twice, so that a walk of one lap from any place in the first is one range.';
COMMENT ON COLUMN public.agent_routes.capability IS 'Capability or tag, lower case.';
COMMENT ON COLUMN public.agent_routes.agent_id IS 'An agent that is AVAILABLE.';
COMMENT ON COLUMN public.agent_routes.lap IS '0 or 1: each agent stands on both laps.';
COMMENT ON COLUMN public.agent_routes.position IS 'A random place from 0 to 1, plus lap.';

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
    INSERT INTO public.agent_routes (capability, agent_id, lap, position)
    SELECT s.skill, agent, lap, s.position + lap
      FROM (SELECT skill, random() AS position FROM unnest(skills) AS skill
             WHERE NOT EXISTS (SELECT FROM public.agent_routes AS r
                                WHERE r.agent_id = agent AND r.capability = skill)) AS s
     CROSS JOIN generate_series(0, 1) AS lap;
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

CREATE FUNCTION public.route_window(wanted text, many integer, sample integer) RETURNS text[]
LANGUAGE plpgsql AS $$
DECLARE
    skill  text := lower(wanted);
    start  double precision := random();
    choice text[];
BEGIN
    choice := ARRAY(
        SELECT r.agent_id FROM public.agent_routes AS r
         WHERE r.capability = skill AND r.position >= start AND r.position < start + 1
         ORDER BY r.position LIMIT many
    );
    RETURN CASE WHEN cardinality(choice) = many THEN choice[:sample] ELSE choice END;
END $$;
COMMENT ON FUNCTION public.route_window(text, integer, integer) IS
    'Agents to choose from, from a random place of the ring on: every one that offers the capability, or a sample if they are many or more. So ten thousand agents cost little more than ten.';

CREATE FUNCTION public.route_candidates(wanted text, strategy text, places integer, agent_ttl interval)
RETURNS TABLE (place bigint, agent_id text)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
-- To compare each of some hundred agents with each of the choice takes longer than to look up those of the choice.
SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    alive_since timestamptz := now() - agent_ttl;
    choice      text[] := public.route_window(wanted, 128, CASE places WHEN 1 THEN 32 ELSE 128 END);
BEGIN
    -- An agent's turn k is its k-th task of this batch. Each strategy makes as many turns as can be needed.
    CASE strategy
    WHEN 'least_loaded' THEN
        -- Water that fills the valleys: nobody ends above this level.
        RETURN QUERY
        SELECT row_number() OVER (ORDER BY r.load + k, k, r.last_assigned_at NULLS FIRST, r.agent_id), r.agent_id::text
          FROM (SELECT a.agent_id, a.last_assigned_at, t.load,
                       least(min(t.load) OVER () + places,
                             max(t.load) OVER () + (places - 1) / count(*) OVER () + 1) AS level
                  FROM public.agents AS a
                 CROSS JOIN LATERAL (
                       SELECT count(*) AS load FROM public.tasks AS t
                        WHERE t.assigned_agent_id = a.agent_id AND t.status IN ('ASSIGNED', 'ACTIVE')
                       OFFSET 0) AS t
                 WHERE a.agent_id = ANY (choice) AND a.status = 'AVAILABLE' AND a.last_heartbeat > alive_since) AS r
         CROSS JOIN generate_series(0, r.level - r.load - 1) AS k
         ORDER BY 1 LIMIT places;
    WHEN 'trust_weighted' THEN
        -- Independent draws: a random point of the line on which every agent has its trust as length.
        RETURN QUERY
        SELECT p, r.agents[1 + width_bucket(random() * r.bounds[cardinality(r.bounds)], r.bounds)]::text
          FROM (SELECT array_agg(a.agent_id ORDER BY a.bound) AS agents, array_agg(a.bound ORDER BY a.bound) AS bounds
                  FROM (SELECT a.agent_id, sum(a.trust_score) OVER (ORDER BY a.agent_id) AS bound
                          FROM public.agents AS a
                         WHERE a.agent_id = ANY (choice) AND a.status = 'AVAILABLE' AND a.last_heartbeat > alive_since
                           AND a.trust_score >= 0.3) AS a) AS r
         CROSS JOIN generate_series(1::bigint, places) AS p
         WHERE r.agents IS NOT NULL;
    WHEN 'fastest_response' THEN
        RETURN QUERY
        SELECT row_number() OVER (ORDER BY k, r.last_assigned_at NULLS FIRST, r.agent_id), r.agent_id::text
          FROM (SELECT a.agent_id, a.last_assigned_at, count(*) OVER () AS fastest
                  FROM (SELECT a.agent_id, a.last_assigned_at,
                               rank() OVER (ORDER BY a.avg_completion_time_seconds NULLS FIRST) AS rank
                          FROM public.agents AS a
                         WHERE a.agent_id = ANY (choice) AND a.status = 'AVAILABLE' AND a.last_heartbeat > alive_since) AS a
                 WHERE a.rank = 1) AS r
         CROSS JOIN generate_series(0, (places - 1) / r.fastest) AS k
         ORDER BY 1 LIMIT places;
    ELSE
        RETURN QUERY
        SELECT row_number() OVER (ORDER BY k, r.last_assigned_at NULLS FIRST, r.agent_id), r.agent_id::text
          FROM (SELECT a.agent_id, a.last_assigned_at, count(*) OVER () AS agents
                  FROM public.agents AS a
                 WHERE a.agent_id = ANY (choice) AND a.status = 'AVAILABLE' AND a.last_heartbeat > alive_since) AS r
         CROSS JOIN generate_series(0, (places - 1) / r.agents) AS k
         ORDER BY 1 LIMIT places;
    END CASE;
END $$;
COMMENT ON FUNCTION public.route_candidates(text, text, integer, interval) IS
    'The agents that get the next places tasks that need this capability, in their order. Changes nothing.';

CREATE FUNCTION public.route_agents(
    wanted text, strategy text, places integer, agent_ttl interval
) RETURNS TABLE (place bigint, agent_id text)
LANGUAGE plpgsql
SET enable_seqscan = off AS $$ -- see route_candidates()
#variable_conflict use_column
DECLARE
    picked    text[];
    chosen_at timestamptz := clock_timestamp();
BEGIN
    IF places = 1 AND strategy = 'round_robin' THEN
        place := 1;
        agent_id := public.route_agent(wanted, strategy, agent_ttl);
        IF agent_id IS NOT NULL THEN
            RETURN NEXT;
        END IF;
        RETURN;
    END IF;
    SELECT array_agg(c.agent_id ORDER BY c.place) INTO picked
      FROM public.route_candidates(wanted, strategy, places, agent_ttl) AS c;
    -- Notes the choice on those rows that are free: waiting for a lock would cost more than it is worth.
    UPDATE public.agents AS a
       SET last_assigned_at = chosen_at + l.last_place * interval '1 microsecond'
      FROM (SELECT u.agent_id, max(u.ordinality) AS last_place
              FROM unnest(picked) WITH ORDINALITY AS u (agent_id, ordinality) GROUP BY u.agent_id) AS l
     WHERE a.agent_id = l.agent_id
       AND a.agent_id = ANY (ARRAY(SELECT b.agent_id FROM public.agents AS b
                                    WHERE b.agent_id = ANY (picked) FOR NO KEY UPDATE SKIP LOCKED));
    RETURN QUERY
    SELECT u.ordinality, u.agent_id FROM unnest(picked) WITH ORDINALITY AS u (agent_id, ordinality);
END $$;
COMMENT ON FUNCTION public.route_agents(text, text, integer, interval) IS
    'Chooses agents for the next tasks that need this capability and notes that they were chosen, as far as that needs no waiting.';

CREATE FUNCTION public.route_agent(wanted text, strategy text, agent_ttl interval) RETURNS text
LANGUAGE plpgsql
SET enable_seqscan = off AS $$ -- see route_candidates()
DECLARE
    alive_since timestamptz := now() - agent_ttl;
    choice      text[];
    chosen      text;
BEGIN
    IF strategy <> 'round_robin' THEN
        RETURN (SELECT r.agent_id FROM public.route_agents(wanted, strategy, 1, agent_ttl) AS r);
    END IF;
    -- Each more that is looked at costs a fortieth of the whole, and the turns are hardly more even for it.
    choice := public.route_window(wanted, 32, 12);
    IF cardinality(choice) = 0 THEN
        RETURN NULL;
    END IF;
    -- An agent that is just being given a task by somebody else is passed over, and is given a second one
    -- only when all are.
    UPDATE public.agents AS a
       SET last_assigned_at = clock_timestamp()
     WHERE a.agent_id = (
           SELECT b.agent_id FROM public.agents AS b
            WHERE b.agent_id = ANY (choice) AND b.status = 'AVAILABLE' AND b.last_heartbeat > alive_since
            ORDER BY b.last_assigned_at NULLS FIRST, b.agent_id
            LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)
    RETURNING a.agent_id INTO chosen;
    IF chosen IS NULL THEN
        SELECT b.agent_id INTO chosen FROM public.agents AS b
         WHERE b.agent_id = ANY (choice) AND b.status = 'AVAILABLE' AND b.last_heartbeat > alive_since
         ORDER BY random() LIMIT 1;
    END IF;
    RETURN chosen;
END $$;
COMMENT ON FUNCTION public.route_agent(text, text, interval) IS
    'route_agents() for a single task, the common case: the agent, or NULL when there is none.';
