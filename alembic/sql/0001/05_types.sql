-- What columns may hold. Domains rather than CHECK constraints of the tables: PostgreSQL reads the text of
-- a table's constraints anew for every statement that writes to it, a quarter of all instructions that the
-- life of a task took; those of a domain it reads once for each session.

CREATE DOMAIN public.task_status AS text
    CONSTRAINT task_status_known
    CHECK (VALUE IN ('PENDING', 'ASSIGNED', 'ACTIVE', 'COMPLETED', 'FAILED', 'CANCELLED'));
COMMENT ON DOMAIN public.task_status IS
    'PENDING -> ASSIGNED -> ACTIVE -> COMPLETED | FAILED | CANCELLED; a failed attempt returns to PENDING while retries are left.';

CREATE DOMAIN public.task_priority AS smallint
    CONSTRAINT task_priority_1_to_10 CHECK (VALUE BETWEEN 1 AND 10);
COMMENT ON DOMAIN public.task_priority IS '1 (last) to 10 (first).';

CREATE DOMAIN public.routing_strategy AS text
    CONSTRAINT routing_strategy_known
    CHECK (VALUE IN ('round_robin', 'least_loaded', 'trust_weighted', 'fastest_response'));
COMMENT ON DOMAIN public.routing_strategy IS 'How an agent is chosen for a task.';

CREATE DOMAIN public.retry_policy AS text
    CONSTRAINT retry_policy_known CHECK (VALUE IN ('exponential', 'linear', 'fixed'));
COMMENT ON DOMAIN public.retry_policy IS 'How the delay before a retry grows; see retry_delay().';

CREATE DOMAIN public.retries AS integer
    CONSTRAINT retries_not_negative CHECK (VALUE >= 0);
COMMENT ON DOMAIN public.retries IS 'A number of retries.';

CREATE DOMAIN public.timeout_seconds AS integer
    CONSTRAINT timeout_seconds_positive CHECK (VALUE > 0);
COMMENT ON DOMAIN public.timeout_seconds IS 'Seconds that one attempt may take.';

CREATE DOMAIN public.failure_code AS text
    CONSTRAINT failure_code_is_code CHECK (VALUE ~ '^[a-z][a-z0-9_]{0,39}$');
COMMENT ON DOMAIN public.failure_code IS 'Why an attempt failed: a code, never free text, since it is a label.';

CREATE DOMAIN public.agent_name AS text
    CONSTRAINT agent_name_length CHECK (length(VALUE) BETWEEN 1 AND 64);
COMMENT ON DOMAIN public.agent_name IS 'Name that an agent has chosen for itself.';

CREATE DOMAIN public.agent_status AS text
    CONSTRAINT agent_status_known
    CHECK (VALUE IN ('REGISTERED', 'AVAILABLE', 'BUSY', 'INACTIVE', 'SUSPENDED'));
COMMENT ON DOMAIN public.agent_status IS
    'REGISTERED (no heartbeat yet), AVAILABLE (gets work), BUSY (finishes its work, gets none), INACTIVE (offline or lost), SUSPENDED.';

CREATE DOMAIN public.trust AS double precision
    CONSTRAINT trust_between_0_and_1 CHECK (VALUE BETWEEN 0 AND 1);
COMMENT ON DOMAIN public.trust IS 'From 0 to 1.';

CREATE DOMAIN public.trust_event AS text
    CONSTRAINT trust_event_known CHECK (VALUE IN ('task_completed', 'task_failed', 'manual_adjustment'));
COMMENT ON DOMAIN public.trust_event IS 'What changed the trust in an agent.';

CREATE DOMAIN public.chain_status AS text
    CONSTRAINT chain_status_known CHECK (VALUE IN ('PENDING', 'RUNNING', 'COMPLETED', 'FAILED', 'CANCELLED'));
COMMENT ON DOMAIN public.chain_status IS 'PENDING -> RUNNING -> COMPLETED | FAILED | CANCELLED, of a chain and of each step.';

CREATE DOMAIN public.delivery_status AS text
    CONSTRAINT delivery_status_known CHECK (VALUE IN ('pending', 'success', 'failed'));
COMMENT ON DOMAIN public.delivery_status IS 'pending, success, or failed (retries used up, or endpoint gone).';

CREATE DOMAIN public.attempt_outcome AS text
    CONSTRAINT attempt_outcome_known
    CHECK (VALUE IN ('success', 'http_error', 'timeout', 'connect_error', 'blocked'));
COMMENT ON DOMAIN public.attempt_outcome IS 'How an HTTP attempt of a webhook delivery went.';
