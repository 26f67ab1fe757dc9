-- Drills of devices, contacts and the service itself; outages that agencies acknowledge, and of which she is told once.
-- depends: 0025_calls_in_words

-- migrate: apply

ALTER TABLE contact ADD COLUMN last_proved_at timestamptz;

-- A test of the whole pipe: of a device, of a contact, or the server's own with nobody in it.
CREATE TABLE drill (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    kind text NOT NULL CHECK (kind IN ('device', 'contact', 'server')),
    person_id uuid REFERENCES person,
    device_id uuid REFERENCES device,
    contact_id uuid REFERENCES contact ON DELETE CASCADE,
    started_at timestamptz NOT NULL,          -- pressed, or queued
    journal_s real,                           -- how long the disk took
    answers_by timestamptz NOT NULL,
    sent_at timestamptz,
    proved_at timestamptz,
    failed_at timestamptz,
    failure text CHECK (failure IN ('not_sent', 'not_answered', 'not_on_feed', 'no_journal')),
    CHECK ((kind = 'device') = (device_id IS NOT NULL)),
    CHECK ((kind = 'contact') = (contact_id IS NOT NULL)),
    CHECK ((failed_at IS NULL) = (failure IS NULL))
);
CREATE INDEX drill_waiting ON drill (answers_by) WHERE proved_at IS NULL AND failed_at IS NULL;
CREATE INDEX drill_device ON drill (device_id, started_at);
CREATE INDEX drill_contact ON drill (contact_id, started_at);
CREATE INDEX drill_agency ON drill (agency_id, started_at);
CREATE INDEX delivery_cause ON delivery (cause) WHERE template IN ('drill_device', 'drill_contact');

-- The service was without a part of itself: every agency is told, and says that it has heard.
CREATE TABLE service_outage (
    id uuid PRIMARY KEY,
    what text NOT NULL CHECK (what IN ('positions', 'detection', 'database')),
    started_at timestamptz NOT NULL,
    told_at timestamptz NOT NULL,
    ended_at timestamptz
);
CREATE UNIQUE INDEX service_outage_open ON service_outage (what) WHERE ended_at IS NULL;

CREATE TABLE outage_acknowledgement (
    outage_id uuid NOT NULL,                  -- of a service_outage, or of an incident of the type
    agency_id uuid NOT NULL REFERENCES agency,
    user_id uuid NOT NULL REFERENCES app_user,
    at timestamptz NOT NULL,
    PRIMARY KEY (outage_id, agency_id)
);

-- Who was told, discreetly, that she is not seen for now: once an outage.
CREATE TABLE outage_word (
    outage_id uuid NOT NULL,
    person_id uuid NOT NULL REFERENCES person,
    agency_id uuid NOT NULL REFERENCES agency,
    at timestamptz NOT NULL,
    messages integer NOT NULL,                -- 0: nothing could carry it now
    over_at timestamptz,                      -- when she was told that it is over
    PRIMARY KEY (outage_id, person_id)
);

-- The agency of the server's own drills, the last that anything else would ever fall to; null while there is no other.
CREATE FUNCTION self_drill_agency(self uuid, self_name text, moment timestamptz) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    BEGIN
        IF NOT EXISTS (SELECT FROM agency WHERE id <> self) THEN
            RETURN NULL;
        END IF;
        INSERT INTO agency (id, name, kind, created_at) VALUES (self, self_name, 'other', '9999-01-01')
            ON CONFLICT DO NOTHING;
        INSERT INTO retention_policy (agency_id, periods, updated_at)
            VALUES (self, '{"delivery_text_days": 1, "delivery_days": 30, "device_notice_days": 7}', moment)
            ON CONFLICT DO NOTHING;
        RETURN self;
    END
    $$;

-- Since when the oldest row of the audit waits for its link; null: none does.
CREATE FUNCTION oldest_unsealed() RETURNS timestamptz
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
        SELECT min(a.at) FROM audit a, audit_seal s WHERE a.xid >= s.floor_xid
        AND NOT EXISTS (SELECT FROM audit_link l WHERE l.audit_id = a.id)
    $$;

-- Which agencies have acknowledged an outage, and when; by whom is each agency's own.
CREATE FUNCTION outage_heard(outages uuid[]) RETURNS TABLE (outage_id uuid, agency text, at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
        SELECT k.outage_id, g.name, k.at FROM outage_acknowledgement k JOIN agency g ON g.id = k.agency_id
        WHERE k.outage_id = ANY (outages) ORDER BY k.at
    $$;
REVOKE EXECUTE ON FUNCTION self_drill_agency, oldest_unsealed, outage_heard FROM PUBLIC;
GRANT EXECUTE ON FUNCTION self_drill_agency, oldest_unsealed TO qorgan_device;
GRANT EXECUTE ON FUNCTION outage_heard TO qorgan_api;

SELECT secure_by_agency('drill', 'SELECT, INSERT', 'SELECT, INSERT, UPDATE');
SELECT secure_by_agency('outage_acknowledgement', 'SELECT, INSERT');
SELECT secure_by_agency('outage_word', 'SELECT', 'SELECT, INSERT, UPDATE');
GRANT SELECT ON service_outage TO qorgan_api;
GRANT SELECT, INSERT, UPDATE ON service_outage TO qorgan_device;
GRANT SELECT, DELETE ON drill, outage_word TO qorgan_retention;
CREATE POLICY by_retention ON drill TO qorgan_retention USING (true) WITH CHECK (true);
CREATE POLICY by_retention ON outage_word TO qorgan_retention USING (true) WITH CHECK (true);

-- migrate: rollback

DROP FUNCTION self_drill_agency, oldest_unsealed, outage_heard;
DROP INDEX delivery_cause;
DROP TABLE outage_word, outage_acknowledgement, service_outage, drill;
ALTER TABLE contact DROP COLUMN last_proved_at;
