-- Agents, what they can do, how much they are trusted, and who may be given work right now.

CREATE TABLE public.agents (
    agent_id                     public.agent_name   PRIMARY KEY,
    display_name                 text                NOT NULL,
    description                  text,
    endpoint                     text                NOT NULL,
    public_key                   text                NOT NULL,
    signature                    text                NOT NULL,
    verified                     boolean             NOT NULL DEFAULT false,
    tags                         text[]              NOT NULL DEFAULT '{}',
    status                       public.agent_status NOT NULL DEFAULT 'REGISTERED',
    trust_score                  public.trust        NOT NULL DEFAULT 0.5,
    total_tasks_completed        bigint              NOT NULL DEFAULT 0,
    total_tasks_failed           bigint              NOT NULL DEFAULT 0,
    avg_completion_time_seconds  double precision,
    last_task_completed_at       timestamptz,
    last_assigned_at             timestamptz,
    last_heartbeat               timestamptz,
    heartbeat_timestamp          bigint,
    uptime_ms                    bigint,
    health_metrics               json,
    created_at                   timestamptz         NOT NULL DEFAULT now(),
    updated_at                   timestamptz         NOT NULL DEFAULT now()
) WITH (fillfactor = 70);

CREATE FUNCTION public.lower_all(texts text[]) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    FOR i IN coalesce(array_lower(texts, 1), 1) .. coalesce(array_upper(texts, 1), 0) LOOP
        texts[i] := lower(texts[i]);
    END LOOP;
    RETURN texts;
END $$;
COMMENT ON FUNCTION public.lower_all(text[]) IS
    'Every text in lower case. Tags: lower_all(tags) && $1 uses the index agents_by_tag.';

-- Nothing that a heartbeat or a finished task changes is indexed, trust least of all: such updates stay
-- heap-only. Ranking twenty thousand agents by trust reads the table, in some milliseconds.
CREATE INDEX agents_by_status ON public.agents (status, created_at DESC);
CREATE INDEX agents_by_creation ON public.agents (created_at DESC, agent_id);
CREATE INDEX agents_by_tag ON public.agents USING gin (public.lower_all(tags)) WITH (fastupdate = off);

COMMENT ON TABLE public.agents IS
    'One row per registered agent: identity, liveness, trust and the totals of its work.';
COMMENT ON COLUMN public.agents.agent_id IS 'The agent''s own name, chosen by it, at most 64 characters.';
COMMENT ON COLUMN public.agents.display_name IS 'Name for people; a label of ains_agent_trust_score.';
COMMENT ON COLUMN public.agents.description IS 'What the agent says of itself; free text.';
COMMENT ON COLUMN public.agents.endpoint IS 'URL under which the agent says it can be reached; AINS does not call it.';
COMMENT ON COLUMN public.agents.public_key IS 'Ed25519 public key, hexadecimal.';
COMMENT ON COLUMN public.agents.signature IS 'Signature given at registration, hexadecimal.';
COMMENT ON COLUMN public.agents.verified IS 'True when signature is a valid Ed25519 signature of agent_id || endpoint under public_key.';
COMMENT ON COLUMN public.agents.tags IS 'Free tags; an agent is also capable of whatever it carries as a tag.';
COMMENT ON COLUMN public.agents.status IS 'REGISTERED (no heartbeat yet), AVAILABLE (gets work), BUSY (finishes its work, gets none), INACTIVE (offline or lost), SUSPENDED.';
COMMENT ON COLUMN public.agents.trust_score IS 'Trust from 0 to 1; every change is a row in trust_records.';
COMMENT ON COLUMN public.agents.total_tasks_completed IS 'Tasks COMPLETED by this agent, kept by the trigger tasks_trust.';
COMMENT ON COLUMN public.agents.total_tasks_failed IS 'Tasks FAILED for good whose last attempt was this agent''s, kept by the trigger tasks_trust.';
COMMENT ON COLUMN public.agents.avg_completion_time_seconds IS 'Moving average of execution time: 0.7 x old + 0.3 x new; NULL until the first completed task.';
COMMENT ON COLUMN public.agents.last_task_completed_at IS 'When it last completed a task.';
COMMENT ON COLUMN public.agents.last_assigned_at IS 'When it was last given a task; round_robin picks the smallest. Best effort under concurrency.';
COMMENT ON COLUMN public.agents.last_heartbeat IS 'When its last heartbeat arrived, by the clock of the database.';
COMMENT ON COLUMN public.agents.heartbeat_timestamp IS 'The timestamp that the agent itself sent with its last heartbeat.';
COMMENT ON COLUMN public.agents.uptime_ms IS 'Uptime in milliseconds that the agent sent with its last heartbeat.';
COMMENT ON COLUMN public.agents.health_metrics IS 'The metrics object that the agent sent with its last heartbeat, as it was sent.';
COMMENT ON COLUMN public.agents.created_at IS 'When it registered.';
COMMENT ON COLUMN public.agents.updated_at IS 'When registration data, status or trust last changed.';

CREATE TABLE public.agent_capabilities (
    capability_id         uuid             PRIMARY KEY DEFAULT gen_random_uuid(),
    agent_id              text             NOT NULL REFERENCES public.agents ON DELETE CASCADE,
    name                  text             NOT NULL,
    description           text             NOT NULL,
    input_schema          json             NOT NULL,
    output_schema         json             NOT NULL,
    pricing_model         text             NOT NULL,
    price                 double precision NOT NULL,
    latency_p99_ms        double precision NOT NULL,
    availability_percent  double precision NOT NULL,
    signature             text             NOT NULL,
    deprecated            boolean          NOT NULL DEFAULT false,
    created_at            timestamptz      NOT NULL DEFAULT now(),
    updated_at            timestamptz      NOT NULL DEFAULT now()
);

CREATE UNIQUE INDEX agent_capabilities_one_per_name ON public.agent_capabilities (agent_id, lower(name));
CREATE INDEX agent_capabilities_by_name ON public.agent_capabilities (lower(name)) WHERE NOT deprecated;

COMMENT ON TABLE public.agent_capabilities IS
    'What agents have published that they can do. Publishing a name again, in whatever case, replaces the row.';
COMMENT ON COLUMN public.agent_capabilities.capability_id IS 'Identifier given at the first publication.';
COMMENT ON COLUMN public.agent_capabilities.agent_id IS 'The agent that offers it.';
COMMENT ON COLUMN public.agent_capabilities.name IS 'Name that tasks ask for; compared without regard to case.';
COMMENT ON COLUMN public.agent_capabilities.description IS 'Description for people.';
COMMENT ON COLUMN public.agent_capabilities.input_schema IS 'JSON Schema of the input, as published.';
COMMENT ON COLUMN public.agent_capabilities.output_schema IS 'JSON Schema of the result, as published.';
COMMENT ON COLUMN public.agent_capabilities.pricing_model IS 'How the price is meant, for example per_task.';
COMMENT ON COLUMN public.agent_capabilities.price IS 'Price in the unit of pricing_model.';
COMMENT ON COLUMN public.agent_capabilities.latency_p99_ms IS '99th percentile of latency in milliseconds, as the agent claims.';
COMMENT ON COLUMN public.agent_capabilities.availability_percent IS 'Availability in percent, as the agent claims.';
COMMENT ON COLUMN public.agent_capabilities.signature IS 'Signature of the publication, as it was sent; not checked.';
COMMENT ON COLUMN public.agent_capabilities.deprecated IS 'True takes it out of routing without deleting it.';
COMMENT ON COLUMN public.agent_capabilities.created_at IS 'First publication.';
COMMENT ON COLUMN public.agent_capabilities.updated_at IS 'Latest publication.';

CREATE TABLE public.trust_records (
    record_id           bigint             GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    agent_id            text               NOT NULL REFERENCES public.agents ON DELETE CASCADE,
    event_type          public.trust_event NOT NULL,
    trust_delta         double precision   NOT NULL,
    trust_score_before  double precision   NOT NULL,
    trust_score_after   double precision   NOT NULL,
    reason              text,
    task_id             uuid,
    created_at          timestamptz        NOT NULL DEFAULT now()
);

CREATE INDEX trust_records_by_agent ON public.trust_records (agent_id, record_id DESC);

COMMENT ON TABLE public.trust_records IS 'History of every change of an agent''s trust.';
COMMENT ON COLUMN public.trust_records.record_id IS 'Grows with time.';
COMMENT ON COLUMN public.trust_records.agent_id IS 'Whose trust changed.';
COMMENT ON COLUMN public.trust_records.event_type IS 'task_completed, task_failed or manual_adjustment.';
COMMENT ON COLUMN public.trust_records.trust_delta IS 'The change asked for; before and after show what the bounds 0 and 1 left of it.';
COMMENT ON COLUMN public.trust_records.trust_score_before IS 'Trust before the change.';
COMMENT ON COLUMN public.trust_records.trust_score_after IS 'Trust after the change.';
COMMENT ON COLUMN public.trust_records.reason IS 'Failure code of the task, or what the person who adjusted it wrote.';
COMMENT ON COLUMN public.trust_records.task_id IS 'The task that caused it, if one did.';
COMMENT ON COLUMN public.trust_records.created_at IS 'When it changed.';
