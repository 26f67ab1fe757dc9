-- An agency's feed is locked by the commit alone, not while its holder's next statement is on its way.
-- depends: 0034_default_agency

-- migrate: apply

CREATE UNLOGGED TABLE feed_outgoing (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    agency_id uuid NOT NULL,
    at timestamptz NOT NULL,
    kinds text[] NOT NULL,
    bodies jsonb[] NOT NULL
);

CREATE FUNCTION send_outgoing() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock(hashtextextended(NEW.agency_id::text, 7067002));
        INSERT INTO feed (id, agency_id, kind, at, data)
            SELECT nextval('feed_id'), NEW.agency_id, event.kind, NEW.at, event.body
            FROM unnest(NEW.kinds, NEW.bodies) WITH ORDINALITY AS event (kind, body, number) ORDER BY event.number;
        DELETE FROM feed_outgoing WHERE id = NEW.id;
        PERFORM pg_notify('feed', NEW.agency_id::text);
        RETURN NULL;
    END
    $$;
REVOKE EXECUTE ON FUNCTION send_outgoing FROM PUBLIC;
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON feed_outgoing DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION send_outgoing();

SELECT secure_by_agency('feed_outgoing', 'INSERT', 'INSERT', 'INSERT');
SELECT secure_by_agency('feed', 'SELECT', 'SELECT, DELETE', 'SELECT');
REVOKE USAGE ON SEQUENCE feed_id FROM qorgan_api, qorgan_device, qorgan_worker;

DROP FUNCTION tell_other_agency;
CREATE FUNCTION tell_other_agency(other uuid, moment timestamptz, bodies jsonb[]) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
        INSERT INTO feed_outgoing (agency_id, at, kinds, bodies)
            VALUES (other, moment, array_fill('shared.incident'::text, ARRAY[cardinality(bodies)]), bodies)
    $$;
REVOKE EXECUTE ON FUNCTION tell_other_agency FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tell_other_agency TO qorgan_api, qorgan_device, qorgan_worker;

-- migrate: rollback

DROP FUNCTION tell_other_agency;
DROP TABLE feed_outgoing;
DROP FUNCTION send_outgoing;
GRANT USAGE ON SEQUENCE feed_id TO qorgan_api, qorgan_device, qorgan_worker;
SELECT secure_by_agency('feed', 'SELECT, INSERT', 'SELECT, INSERT, DELETE', 'SELECT, INSERT');
CREATE FUNCTION tell_other_agency(other uuid, seed bigint, moment timestamptz, bodies jsonb[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock(hashtextextended(other::text, seed));
        INSERT INTO feed (id, agency_id, kind, at, data)
            SELECT nextval('feed_id'), other, 'shared.incident', moment, body
            FROM unnest(bodies) WITH ORDINALITY AS event (body, number) ORDER BY number;
        PERFORM pg_notify('feed', other::text);
    END
    $$;
REVOKE EXECUTE ON FUNCTION tell_other_agency FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tell_other_agency TO qorgan_api, qorgan_device, qorgan_worker;
