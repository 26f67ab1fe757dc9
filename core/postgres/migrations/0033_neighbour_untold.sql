-- A neighbour is told of an incident by whoever acts on it, and what is still to go to it is taken back with the rest.
-- depends: 0032_hidden_from_her

-- migrate: apply

CREATE INDEX delivery_elsewhere ON delivery ((data ->> 'incident_id'))
    WHERE incident_id IS NULL AND state = 'queued' AND data ->> 'incident_id' IS NOT NULL;

-- Takes back what steps of these kinds queued to agencies an incident is not of: its own cannot see their messages.
CREATE FUNCTION take_back_elsewhere(told_of uuid, kinds text[], moment timestamptz) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
        UPDATE delivery SET state = 'cancelled', updated_at = moment
            WHERE incident_id IS NULL AND state = 'queued' AND data ->> 'incident_id' = told_of::text
            AND data ->> 'event' = 'incident.escalated' AND data ->> 'why' = ANY (kinds)
    $$;
REVOKE EXECUTE ON FUNCTION take_back_elsewhere FROM PUBLIC;
GRANT EXECUTE ON FUNCTION take_back_elsewhere TO qorgan_api, qorgan_device, qorgan_worker;

-- Tells another agency of an incident that concerns it, in its feed, as core.postgres.feed does: whoever acts in one
-- agency's name writes into no other's feed but this.
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

-- migrate: rollback

DROP FUNCTION tell_other_agency;
DROP FUNCTION take_back_elsewhere;
DROP INDEX delivery_elsewhere;
