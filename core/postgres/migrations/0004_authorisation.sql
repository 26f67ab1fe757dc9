-- Authorisation in the database: roles that row-level security binds, and what hides a case from a user.
-- depends: 0003_incident_folding

-- migrate: apply

-- Roles belong to the cluster, which may have several databases that migrate at the same time.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['qorgan_api', 'qorgan_device', 'qorgan_worker', 'qorgan_historian'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', name);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;
            END;
        END IF;
    END LOOP;
END
$$;
GRANT USAGE ON SCHEMA public TO qorgan_api, qorgan_device, qorgan_worker, qorgan_historian;

-- For whom this transaction acts. Written as (SELECT current_agency()) it is asked once a statement.
CREATE FUNCTION current_agency() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT nullif(current_setting('qorgan.agency_id', true), '')::uuid $$;
CREATE FUNCTION current_app_user() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT nullif(current_setting('qorgan.user_id', true), '')::uuid $$;

-- Who is related to whom: a user may open nothing of a person she is related to, ever.
CREATE TABLE user_conflict (
    user_id uuid NOT NULL REFERENCES app_user ON DELETE CASCADE,
    person_id uuid NOT NULL REFERENCES person,
    agency_id uuid NOT NULL REFERENCES agency,
    relation text NOT NULL CHECK (relation IN ('self', 'relative', 'partner', 'friend', 'colleague', 'other')),
    noted_by uuid NOT NULL REFERENCES app_user,
    noted_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, person_id)
);
CREATE INDEX user_conflict_person ON user_conflict (person_id);
CREATE INDEX user_conflict_agency ON user_conflict (agency_id);

-- Who may open a case of which an order is sealed.
CREATE TABLE case_named_user (
    case_id uuid NOT NULL REFERENCES protection_case,
    user_id uuid NOT NULL REFERENCES app_user ON DELETE CASCADE,
    agency_id uuid NOT NULL REFERENCES agency,
    named_by uuid REFERENCES app_user,        -- null: could open it before cases could be sealed
    named_at timestamptz NOT NULL,
    PRIMARY KEY (case_id, user_id)
);
CREATE INDEX case_named_user_agency ON case_named_user (agency_id);
INSERT INTO case_named_user (case_id, user_id, agency_id, named_at)
SELECT DISTINCT o.case_id, u.id, o.agency_id, now() FROM protection_order o JOIN app_user u USING (agency_id)
WHERE o.sealed AND u.role <> 'officer';

-- A sealed case opened without being named: for a reason, for a while, announced, reviewed.
CREATE TABLE break_glass (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    user_id uuid NOT NULL REFERENCES app_user,
    asked_kind text NOT NULL CHECK (asked_kind IN ('person', 'case', 'incident')),
    asked_id uuid NOT NULL,
    case_ids uuid[] NOT NULL CHECK (case_ids <> '{}'),
    reason_code text NOT NULL,
    reason text NOT NULL,
    from_at timestamptz NOT NULL,
    until_at timestamptz NOT NULL CHECK (until_at > from_at),
    reviewed_by uuid REFERENCES app_user,
    reviewed_at timestamptz,
    verdict text CHECK (verdict IN ('justified', 'unjustified')),
    review_note text,
    CHECK (num_nonnulls(reviewed_by, reviewed_at, verdict) IN (0, 3)),
    CHECK (reviewed_by <> user_id)
);
CREATE INDEX break_glass_user ON break_glass (user_id, until_at);
CREATE INDEX break_glass_agency ON break_glass (agency_id, id);
CREATE INDEX protection_order_sealed ON protection_order (agency_id, case_id) WHERE sealed;

-- Cases of a person, in whatever part.
CREATE FUNCTION cases_of_person(asked uuid) RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
        SELECT id FROM protection_case WHERE aggressor_id = asked OR own_person_id = asked
        UNION SELECT case_id FROM protection_order WHERE victim_id = asked
        UNION SELECT case_id FROM protection_order
            WHERE protected_person_ids @> ARRAY[asked] AND protected_person_ids <> '{}'
    $$;

-- Cases a user may not open: of whom she is related to; sealed ones that neither name her nor were opened by her.
CREATE FUNCTION hidden_cases(reader uuid, agency uuid, OUT related uuid[], OUT sealed uuid[])
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
        SELECT
            ARRAY(SELECT cases_of_person(k.person_id) FROM user_conflict k WHERE k.user_id = reader),
            ARRAY(
                SELECT DISTINCT o.case_id FROM protection_order o WHERE o.sealed AND o.agency_id = agency
                AND NOT EXISTS (SELECT FROM case_named_user n WHERE n.case_id = o.case_id AND n.user_id = reader)
                AND NOT EXISTS (
                    SELECT FROM break_glass g
                    WHERE g.user_id = reader AND g.until_at > now() AND o.case_id = ANY (g.case_ids)))
    $$;

-- Every id of some cases and people: themselves, who is in them, those people's orders and devices.
CREATE FUNCTION ids_around(cases uuid[], known uuid[]) RETURNS uuid[]
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    DECLARE
        people uuid[];
    BEGIN
        IF cases = '{}' AND known = '{}' THEN
            RETURN '{}';
        END IF;
        people := ARRAY(
            SELECT unnest(known)
            UNION SELECT coalesce(aggressor_id, own_person_id) FROM protection_case WHERE id = ANY (cases)
            UNION SELECT victim_id FROM protection_order WHERE case_id = ANY (cases)
            UNION SELECT unnest(protected_person_ids) FROM protection_order WHERE case_id = ANY (cases));
        RETURN cases || people
            || ARRAY(SELECT id FROM protection_order WHERE case_id = ANY (cases) OR victim_id = ANY (people))
            || ARRAY(SELECT id FROM device WHERE person_id = ANY (people));
    END
    $$;

-- Every id a user may not see, as she is related to it or as it is sealed.
CREATE FUNCTION hidden_from(reader uuid, agency uuid, OUT related uuid[], OUT sealed uuid[])
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    BEGIN
        related := '{}';
        sealed := '{}';
        IF hides_something(reader, agency) THEN
            SELECT h.related, h.sealed INTO related, sealed FROM hidden_cases(reader, agency) AS h;
            related := ids_around(related, ARRAY(SELECT person_id FROM user_conflict WHERE user_id = reader));
            sealed := ids_around(sealed, '{}');
        END IF;
    END
    $$;

-- Whether anything is hidden from a user at all: hardly ever.
CREATE FUNCTION hides_something(reader uuid, agency uuid) RETURNS boolean
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    BEGIN
        RETURN EXISTS (SELECT FROM user_conflict WHERE user_id = reader) OR EXISTS (
            SELECT FROM protection_order o WHERE o.sealed AND o.agency_id = agency
            AND NOT EXISTS (SELECT FROM case_named_user n WHERE n.case_id = o.case_id AND n.user_id = reader)
            AND NOT EXISTS (
                SELECT FROM break_glass g
                WHERE g.user_id = reader AND g.until_at > now() AND o.case_id = ANY (g.case_ids)));
    END
    $$;

-- Has the transaction act for a user; said in the message that begins it.
CREATE FUNCTION act_for(agency uuid, reader uuid, role text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = public, pg_temp
    AS $$
    BEGIN
        PERFORM set_config('qorgan.agency_id', agency::text, true), set_config('qorgan.user_id', reader::text, true),
            set_config('qorgan.role', role, true),
            set_config('qorgan.hides', hides_something(reader, agency)::text, true);
    END
    $$;

-- What is hidden from who acts. Unknown where nobody said for whom: what is compared with it is hidden then.
CREATE FUNCTION hidden_ids() RETURNS uuid[] LANGUAGE sql STABLE
    AS $$
        SELECT CASE current_setting('qorgan.hides', true)
            WHEN 'false' THEN '{}'::uuid[]
            WHEN 'true' THEN
                (SELECT h.related || h.sealed FROM hidden_from(current_app_user(), current_agency()) AS h)
            END
    $$;

-- That something grave waits in a sealed case, and nothing of whom: so that who is on duty can break the glass.
CREATE FUNCTION sealed_alarms() RETURNS TABLE (id uuid, type text, severity text, state text, opened_at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
        SELECT i.id, i.type, i.severity, i.state, i.opened_at
        FROM (SELECT related, sealed FROM hidden_from(current_app_user(), current_agency()) OFFSET 0) AS h
        JOIN incident i ON i.agency_id = current_agency() AND i.state <> 'resolved' AND i.severity IN ('high', 'critical')
        WHERE h.sealed <> '{}' AND ARRAY[i.case_id, i.victim_id, i.aggressor_id, i.device_id] && h.sealed
            AND NOT ARRAY[i.case_id, i.victim_id, i.aggressor_id, i.device_id] && h.related
        ORDER BY i.opened_at LIMIT 200
    $$;

-- The sealed cases behind a person, a case or an incident that the current user could open by breaking the glass:
-- none where there is no such thing, where it is not hidden from her, and where she is related to who is in it.
CREATE FUNCTION glass_cases(asked_kind text, asked_id uuid) RETURNS uuid[]
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    DECLARE
        wanted uuid[];
        hidden record;
    BEGIN
        wanted := ARRAY(
            SELECT cases_of_person(asked_id) WHERE asked_kind = 'person'
            UNION SELECT asked_id WHERE asked_kind = 'case'
            UNION SELECT case_id FROM incident WHERE id = asked_id AND asked_kind = 'incident' AND case_id IS NOT NULL
            UNION SELECT cases_of_person(victim_id) FROM incident
                WHERE id = asked_id AND asked_kind = 'incident' AND victim_id IS NOT NULL);
        SELECT * INTO hidden FROM hidden_cases(current_app_user(), current_agency());
        IF wanted && hidden.related
            OR EXISTS (SELECT FROM user_conflict WHERE user_id = current_app_user() AND person_id = asked_id) THEN
            RETURN '{}';
        END IF;
        RETURN ARRAY(SELECT unnest(wanted) INTERSECT SELECT unnest(hidden.sealed));
    END
    $$;

-- Turns row-level security on for a table of an agency. Under qorgan_api a row shows where its agency is the scope's,
-- and neither its case nor any person, order or device of it is hidden from the user. The services' own roles see
-- every agency's, each only as far as it was granted something. Call it again after adding such a column.
CREATE FUNCTION secure_by_agency(
    target regclass, api text DEFAULT 'SELECT, INSERT, UPDATE', device text DEFAULT '', worker text DEFAULT ''
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    ties text;
    condition text := 'agency_id = (SELECT current_agency())';
BEGIN
    IF target = 'agency'::regclass THEN
        condition := 'id = (SELECT current_agency())';
    END IF;
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO ties FROM pg_attribute
    WHERE attrelid = target AND NOT attisdropped AND atttypid = 'uuid'::regtype AND (
        attname IN ('case_id', 'order_id', 'person_id', 'victim_id', 'aggressor_id', 'own_person_id', 'device_id')
        OR attname = 'id' AND target = ANY (
            ARRAY['person'::regclass, 'protection_case', 'protection_order', 'device']));
    IF ties IS NOT NULL THEN
        condition := condition || format(' AND NOT (ARRAY[%s] && (SELECT hidden_ids()))', ties);
    ELSIF EXISTS (SELECT FROM pg_attribute WHERE attrelid = target AND attname = 'incident_id' AND NOT attisdropped) THEN
        condition := condition
            || ' AND (incident_id IS NULL OR EXISTS (SELECT FROM incident i WHERE i.id = incident_id))';
    END IF;
    PERFORM secure_by(target, condition, api, device, worker);
END
$$;

-- The same for a table whose rows show by a condition of its own.
CREATE FUNCTION secure_by(target regclass, condition text, api text, device text DEFAULT '', worker text DEFAULT '')
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    role text;
    granted text;
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
    EXECUTE format('DROP POLICY IF EXISTS by_scope ON %s', target);
    EXECUTE format(
        'CREATE POLICY by_scope ON %s TO qorgan_api USING (%s) WITH CHECK (%s)', target, condition, condition);
    FOR role, granted IN VALUES ('qorgan_api', api), ('qorgan_device', device), ('qorgan_worker', worker) LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %I', target, role);
        IF role <> 'qorgan_api' THEN
            EXECUTE format('DROP POLICY IF EXISTS %I ON %s', 'by_' || substr(role, 8), target);
        END IF;
        IF granted <> '' THEN
            EXECUTE format('GRANT %s ON %s TO %I', granted, target, role);
            IF role <> 'qorgan_api' THEN
                EXECUTE format(
                    'CREATE POLICY %I ON %s TO %I USING (true) WITH CHECK (true)', 'by_' || substr(role, 8), target, role);
            END IF;
        END IF;
    END LOOP;
END
$$;

SELECT secure_by_agency('agency', 'SELECT, UPDATE', 'SELECT, UPDATE', 'SELECT');
SELECT secure_by_agency('app_user');
SELECT secure_by('refresh_token', 'EXISTS (SELECT FROM app_user u WHERE u.id = user_id)', 'SELECT, INSERT, UPDATE');
SELECT secure_by_agency('person', device => 'SELECT', worker => 'SELECT');
SELECT secure_by_agency('protection_case', device => 'SELECT, INSERT, UPDATE', worker => 'SELECT');
SELECT secure_by_agency('protection_order', device => 'SELECT, UPDATE', worker => 'SELECT');
SELECT secure_by_agency('zone', device => 'SELECT', worker => 'SELECT');
SELECT secure_by_agency('suspension', device => 'SELECT, UPDATE', worker => 'SELECT');
SELECT secure_by_agency('device', device => 'SELECT, UPDATE', worker => 'SELECT');
SELECT secure_by_agency('bearer_token', device => 'SELECT, INSERT, UPDATE');
SELECT secure_by('enrolment', 'EXISTS (SELECT FROM device d WHERE d.id = device_id)',
    'SELECT, INSERT, UPDATE, DELETE', 'SELECT, UPDATE, DELETE');
SELECT secure_by_agency('contact', device => 'SELECT', worker => 'SELECT');
SELECT secure_by_agency('unit', device => 'SELECT', worker => 'SELECT');
SELECT secure_by_agency('notification_route', device => 'SELECT', worker => 'SELECT');
SELECT secure_by_agency('incident', device => 'SELECT, INSERT, UPDATE', worker => 'SELECT, INSERT, UPDATE');
SELECT secure_by('timeline', 'EXISTS (SELECT FROM incident i WHERE i.id = incident_id)',
    'SELECT, INSERT', 'SELECT, INSERT', 'SELECT, INSERT');
SELECT secure_by_agency('panic', 'SELECT', 'SELECT, INSERT, UPDATE', 'SELECT');
SELECT secure_by_agency('transition', 'SELECT', 'SELECT, INSERT, UPDATE', 'SELECT, INSERT, UPDATE');
SELECT secure_by_agency('separation', 'SELECT', 'SELECT, INSERT, UPDATE', 'SELECT, INSERT, UPDATE');
SELECT secure_by_agency('silence', 'SELECT', 'SELECT, INSERT, UPDATE, DELETE', 'SELECT, INSERT, UPDATE, DELETE');
SELECT secure_by_agency('device_prompt', 'SELECT', 'SELECT, INSERT, UPDATE', 'SELECT, INSERT, UPDATE');
SELECT secure_by_agency('maintenance_task', 'SELECT', 'SELECT, INSERT', 'SELECT');
SELECT secure_by_agency('delivery', 'SELECT, INSERT, UPDATE', 'SELECT, INSERT, UPDATE', 'SELECT, INSERT, UPDATE');
SELECT secure_by('delivery_attempt', 'EXISTS (SELECT FROM delivery d WHERE d.id = delivery_id)',
    'SELECT', 'SELECT', 'SELECT, INSERT, UPDATE');
SELECT secure_by_agency('feed', 'SELECT, INSERT', 'SELECT, INSERT, DELETE', 'SELECT, INSERT');
SELECT secure_by('audit', 'agency_id = (SELECT current_agency())', 'SELECT, INSERT', 'INSERT', 'INSERT');
SELECT secure_by('ping', 'EXISTS (SELECT FROM device d WHERE d.number = device_number)', 'SELECT', 'SELECT', 'SELECT');
SELECT secure_by('ping_heard', 'EXISTS (SELECT FROM device d WHERE d.number = device_number)',
    'SELECT', 'SELECT', 'SELECT');
SELECT secure_by_agency('user_conflict', 'SELECT, INSERT, UPDATE, DELETE');
SELECT secure_by_agency('case_named_user', 'SELECT, INSERT, DELETE');
SELECT secure_by('break_glass', 'agency_id = (SELECT current_agency())', 'SELECT, INSERT, UPDATE');

-- The machine room: nobody's, and no person in it.
GRANT SELECT ON installation TO qorgan_api, qorgan_device, qorgan_worker, qorgan_historian;
GRANT SELECT, INSERT ON creation TO qorgan_api;
GRANT USAGE, SELECT ON SEQUENCE feed_id TO qorgan_api, qorgan_device, qorgan_worker;
GRANT SELECT ON log_cursor TO qorgan_api;
GRANT SELECT, INSERT, UPDATE ON log_cursor TO qorgan_device, qorgan_worker, qorgan_historian;
GRANT SELECT ON lease TO qorgan_device;
GRANT SELECT, UPDATE ON lease TO qorgan_worker, qorgan_historian;
GRANT SELECT, INSERT, UPDATE, DELETE ON service_beat TO qorgan_device, qorgan_worker, qorgan_historian;
GRANT SELECT, INSERT ON poison TO qorgan_device, qorgan_worker, qorgan_historian;

-- The historian adds to history and reads none of it. Copying goes into each role's table, where no policy stands (a
-- copy is refused where one does); these and their days carry no other grant, since one would read past `ping`'s.
GRANT SELECT ON ping TO qorgan_historian;     -- with no policy for it: its shape, and no row
GRANT INSERT ON ping_other, ping_victim, ping_aggressor TO qorgan_historian;
GRANT SELECT, INSERT, DELETE ON ping_heard TO qorgan_historian;
CREATE POLICY by_historian ON ping_heard TO qorgan_historian USING (true) WITH CHECK (true);
GRANT SELECT (id, number, role, changed_xid, last_seen_at, battery_pct, strap) ON device TO qorgan_historian;
GRANT UPDATE (last_seen_at, battery_pct, strap) ON device TO qorgan_historian;
CREATE POLICY by_historian ON device TO qorgan_historian USING (true) WITH CHECK (true);

-- A day's partition of `ping`, made or dropped by who does not own it.
CREATE FUNCTION make_ping_day(parent text, day date) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    BEGIN
        IF parent NOT IN ('ping_other', 'ping_victim', 'ping_aggressor') THEN
            RAISE EXCEPTION 'no such history: %', parent USING ERRCODE = 'invalid_parameter_value';
        END IF;
        -- Rows are added, never changed, and go with the whole table: a vacuum of it would only be in the way.
        EXECUTE format(
            'CREATE TABLE IF NOT EXISTS %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)'
            ' WITH (autovacuum_enabled = false)',
            parent || '_' || to_char(day, 'YYYYMMDD'), parent, day::text || ' 00:00:00+00',
            (day + 1)::text || ' 00:00:00+00');
    END
    $$;
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

REVOKE EXECUTE ON FUNCTION cases_of_person, hidden_cases, ids_around, hides_something, hidden_from, act_for, sealed_alarms,
    glass_cases, secure_by_agency, secure_by, make_ping_day, drop_ping_day FROM PUBLIC;
GRANT EXECUTE ON FUNCTION act_for, hides_something, hidden_from, sealed_alarms, glass_cases TO qorgan_api;
GRANT EXECUTE ON FUNCTION hidden_from TO qorgan_device;
GRANT EXECUTE ON FUNCTION make_ping_day, drop_ping_day TO qorgan_historian;

-- migrate: rollback

DROP FUNCTION drop_ping_day, make_ping_day;
DROP POLICY by_historian ON device;
DROP POLICY by_historian ON ping_heard;
DO $$
DECLARE
    target record;
BEGIN
    FOR target IN SELECT c.oid::regclass AS name FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace
        AND c.relrowsecurity LOOP
        EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', target.name);
        EXECUTE format('DROP POLICY IF EXISTS by_scope ON %s', target.name);
        EXECUTE format('DROP POLICY IF EXISTS by_device ON %s', target.name);
        EXECUTE format('DROP POLICY IF EXISTS by_worker ON %s', target.name);
    END LOOP;
END
$$;
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM qorgan_api, qorgan_device, qorgan_worker, qorgan_historian;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM qorgan_api, qorgan_device, qorgan_worker, qorgan_historian;
REVOKE USAGE ON SCHEMA public FROM qorgan_api, qorgan_device, qorgan_worker, qorgan_historian;
DROP FUNCTION secure_by_agency, secure_by, glass_cases, sealed_alarms, hidden_ids, act_for, hides_something, hidden_from,
    ids_around, hidden_cases, cases_of_person;
DROP INDEX protection_order_sealed;
DROP TABLE break_glass, case_named_user, user_conflict;
DROP FUNCTION current_app_user, current_agency;
