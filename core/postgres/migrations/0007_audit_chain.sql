-- The audit says why and in which session, about whom, and is chained; roles may add to it and nothing else.
-- depends: 0006_evidence

-- migrate: apply

ALTER TABLE agency ADD COLUMN names_officials boolean NOT NULL DEFAULT false;

ALTER TABLE audit
    ADD COLUMN role text,
    ADD COLUMN session_id uuid,
    ADD COLUMN purpose text,
    ADD COLUMN person_ids uuid[] NOT NULL DEFAULT '{}',
    ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id();
UPDATE audit SET person_ids = ARRAY[subject_id] WHERE subject_kind = 'person' AND subject_id IS NOT NULL;
CREATE INDEX audit_person ON audit USING gin (person_ids) WITH (fastupdate = off) WHERE person_ids <> '{}';
CREATE INDEX audit_actor ON audit (actor_id, id);
CREATE INDEX audit_xid ON audit (xid);

CREATE TABLE audit_link (
    agency_id uuid NOT NULL,
    position bigint NOT NULL CHECK (position > 0),
    audit_id uuid NOT NULL UNIQUE,
    form smallint NOT NULL,
    row_hash bytea NOT NULL CHECK (length(row_hash) = 32),
    chain_hash bytea NOT NULL CHECK (length(chain_hash) = 32),
    PRIMARY KEY (agency_id, position)
);
CREATE TABLE audit_seal (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    floor_xid xid8 NOT NULL DEFAULT '0',
    cluster bigint NOT NULL DEFAULT 0,
    sealed_at timestamptz
);
INSERT INTO audit_seal DEFAULT VALUES;
INSERT INTO lease (name) VALUES ('sealer:0');

CREATE TABLE audit_checkpoint (
    agency_id uuid NOT NULL,
    number bigint NOT NULL CHECK (number > 0),
    position bigint NOT NULL,
    day date,
    hash bytea NOT NULL CHECK (length(hash) = 32),
    line text NOT NULL,
    PRIMARY KEY (agency_id, number)
);
CREATE INDEX audit_checkpoint_day ON audit_checkpoint (day, hash) WHERE day IS NOT NULL;
CREATE TABLE signing_key (
    key_id text PRIMARY KEY,
    public_key bytea NOT NULL CHECK (length(public_key) = 32),
    first_used_at timestamptz NOT NULL
);
CREATE TABLE audit_cut (
    agency_id uuid NOT NULL,
    position bigint NOT NULL,
    chain_hash bytea NOT NULL CHECK (length(chain_hash) = 32),
    line text NOT NULL,
    cut_at timestamptz NOT NULL,
    PRIMARY KEY (agency_id, position)
);
CREATE TABLE audit_hold (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    person_id uuid NOT NULL REFERENCES person,
    user_id uuid REFERENCES app_user,
    reason text NOT NULL CHECK (reason IN ('insider_inquiry', 'criminal_investigation', 'court_order')),
    reference text NOT NULL,
    since timestamptz NOT NULL,
    placed_by uuid NOT NULL REFERENCES app_user,
    placed_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    released_by uuid REFERENCES app_user,
    released_at timestamptz,
    CHECK (ends_at > placed_at AND ends_at <= placed_at + interval '90 days')
);
CREATE INDEX audit_hold_person ON audit_hold (person_id) WHERE released_at IS NULL;

-- A second bar, which holds the owner too: rows leave by the rule of retention alone, and none is ever changed.
CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('qorgan.audit_cut', true) = 'by rule' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION '% of % is refused: it is only ever added to', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_link
    FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_checkpoint
    FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_cut
    FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();

-- Roles add to the audit and read what their policy shows; none changes it. Whose transaction it was says the
-- database alone: `xid` is nobody's to write.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'qorgan_sealer') THEN
        BEGIN
            CREATE ROLE qorgan_sealer NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END IF;
END
$$;
GRANT USAGE ON SCHEMA public TO qorgan_sealer;
REVOKE INSERT ON audit FROM qorgan_api, qorgan_device, qorgan_worker;
GRANT INSERT (id, at, agency_id, actor_kind, actor_id, action, subject_kind, subject_id, address, detail, role,
    session_id, purpose, person_ids) ON audit TO qorgan_api, qorgan_device, qorgan_worker, qorgan_sealer;
SELECT secure_by('audit_link', 'agency_id = (SELECT current_agency())', 'SELECT');
SELECT secure_by('audit_checkpoint', 'agency_id = (SELECT current_agency())', 'SELECT');
SELECT secure_by('audit_cut', 'agency_id = (SELECT current_agency())', 'SELECT');
SELECT secure_by_agency('audit_hold');
GRANT SELECT ON signing_key TO qorgan_api;
GRANT SELECT ON audit, audit_link, audit_seal, audit_checkpoint, audit_cut, signing_key TO qorgan_sealer;
GRANT INSERT ON audit_link, audit_checkpoint, signing_key TO qorgan_sealer;
GRANT UPDATE ON audit_seal TO qorgan_sealer;
GRANT SELECT, UPDATE ON lease TO qorgan_sealer;
CREATE POLICY by_sealer ON audit TO qorgan_sealer USING (true) WITH CHECK (true);
CREATE POLICY by_sealer ON audit_link TO qorgan_sealer USING (true) WITH CHECK (true);
CREATE POLICY by_sealer ON audit_checkpoint TO qorgan_sealer USING (true) WITH CHECK (true);
CREATE POLICY by_sealer ON audit_cut TO qorgan_sealer USING (true) WITH CHECK (true);

-- What anybody may copy of checkpoints: hashes of those that closed a day. Not whose, not of how many rows, not when:
-- how much an agency does would tell who watches it that something has happened.
CREATE FUNCTION published_checkpoints(since date, until date, most integer) RETURNS TABLE (day date, hash bytea)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS 'SELECT c.day, c.hash FROM audit_checkpoint c WHERE c.day BETWEEN since AND until ORDER BY c.day, c.hash LIMIT most';

-- Who looked at a person's data, as she herself may know it: no official's id, her name only where her agency says so,
-- and nothing that a hold defers.
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
REVOKE EXECUTE ON FUNCTION published_checkpoints, looks_at FROM PUBLIC;
GRANT EXECUTE ON FUNCTION published_checkpoints TO qorgan_api;
GRANT EXECUTE ON FUNCTION looks_at TO qorgan_api, qorgan_device;

-- migrate: rollback

DROP FUNCTION looks_at, published_checkpoints;
DROP POLICY by_sealer ON audit;
REVOKE INSERT ON audit FROM qorgan_api, qorgan_device, qorgan_worker;
GRANT INSERT ON audit TO qorgan_api, qorgan_device, qorgan_worker;
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM qorgan_sealer;
REVOKE USAGE ON SCHEMA public FROM qorgan_sealer;
DROP TABLE audit_hold, audit_cut, signing_key, audit_checkpoint, audit_seal, audit_link;
DELETE FROM lease WHERE name = 'sealer:0';
DROP TRIGGER append_only ON audit;
DROP FUNCTION audit_append_only();
DROP INDEX audit_person, audit_actor, audit_xid;
ALTER TABLE audit DROP COLUMN role, DROP COLUMN session_id, DROP COLUMN purpose, DROP COLUMN person_ids, DROP COLUMN xid;
ALTER TABLE agency DROP COLUMN names_officials;
