-- What the torture adds to a database: a clock that runs faster, and records of its own of what happened.
CREATE SCHEMA torture;

-- How far the clock is behind. It begins a history ago and gets here with the last fact that is asked for, so
-- that history is as long however fast facts are written.
-- With more facts than are wanted so far, writers wait.
CREATE TABLE torture.clock (behind interval NOT NULL, ahead boolean NOT NULL DEFAULT false);

CREATE FUNCTION torture.at(moment timestamptz) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT moment - c.behind FROM torture.clock AS c
$$;
CREATE FUNCTION torture.now() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT torture.at(pg_catalog.now())';

-- Every fact, whoever writes it, happens by that clock.
CREATE FUNCTION torture.compress() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.at := torture.at(NEW.at);
    RETURN NEW;
END $$;

-- How many facts were written, noted in the transaction that did: neither fold nor retention has a part in it.
CREATE TABLE torture.facts (ledger text NOT NULL, fact text NOT NULL, n bigint NOT NULL);
CREATE FUNCTION torture.count_facts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'chain_events_open' THEN
        INSERT INTO torture.facts SELECT 'chain', n.subject || ' ' || n.to_status, count(*) FROM new_rows AS n GROUP BY 2;
    ELSIF TG_TABLE_NAME = 'webhook_events_open' THEN
        INSERT INTO torture.facts SELECT 'webhook', n.event, count(*) FROM new_rows AS n GROUP BY 2;
    ELSE
        INSERT INTO torture.facts
        SELECT 'task', public.task_event(n.from_status, n.to_status, n.details), count(*) FROM new_rows AS n GROUP BY 2;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER compress BEFORE INSERT ON public.task_events_open FOR EACH ROW EXECUTE FUNCTION torture.compress();
CREATE TRIGGER compress BEFORE INSERT ON public.chain_events_open FOR EACH ROW EXECUTE FUNCTION torture.compress();
CREATE TRIGGER compress BEFORE INSERT ON public.webhook_events_open FOR EACH ROW EXECUTE FUNCTION torture.compress();
CREATE TRIGGER count_facts AFTER INSERT ON public.task_events_open
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION torture.count_facts();
CREATE TRIGGER count_facts AFTER INSERT ON public.chain_events_open
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION torture.count_facts();
CREATE TRIGGER count_facts AFTER INSERT ON public.webhook_events_open
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION torture.count_facts();

-- What writers know that they have done to tasks, from the rows they changed; by them, in the same transaction.
CREATE TABLE torture.moves (
    task_type text NOT NULL, client_id text NOT NULL, agent_id text NOT NULL, reason text NOT NULL, retry integer NOT NULL,
    from_status text NOT NULL, to_status text NOT NULL, n bigint NOT NULL
);

CREATE FUNCTION torture.pass(history interval, goal bigint, wanted bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    facts bigint := (SELECT coalesce(sum(f.n), 0) FROM torture.facts AS f);
BEGIN
    UPDATE torture.clock AS c
       SET behind = least(c.behind, history * greatest(0, 1 - facts::double precision / goal)),
           ahead = facts > wanted;
    RETURN facts;
END $$;
