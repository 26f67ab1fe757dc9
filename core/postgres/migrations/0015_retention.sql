-- Retention: agencies' periods, holds, copies of what is held, who wore what when, and what was erased by which rule.
-- depends: 0014_probing

-- migrate: apply

-- Retention: how long what is kept of people is kept ---------------------------------------------------------------

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'qorgan_retention') THEN
        BEGIN
            CREATE ROLE qorgan_retention NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END IF;
END
$$;
GRANT USAGE ON SCHEMA public TO qorgan_retention;

-- What an agency sets otherwise than the defaults of core.domain.retention.
CREATE TABLE retention_policy (
    agency_id uuid PRIMARY KEY REFERENCES agency,
    periods jsonb NOT NULL DEFAULT '{}',
    changed_by uuid REFERENCES app_user,
    updated_at timestamptz NOT NULL
);

-- Who wore what and when, written as devices change hands: whose a fix is.
CREATE TABLE wearing (
    device_number bigint NOT NULL,
    since timestamptz NOT NULL,
    until timestamptz NOT NULL DEFAULT 'infinity',
    person_id uuid NOT NULL REFERENCES person,
    device_id uuid NOT NULL REFERENCES device,
    agency_id uuid NOT NULL,
    PRIMARY KEY (device_number, since)
);
CREATE INDEX wearing_person ON wearing (person_id, since);

-- What she holds of her own fixes.
CREATE TABLE own_hold (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    person_id uuid NOT NULL REFERENCES person,
    fixes_from timestamptz NOT NULL,
    fixes_until timestamptz NOT NULL,
    placed_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    lifted_at timestamptz,
    CHECK (fixes_until >= fixes_from)
);
CREATE UNIQUE INDEX own_hold_person ON own_hold (person_id) WHERE lifted_at IS NULL;

ALTER TABLE legal_hold ADD COLUMN incident_id uuid REFERENCES incident;
ALTER TABLE legal_hold ADD COLUMN reference text;
ALTER TABLE legal_hold ADD COLUMN lifted_by uuid REFERENCES app_user;
ALTER TABLE legal_hold ADD COLUMN lift_reason text;
ALTER TABLE legal_hold DROP CONSTRAINT legal_hold_check;
ALTER TABLE legal_hold ADD CONSTRAINT legal_hold_check CHECK (num_nonnulls(person_id, case_id, incident_id) > 0);
CREATE INDEX legal_hold_incident ON legal_hold (incident_id) WHERE lifted_at IS NULL;

-- Fixes under a hold whose day was dropped, as in ping.
CREATE TABLE ping_held (
    person_id uuid NOT NULL REFERENCES person,
    agency_id uuid NOT NULL,
    role smallint NOT NULL,
    device_number bigint NOT NULL,
    live_at timestamptz NOT NULL,
    seq bigint NOT NULL,
    at timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    flags bigint NOT NULL,
    lat double precision NOT NULL,
    lon double precision NOT NULL,
    accuracy_m real NOT NULL,
    speed_mps real NOT NULL,
    heading_deg real NOT NULL,
    altitude_m real NOT NULL,
    battery_pct real NOT NULL,
    heard jsonb,
    PRIMARY KEY (person_id, role, device_number, live_at, seq)
);

-- Incidents whose places, texts and fixes are erased.
CREATE TABLE incident_stripped (
    incident_id uuid PRIMARY KEY REFERENCES incident ON DELETE CASCADE,
    agency_id uuid NOT NULL
);

CREATE TABLE retention_run (
    id uuid NOT NULL,
    agency_id uuid NOT NULL REFERENCES agency,
    started_by text NOT NULL CHECK (started_by IN ('service', 'command')),
    started_at timestamptz NOT NULL,
    finished_at timestamptz,                  -- null: under way, or it died; the next goes on
    PRIMARY KEY (id, agency_id)
);
CREATE INDEX retention_run_agency ON retention_run (agency_id, started_at);

-- What was erased, by which rule: kinds and counts, nobody.
CREATE TABLE retention_erased (
    run_id uuid NOT NULL,
    agency_id uuid NOT NULL REFERENCES agency,
    rule text NOT NULL,
    kind text NOT NULL,
    count bigint NOT NULL,
    held bigint NOT NULL DEFAULT 0,           -- copied to ping_held instead
    from_at timestamptz,
    until_at timestamptz,
    at timestamptz NOT NULL,
    PRIMARY KEY (run_id, agency_id, rule, kind)
);
CREATE INDEX retention_erased_agency ON retention_erased (agency_id, at);

-- A person's copy of her own data, asked for on her own device: a code goes to her safe contact.
CREATE TABLE subject_export (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    person_id uuid NOT NULL REFERENCES person,
    device_id uuid NOT NULL REFERENCES device,
    asked_at timestamptz NOT NULL,
    code_digest bytea NOT NULL,
    code_tries smallint NOT NULL DEFAULT 0,
    expires_at timestamptz NOT NULL,
    fetched_at timestamptz
);
CREATE INDEX subject_export_person ON subject_export (person_id, asked_at);

CREATE INDEX transition_unlinked ON transition (agency_id, evaluated_at) WHERE incident_id IS NULL;
CREATE INDEX transition_placed ON transition (agency_id, evaluated_at)
    WHERE incident_id IS NULL AND (body ? 'victim_position' OR body ? 'aggressor_position');
CREATE INDEX delivery_told ON delivery (agency_id, created_at)
    WHERE data <> '{}' OR target_sealed IS NOT NULL OR address IS NOT NULL;
CREATE INDEX incident_resolved ON incident (agency_id, resolved_at) WHERE state = 'resolved';

CREATE FUNCTION note_wearing() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    BEGIN
        IF TG_OP = 'INSERT' THEN
            INSERT INTO wearing (device_number, device_id, person_id, agency_id, since)
                SELECT number, id, person_id, agency_id, coalesce(fitted_at, created_at) FROM added
                WHERE person_id IS NOT NULL;
            RETURN NULL;
        END IF;
        UPDATE wearing SET until = greatest(since, NEW.updated_at)
            WHERE device_number = NEW.number AND until = 'infinity';
        IF NEW.person_id IS NOT NULL THEN
            INSERT INTO wearing (device_number, device_id, person_id, agency_id, since)
                VALUES (NEW.number, NEW.id, NEW.person_id, NEW.agency_id, NEW.updated_at)
                ON CONFLICT (device_number, since) DO UPDATE SET person_id = excluded.person_id, until = 'infinity';
        END IF;
        RETURN NULL;
    END
    $$;
CREATE TRIGGER worn_from AFTER INSERT ON device REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION note_wearing();
CREATE TRIGGER worn_by AFTER UPDATE OF person_id ON device
    FOR EACH ROW WHEN (OLD.person_id IS DISTINCT FROM NEW.person_id) EXECUTE FUNCTION note_wearing();

-- An agency's period in days; the defaults are those of core.domain.retention, as a test holds.
CREATE FUNCTION period_days(agency uuid, name text) RETURNS integer
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
        SELECT coalesce(
            (SELECT (periods ->> name)::integer FROM retention_policy WHERE agency_id = agency),
            CASE name WHEN 'victim_fix_days' THEN 7 WHEN 'aggressor_fix_days' THEN 90 END)
    $$;
-- Since when the scope's agency shows every fix of a kind.
CREATE FUNCTION shown_from(name text) RETURNS timestamptz
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$ SELECT now() - make_interval(days => period_days(current_agency(), name)) $$;

-- When an order ended, or will.
CREATE FUNCTION end_of_order(status text, revoked_at timestamptz, valid_until timestamptz, updated_at timestamptz)
    RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
        SELECT CASE status WHEN 'revoked' THEN coalesce(revoked_at, updated_at)
            WHEN 'expired' THEN coalesce(valid_until, updated_at) ELSE coalesce(valid_until, 'infinity') END
    $$;

-- Whose fixes of which time are held now, by a court's wish or their own.
CREATE FUNCTION held_fixes(moment timestamptz)
    RETURNS TABLE (person_id uuid, agency_id uuid, since timestamptz, until timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
        SELECT h.person_id, h.agency_id, '-infinity'::timestamptz, 'infinity'::timestamptz FROM legal_hold h
            WHERE h.lifted_at IS NULL AND h.person_id IS NOT NULL
        UNION SELECT p.id, h.agency_id, '-infinity', 'infinity' FROM legal_hold h
            JOIN protection_case c ON c.id = h.case_id
            CROSS JOIN LATERAL (
                SELECT c.aggressor_id AS id UNION SELECT c.own_person_id
                UNION SELECT o.victim_id FROM protection_order o WHERE o.case_id = c.id
                UNION SELECT unnest(o.protected_person_ids) FROM protection_order o WHERE o.case_id = c.id) p
            WHERE h.lifted_at IS NULL AND p.id IS NOT NULL
        UNION SELECT p.id, h.agency_id, i.occurred_at - interval '60 minutes',
                coalesce(i.resolved_at, 'infinity') + interval '60 minutes'
            FROM legal_hold h JOIN incident i ON i.id = h.incident_id
            LEFT JOIN protection_order o ON o.id = i.order_id
            CROSS JOIN LATERAL (
                SELECT i.victim_id AS id UNION SELECT i.aggressor_id UNION SELECT o.victim_id
                UNION SELECT o.aggressor_id) p
            WHERE h.lifted_at IS NULL AND p.id IS NOT NULL
        UNION SELECT s.person_id, s.agency_id, s.fixes_from, s.fixes_until FROM own_hold s
            WHERE s.lifted_at IS NULL AND s.ends_at > moment
    $$;

-- Whether a court wants an incident: itself, its case, or somebody in it.
CREATE FUNCTION is_incident_held(asked uuid, of_case uuid, victim uuid, aggressor uuid) RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
        SELECT EXISTS (
            SELECT FROM legal_hold WHERE lifted_at IS NULL
            AND (incident_id = asked OR case_id = of_case OR person_id = victim OR person_id = aggressor))
    $$;

CREATE OR REPLACE FUNCTION is_held(asked uuid) RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
        SELECT EXISTS (
            SELECT FROM legal_hold h LEFT JOIN incident i ON i.id = h.incident_id WHERE h.lifted_at IS NULL
            AND (h.person_id = asked OR h.case_id IN (SELECT cases_of_person(asked))
                OR i.victim_id = asked OR i.aggressor_id = asked))
    $$;

-- Whether a fix older than its agency shows of everybody is shown all the same: of an order that holds, or ended
-- lately; under a hold.
CREATE FUNCTION shown_longer(of_role smallint, number bigint, lived_at timestamptz) RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
        SELECT EXISTS (
            SELECT FROM wearing w WHERE w.device_number = number AND lived_at >= w.since AND lived_at < w.until
            AND (of_role = 2 AND EXISTS (
                    SELECT FROM protection_order o WHERE o.aggressor_id = w.person_id AND o.valid_from <= lived_at
                    AND end_of_order(o.status, o.revoked_at, o.valid_until, o.updated_at)
                        >= shown_from('aggressor_fix_days'))
                OR EXISTS (
                    SELECT FROM held_fixes(now()) h
                    WHERE h.person_id = w.person_id AND lived_at >= h.since AND lived_at < h.until)))
    $$;

-- Drops a day of history whose time is over for everybody, and copies what is held first. No hold can be placed
-- meanwhile. How many rows were held.
DROP FUNCTION drop_ping_day(text, date);
CREATE FUNCTION drop_ping_day(parent text, day date, moment timestamptz) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    DECLARE
        part text := parent || '_' || to_char(day, 'YYYYMMDD');
        kept bigint;
    BEGIN
        IF parent NOT IN ('ping_other', 'ping_victim', 'ping_aggressor') THEN
            RAISE EXCEPTION 'no such history: %', parent USING ERRCODE = 'invalid_parameter_value';
        END IF;
        IF to_regclass(quote_ident(part)) IS NULL THEN
            RETURN 0;
        END IF;
        LOCK TABLE legal_hold, own_hold IN SHARE MODE;
        EXECUTE format(
            'INSERT INTO ping_held SELECT w.person_id, w.agency_id, p.role, p.device_number, p.live_at, p.seq, p.at,'
            ' p.received_at, p.flags, p.lat, p.lon, p.accuracy_m, p.speed_mps, p.heading_deg, p.altitude_m,'
            ' p.battery_pct, (SELECT e.heard FROM ping_heard e WHERE e.device_number = p.device_number'
            ' AND e.live_at = p.live_at LIMIT 1)'
            ' FROM held_fixes($1) h JOIN wearing w ON w.person_id = h.person_id'
            ' JOIN %I p ON p.device_number = w.device_number AND p.role = $2'
            ' AND p.live_at >= greatest(h.since, w.since) AND p.live_at < least(h.until, w.until)'
            ' ON CONFLICT DO NOTHING', part)
            USING moment, CASE parent WHEN 'ping_other' THEN 0 WHEN 'ping_victim' THEN 1 ELSE 2 END::smallint;
        GET DIAGNOSTICS kept = ROW_COUNT;
        EXECUTE format('DROP TABLE %I', part);
        RETURN kept;
    END
    $$;

-- How many rows of each agency a day has, and from when to when; counted before anything is locked.
CREATE FUNCTION count_ping_day(parent text, day date)
    RETURNS TABLE (agency_id uuid, count bigint, from_at timestamptz, until_at timestamptz)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    BEGIN
        IF parent NOT IN ('ping_other', 'ping_victim', 'ping_aggressor') THEN
            RAISE EXCEPTION 'no such history: %', parent USING ERRCODE = 'invalid_parameter_value';
        END IF;
        RETURN QUERY EXECUTE format(
            'SELECT d.agency_id, sum(n.count)::bigint, min(n.least), max(n.most) FROM ('
            ' SELECT device_number, count(*), min(live_at) AS least, max(live_at) AS most FROM %I GROUP BY 1) n'
            ' JOIN device d ON d.number = n.device_number GROUP BY 1',
            parent || '_' || to_char(day, 'YYYYMMDD'));
    END
    $$;

-- Cuts the audit's beginning, whose end is a link of that hash; the cut's line is signed. How many rows went.
CREATE FUNCTION cut_audit(agency uuid, upto bigint, hash bytea, signed_line text, moment timestamptz) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    DECLARE
        gone bigint;
    BEGIN
        IF NOT EXISTS (SELECT FROM audit_link WHERE agency_id = agency AND position = upto AND chain_hash = hash)
            OR NOT EXISTS (SELECT FROM audit_link WHERE agency_id = agency AND position > upto) THEN
            RAISE EXCEPTION 'no such link' USING ERRCODE = 'invalid_parameter_value';
        END IF;
        INSERT INTO audit_cut (agency_id, position, chain_hash, line, cut_at)
            VALUES (agency, upto, hash, signed_line, moment);
        PERFORM set_config('qorgan.audit_cut', 'by rule', true);
        WITH links AS (DELETE FROM audit_link WHERE agency_id = agency AND position <= upto RETURNING audit_id),
            rows AS (DELETE FROM audit a USING links WHERE a.id = links.audit_id RETURNING 1)
            SELECT count(*) INTO gone FROM rows;
        PERFORM set_config('qorgan.audit_cut', '', true);
        RETURN gone;
    END
    $$;

-- An erased person's copies go with her, whoever erased her.
CREATE FUNCTION erase_copies() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    BEGIN
        DELETE FROM ping_held WHERE person_id = NEW.id;
        DELETE FROM own_hold WHERE person_id = NEW.id;
        DELETE FROM subject_export WHERE person_id = NEW.id;
        DELETE FROM ping p USING wearing w
            WHERE w.person_id = NEW.id AND p.device_number = w.device_number AND p.role IN (0, 1, 2)
            AND p.live_at >= w.since AND p.live_at < w.until;
        RETURN NULL;
    END
    $$;
CREATE TRIGGER copies_erased AFTER UPDATE OF erased_at ON person
    FOR EACH ROW WHEN (NEW.erased_at IS NOT NULL) EXECUTE FUNCTION erase_copies();

SELECT secure_by_agency('retention_policy');
SELECT secure_by_agency('retention_run', 'SELECT');
SELECT secure_by_agency('retention_erased', 'SELECT');
SELECT secure_by_agency('wearing', 'SELECT', 'SELECT');
SELECT secure_by_agency('own_hold', 'SELECT', 'SELECT, INSERT, UPDATE');
SELECT secure_by_agency('ping_held', 'SELECT', 'SELECT');
SELECT secure_by_agency('incident_stripped', 'SELECT', '', 'SELECT');
SELECT secure_by_agency('subject_export', 'SELECT', 'SELECT, INSERT, UPDATE');
SELECT secure_by_agency('legal_hold', device => 'SELECT');
-- An agency's shorter period hides at once what another's longer one still keeps in the same partition.
SELECT secure_by('ping',
    $$EXISTS (SELECT FROM device d WHERE d.number = device_number)
    AND (live_at >= CASE WHEN role = 2 THEN (SELECT shown_from('aggressor_fix_days'))
            ELSE (SELECT shown_from('victim_fix_days')) END
        OR shown_longer(role, device_number, live_at))$$,
    'SELECT', 'SELECT', 'SELECT');

-- The service that applies the rules: it sees what it may erase, and the shape of why.
DO $$
DECLARE
    target text;
    granted text;
BEGIN
    FOR target, granted IN VALUES
        ('agency', 'SELECT'), ('retention_policy', 'SELECT'), ('retention_run', 'SELECT, INSERT, UPDATE'),
        ('retention_erased', 'SELECT, INSERT, UPDATE'), ('legal_hold', 'SELECT'), ('own_hold', 'SELECT'),
        ('protection_order', 'SELECT'), ('court_outcome', 'SELECT'), ('device', 'SELECT'),
        ('incident', 'SELECT, UPDATE, DELETE'), ('timeline', 'SELECT, UPDATE, DELETE'),
        ('panic', 'SELECT, UPDATE, DELETE'), ('transition', 'SELECT, UPDATE, DELETE'),
        ('delivery', 'SELECT, UPDATE, DELETE'), ('delivery_attempt', 'SELECT, UPDATE, DELETE'),
        ('incident_fix', 'SELECT, DELETE'), ('incident_snapshot', 'SELECT, UPDATE'),
        ('incident_stripped', 'SELECT, INSERT'), ('evidence_export', 'SELECT, DELETE'), ('ping_held', 'SELECT, DELETE'),
        ('aggressor_warning', 'SELECT, DELETE'), ('coarse_cell', 'SELECT, DELETE'),
        ('device_prompt', 'SELECT, DELETE'), ('user_session', 'SELECT, DELETE'), ('refresh_token', 'SELECT, DELETE'),
        ('sign_in_code', 'SELECT, DELETE'), ('enrolment', 'SELECT, DELETE'), ('subject_export', 'SELECT, DELETE'),
        ('case_past', 'SELECT, DELETE'), ('ping_heard', 'SELECT, DELETE'), ('audit', 'SELECT'), ('audit_link', 'SELECT')
    LOOP
        EXECUTE format('GRANT %s ON %I TO qorgan_retention', granted, target);
        EXECUTE format('CREATE POLICY by_retention ON %I TO qorgan_retention USING (true) WITH CHECK (true)', target);
    END LOOP;
END
$$;
GRANT INSERT (id, at, agency_id, actor_kind, actor_id, action, subject_kind, subject_id, address, detail, role,
    session_id, purpose, person_ids) ON audit TO qorgan_retention;
GRANT SELECT, DELETE ON shard_tick, spent_challenge TO qorgan_retention;
GRANT SELECT, UPDATE ON lease, poison TO qorgan_retention;
INSERT INTO lease (name) VALUES ('retention:0') ON CONFLICT DO NOTHING;

REVOKE EXECUTE ON FUNCTION note_wearing, erase_copies, period_days, shown_from, end_of_order, held_fixes,
    is_incident_held, shown_longer, drop_ping_day, count_ping_day, cut_audit FROM PUBLIC;
GRANT EXECUTE ON FUNCTION shown_from, shown_longer TO qorgan_api;
GRANT EXECUTE ON FUNCTION held_fixes TO qorgan_api, qorgan_device;
GRANT EXECUTE ON FUNCTION is_incident_held, held_fixes, end_of_order, drop_ping_day, count_ping_day, cut_audit
    TO qorgan_retention;

-- Who wore what before this was written down: now, and as the audit tells.
INSERT INTO wearing (device_number, device_id, person_id, agency_id, since)
    SELECT number, id, person_id, agency_id, coalesce(fitted_at, created_at) FROM device WHERE person_id IS NOT NULL
    ON CONFLICT DO NOTHING;
INSERT INTO wearing (device_number, device_id, person_id, agency_id, since, until)
    SELECT DISTINCT ON (d.number, f.at) d.number, d.id, p.id, d.agency_id, f.at, coalesce((
        SELECT min(n.at) FROM audit n WHERE n.subject_id = f.subject_id AND n.at > f.at
        AND n.action IN ('device.fitted', 'device.returned')), 'infinity')
    FROM audit f JOIN device d ON d.id = f.subject_id JOIN person p ON p.id::text = f.detail ->> 'person_id'
    WHERE f.action = 'device.fitted' AND f.subject_kind = 'device'
    ON CONFLICT DO NOTHING;

-- migrate: rollback

DROP TRIGGER copies_erased ON person;
DROP TRIGGER worn_by ON device;
DROP TRIGGER worn_from ON device;
SELECT secure_by('ping', 'EXISTS (SELECT FROM device d WHERE d.number = device_number)', 'SELECT', 'SELECT', 'SELECT');
DELETE FROM lease WHERE name = 'retention:0';
DROP OWNED BY qorgan_retention;
DROP FUNCTION erase_copies, cut_audit, count_ping_day, drop_ping_day, shown_longer, is_incident_held, end_of_order,
    shown_from, period_days, note_wearing;
CREATE OR REPLACE FUNCTION is_held(asked uuid) RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
        SELECT EXISTS (
            SELECT FROM legal_hold WHERE lifted_at IS NULL
            AND (person_id = asked OR case_id IN (SELECT cases_of_person(asked))))
    $$;
DROP FUNCTION held_fixes;
DROP INDEX incident_resolved, delivery_told, transition_placed, transition_unlinked;
DROP TABLE subject_export, retention_erased, retention_run, incident_stripped, ping_held, own_hold, wearing,
    retention_policy;
DELETE FROM legal_hold WHERE num_nonnulls(person_id, case_id) = 0;
ALTER TABLE legal_hold DROP CONSTRAINT legal_hold_check, DROP COLUMN incident_id, DROP COLUMN reference,
    DROP COLUMN lifted_by, DROP COLUMN lift_reason;
ALTER TABLE legal_hold ADD CONSTRAINT legal_hold_check CHECK (num_nonnulls(person_id, case_id) > 0);
CREATE FUNCTION drop_ping_day(parent text, day date) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    BEGIN
        IF parent NOT IN ('ping_other', 'ping_victim', 'ping_aggressor') THEN
            RAISE EXCEPTION 'no such history: %', parent USING ERRCODE = 'invalid_parameter_value';
        END IF;
        EXECUTE format('DROP TABLE IF EXISTS %I', parent || '_' || to_char(day, 'YYYYMMDD'));
    END
    $$;
REVOKE EXECUTE ON FUNCTION drop_ping_day FROM PUBLIC;
GRANT EXECUTE ON FUNCTION drop_ping_day TO qorgan_historian;
