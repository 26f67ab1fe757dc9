-- Live links for trusted contacts; a person is told which contact looked, and nothing that betrays a cancelled panic.
-- depends: 0020_escalation

-- migrate: apply

-- How a contact sees where she is during an open panic: a random token's digest, which belongs to one browser.
CREATE TABLE live_link (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    incident_id uuid NOT NULL REFERENCES incident ON DELETE CASCADE,
    person_id uuid NOT NULL REFERENCES person,
    contact_id uuid NOT NULL REFERENCES contact ON DELETE CASCADE,
    channel text NOT NULL,                    -- by which it was sent: where a code for another browser goes
    digest bytea NOT NULL UNIQUE CHECK (length(digest) = 32),
    browser_digest bytea CHECK (length(browser_digest) = 32),
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL CHECK (expires_at > created_at),
    revoked_at timestamptz,
    revoked_because text CHECK (revoked_because IN ('her', 'dispatcher', 'contact')),
    opened_at timestamptz,                    -- first
    noted_at timestamptz,                     -- when the audit last said so
    openings integer NOT NULL DEFAULT 0,
    codes integer NOT NULL DEFAULT 0,
    code_digest bytea,
    code_sent_at timestamptz,
    code_tries integer NOT NULL DEFAULT 0,
    CHECK ((revoked_at IS NULL) = (revoked_because IS NULL))
);
CREATE INDEX live_link_incident ON live_link (incident_id);
CREATE INDEX live_link_person ON live_link (person_id);
CREATE INDEX live_link_contact ON live_link (contact_id);
CREATE INDEX live_link_browser ON live_link (browser_digest) WHERE browser_digest IS NOT NULL;

SELECT secure_by_agency('live_link', 'SELECT, UPDATE', 'SELECT, INSERT, UPDATE');
GRANT SELECT, DELETE ON live_link TO qorgan_retention;
CREATE POLICY by_retention ON live_link TO qorgan_retention USING (true) WITH CHECK (true);

DROP FUNCTION looks_at;
-- Who looked at a person's data, as she herself may know it: no official's id, her name only where her agency says so,
-- nothing that a hold defers; and while a panic of hers that appears cancelled is open, none of what is done about it:
-- somebody else may be holding her phone.
CREATE FUNCTION looks_at(person uuid, before uuid, most integer)
    RETURNS TABLE (
        id uuid, at timestamptz, action text, role text, purpose text, agency text, official text, contact_id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
        SELECT a.id, a.at, a.action, a.role, a.purpose, g.name, CASE WHEN g.names_officials THEN u.display_name END,
            CASE WHEN a.actor_kind = 'contact' THEN a.actor_id::uuid END
        FROM audit a JOIN agency g ON g.id = a.agency_id
        LEFT JOIN app_user u ON a.actor_kind = 'user' AND u.id::text = a.actor_id
        WHERE a.person_ids @> ARRAY[person] AND a.person_ids <> '{}' AND a.actor_kind IN ('user', 'contact')
        AND a.action NOT LIKE 'audit%'
        AND (before IS NULL OR a.id < before)
        AND NOT EXISTS (
            SELECT FROM audit_hold h WHERE h.person_id = person AND h.released_at IS NULL AND h.ends_at > now()
            AND a.at >= h.since AND (h.user_id IS NULL OR h.user_id::text = a.actor_id))
        AND NOT EXISTS (
            SELECT FROM incident i WHERE i.victim_id = person AND i.type = 'panic' AND i.state <> 'resolved'
            AND i.detail ?| ARRAY['cancel_asked_at', 'duress', 'cancel_unverified']
            AND a.at >= coalesce((i.detail ->> 'cancel_asked_at')::timestamptz, i.opened_at))
        ORDER BY a.id DESC LIMIT most
    $$;
REVOKE EXECUTE ON FUNCTION looks_at FROM PUBLIC;
GRANT EXECUTE ON FUNCTION looks_at TO qorgan_api, qorgan_device;

-- migrate: rollback

DROP FUNCTION looks_at;
CREATE FUNCTION looks_at(person uuid, before uuid, most integer)
    RETURNS TABLE (id uuid, at timestamptz, action text, role text, purpose text, agency text, official text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
        SELECT a.id, a.at, a.action, a.role, a.purpose, g.name, CASE WHEN g.names_officials THEN u.display_name END
        FROM audit a JOIN agency g ON g.id = a.agency_id
        LEFT JOIN app_user u ON a.actor_kind = 'user' AND u.id::text = a.actor_id
        WHERE a.person_ids @> ARRAY[person] AND a.person_ids <> '{}' AND a.actor_kind = 'user'
        AND a.action NOT LIKE 'audit%'
        AND (before IS NULL OR a.id < before)
        AND NOT EXISTS (
            SELECT FROM audit_hold h WHERE h.person_id = person AND h.released_at IS NULL AND h.ends_at > now()
            AND a.at >= h.since AND (h.user_id IS NULL OR h.user_id::text = a.actor_id))
        ORDER BY a.id DESC LIMIT most
    $$;
REVOKE EXECUTE ON FUNCTION looks_at FROM PUBLIC;
GRANT EXECUTE ON FUNCTION looks_at TO qorgan_api, qorgan_device;
DROP TABLE live_link;
