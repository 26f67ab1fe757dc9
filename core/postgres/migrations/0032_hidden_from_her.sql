-- What her phone is not shown goes by what was pressed and asked, and no longer by what a PIN was.
-- depends: 0031_token_reuse

-- migrate: apply

-- Whether a moment lies where a panic's own phone is shown nothing: from a cancelling, or from a duress PIN given where
-- nothing was open, until the next press. By what was pressed and asked alone, which is the same after every PIN.
CREATE FUNCTION hidden_from_her(incident uuid, moment timestamptz) RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
        SELECT coalesce(
            (SELECT NOT e.shows FROM panic p
                CROSS JOIN LATERAL (VALUES (p.received_at, true), (p.cancel_asked_at, false)) e (at, shows)
                WHERE p.incident_id = incident AND NOT p.unshown AND e.at <= moment ORDER BY e.at DESC, e.shows LIMIT 1),
            EXISTS (SELECT FROM panic p WHERE p.incident_id = incident AND p.unshown AND p.received_at <= moment))
    $$;
REVOKE EXECUTE ON FUNCTION hidden_from_her FROM PUBLIC;
GRANT EXECUTE ON FUNCTION hidden_from_her TO qorgan_api, qorgan_device;

-- Who looked at a person's data, as she herself may know it: no official's id, her name only where her agency says so,
-- nothing that a hold defers; and while a panic of hers is open, none of what was done while it appeared cancelled:
-- somebody else may be holding her phone.
CREATE OR REPLACE FUNCTION looks_at(person uuid, before uuid, most integer)
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
            AND hidden_from_her(i.id, a.at))
        ORDER BY a.id DESC LIMIT most
    $$;

-- Her timers belong in what she is handed out of what is held on her.
SELECT secure_by_agency('panic_timer', 'SELECT', 'SELECT, INSERT, UPDATE, DELETE');

-- migrate: rollback

SELECT secure_by_agency('panic_timer', '', 'SELECT, INSERT, UPDATE, DELETE');
CREATE OR REPLACE FUNCTION looks_at(person uuid, before uuid, most integer)
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
DROP FUNCTION hidden_from_her;
