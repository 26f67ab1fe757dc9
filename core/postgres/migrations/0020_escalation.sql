-- Escalation: deadlines that are rows, policies, who is on call and how she is told, other agencies that have to know.
-- depends: 0019_receipts

-- migrate: apply

-- What an agency does while nobody acts on an incident; what it does not say stands in core.domain.escalation.
CREATE TABLE escalation_policy (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    type text NOT NULL DEFAULT 'any',         -- of incidents; any: of those that have none of their own
    severity text NOT NULL CHECK (severity IN ('low', 'medium', 'high', 'critical')),
    body jsonb NOT NULL,                      -- core.domain.escalation.Policy
    plan jsonb NOT NULL,                      -- what runs from an opening on: [[step, turn, seconds], …]
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    updated_by uuid REFERENCES app_user,
    UNIQUE (agency_id, severity, type)
);

-- When something has to have been done about an incident. Only who holds the incident's row changes them.
CREATE TABLE escalation_deadline (
    incident_id uuid NOT NULL REFERENCES incident ON DELETE CASCADE,
    round integer NOT NULL,                   -- the incident's version when the clock was started; 0: a unit's
    kind text NOT NULL CHECK (kind IN ('unacknowledged', 'undispatched', 'unaccepted', 'late')),
    unit_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    step smallint NOT NULL,
    turn smallint NOT NULL DEFAULT 0,         -- how often the step was repeated
    due_at timestamptz NOT NULL,
    agency_id uuid NOT NULL,
    settled_at timestamptz,
    outcome text CHECK (outcome IN ('told', 'nobody', 'together', 'stopped')),
    PRIMARY KEY (incident_id, round, kind, unit_id, step, turn, due_at),
    CHECK ((settled_at IS NULL) = (outcome IS NULL))
);
CREATE INDEX escalation_deadline_due ON escalation_deadline (due_at) WHERE settled_at IS NULL;

-- Who is on call: a rota in wall-clock time, and who stands in for whom.
CREATE TABLE on_call_rota (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    duty text NOT NULL CHECK (duty IN ('duty_officer', 'supervisor')),
    body jsonb NOT NULL,                      -- core.domain.on_call.Rota
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    updated_by uuid REFERENCES app_user,
    UNIQUE (agency_id, duty)
);
CREATE TABLE on_call_override (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    duty text NOT NULL CHECK (duty IN ('duty_officer', 'supervisor')),
    user_id uuid NOT NULL REFERENCES app_user,
    instead_of uuid REFERENCES app_user,      -- null: instead of whoever is on call then
    from_at timestamptz NOT NULL,
    until_at timestamptz NOT NULL CHECK (until_at > from_at),
    created_by uuid REFERENCES app_user,
    created_at timestamptz NOT NULL
);
CREATE INDEX on_call_override_agency ON on_call_override (agency_id, until_at);

-- How a user is told when her screen is not enough.
CREATE TABLE user_channel (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    user_id uuid NOT NULL REFERENCES app_user ON DELETE CASCADE,
    channel text NOT NULL,
    address_sealed bytea NOT NULL,
    language text NOT NULL DEFAULT 'ru',
    enabled boolean NOT NULL DEFAULT true,
    verified_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    UNIQUE (user_id, channel)
);
CREATE INDEX user_channel_agency ON user_channel (agency_id);

-- Who of the agency goes with a unit: told when it is sent, and who accepts.
ALTER TABLE unit ADD COLUMN user_ids uuid[] NOT NULL DEFAULT '{}';

-- Another agency that has to know of an incident: it is in its jurisdiction, or its neighbour's help was asked.
CREATE TABLE incident_share (
    incident_id uuid NOT NULL REFERENCES incident ON DELETE CASCADE,
    agency_id uuid NOT NULL REFERENCES agency, -- who is told
    owner_agency_id uuid NOT NULL REFERENCES agency,
    reason text NOT NULL CHECK (reason IN ('jurisdiction', 'neighbour')),
    since timestamptz NOT NULL,
    acknowledged_at timestamptz,
    acknowledged_by uuid REFERENCES app_user,
    PRIMARY KEY (incident_id, agency_id)
);
CREATE INDEX incident_share_agency ON incident_share (agency_id, since);

-- What a device is told with its next acknowledgement.
CREATE TABLE device_command (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    device_id uuid NOT NULL REFERENCES device,
    kind text NOT NULL,
    body jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    taken_at timestamptz                      -- when it went out with an acknowledgement
);
CREATE INDEX device_command_waiting ON device_command (expires_at) WHERE taken_at IS NULL;

-- What became of what may be said to him.
ALTER TABLE aggressor_warning
    ADD COLUMN settled_at timestamptz,
    ADD COLUMN outcome text CHECK (outcome IN ('sent', 'recent', 'away', 'over', 'unreachable'));
UPDATE aggressor_warning SET settled_at = now(), outcome = 'over';
CREATE INDEX aggressor_warning_due ON aggressor_warning (release_at) WHERE settled_at IS NULL AND left_at IS NULL;
CREATE INDEX aggressor_warning_sent ON aggressor_warning (aggressor_id, settled_at) WHERE outcome = 'sent';

-- How often an agency's jurisdiction changed: what the index of all of them is kept by.
ALTER TABLE agency ADD COLUMN jurisdiction_version integer NOT NULL DEFAULT 0;
CREATE FUNCTION note_jurisdiction() RETURNS trigger LANGUAGE plpgsql
    AS $$
    BEGIN
        NEW.jurisdiction_version := OLD.jurisdiction_version + 1;
        RETURN NEW;
    END
    $$;
CREATE TRIGGER jurisdiction_changed BEFORE UPDATE OF jurisdiction, kind ON agency
    FOR EACH ROW EXECUTE FUNCTION note_jurisdiction();

-- Who of an agency may be told of an incident: everybody there but who is related to somebody in it.
CREATE FUNCTION staff_to_tell(agency uuid, people uuid[], of_case uuid)
    RETURNS TABLE (user_id uuid, role text, language text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
        SELECT u.id, u.role, u.language FROM app_user u
        WHERE u.agency_id = agency AND u.disabled_at IS NULL
            AND coalesce(current_setting('qorgan.agency_id', true), '') IN ('', agency::text)
            AND NOT EXISTS (
                SELECT FROM user_conflict k WHERE k.user_id = u.id
                AND (k.person_id = ANY (people) OR of_case IN (SELECT cases_of_person(k.person_id))))
        ORDER BY u.id
    $$;

-- What an agency is told of others' incidents that are its concern and not over: what it needs to send help, and where
-- she is only while a panic, a breach or an approach of hers is open.
CREATE FUNCTION shared_incidents(asked uuid DEFAULT NULL)
    RETURNS TABLE (
        id uuid, agency_id uuid, agency_name text, reason text, since timestamptz, acknowledged_at timestamptz,
        type text, severity text, state text, opened_at timestamptz, exercise boolean, place jsonb,
        do_not_call boolean, hazards jsonb, language text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
        SELECT i.id, i.agency_id, a.name, s.reason, s.since, s.acknowledged_at, i.type, i.severity, i.state,
            i.opened_at, i.exercise,
            CASE WHEN i.type IN ('panic', 'proximity', 'approach') AND NOT i.retrospective THEN i.place END,
            i.do_not_call, i.hazards, i.language
        FROM incident_share s JOIN incident i ON i.id = s.incident_id JOIN agency a ON a.id = i.agency_id
        WHERE s.agency_id = current_agency() AND i.state <> 'resolved' AND (asked IS NULL OR i.id = asked)
        ORDER BY i.opened_at DESC, i.id LIMIT 500
    $$;

SELECT secure_by_agency('escalation_policy', 'SELECT, INSERT, UPDATE, DELETE', 'SELECT', 'SELECT');
SELECT secure_by_agency('escalation_deadline', 'SELECT, INSERT, UPDATE', 'SELECT, INSERT, UPDATE', 'SELECT, INSERT, UPDATE');
SELECT secure_by_agency('on_call_rota', 'SELECT, INSERT, UPDATE, DELETE', 'SELECT', 'SELECT');
SELECT secure_by_agency('on_call_override', 'SELECT, INSERT, DELETE', 'SELECT', 'SELECT');
SELECT secure_by_agency('user_channel', 'SELECT, INSERT, UPDATE, DELETE', 'SELECT', 'SELECT');
SELECT secure_by(
    'incident_share',
    'agency_id = (SELECT current_agency()) OR owner_agency_id = (SELECT current_agency())'
    ' AND EXISTS (SELECT FROM incident i WHERE i.id = incident_id)',
    'SELECT, INSERT', 'SELECT, INSERT, UPDATE', 'SELECT, INSERT, UPDATE');
CREATE POLICY by_owner ON incident_share AS RESTRICTIVE FOR INSERT TO qorgan_api
    WITH CHECK (owner_agency_id = (SELECT current_agency()) AND EXISTS (SELECT FROM incident i WHERE i.id = incident_id));
SELECT secure_by_agency('device_command', 'SELECT', 'SELECT, UPDATE', 'SELECT, INSERT, DELETE');
SELECT secure_by_agency('unit', device => 'SELECT', worker => 'SELECT, UPDATE');
REVOKE EXECUTE ON FUNCTION note_jurisdiction, staff_to_tell, shared_incidents FROM PUBLIC;
GRANT EXECUTE ON FUNCTION staff_to_tell TO qorgan_api, qorgan_device, qorgan_worker;
GRANT EXECUTE ON FUNCTION shared_incidents TO qorgan_api;

-- migrate: rollback

SELECT secure_by_agency('unit', device => 'SELECT', worker => 'SELECT');
DROP FUNCTION shared_incidents, staff_to_tell;
DROP TRIGGER jurisdiction_changed ON agency;
DROP FUNCTION note_jurisdiction;
ALTER TABLE agency DROP COLUMN jurisdiction_version;
DROP INDEX aggressor_warning_sent, aggressor_warning_due;
ALTER TABLE aggressor_warning DROP COLUMN settled_at, DROP COLUMN outcome;
ALTER TABLE unit DROP COLUMN user_ids;
DROP TABLE device_command, incident_share, user_channel, on_call_override, on_call_rota, escalation_deadline,
    escalation_policy;
