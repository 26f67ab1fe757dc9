-- What names, places or describes a person is sealed with her own key; erasing the key erases her.
-- depends: 0008_sign_in

-- migrate: apply

-- The columns that held it plain stay, and stay empty: `qorgan migrate` seals what an older version left in them.

CREATE TABLE person_key (
    person_id uuid PRIMARY KEY REFERENCES person DEFERRABLE INITIALLY DEFERRED,
    agency_id uuid NOT NULL REFERENCES agency,
    kek_id text,
    wrapped bytea,
    created_at timestamptz NOT NULL,
    erased_at timestamptz,
    CHECK ((erased_at IS NULL) = (wrapped IS NOT NULL) AND (wrapped IS NULL) = (kek_id IS NULL))
);
CREATE INDEX person_key_kek ON person_key (kek_id, person_id);

CREATE TABLE agency_key (
    agency_id uuid PRIMARY KEY REFERENCES agency DEFERRABLE INITIALLY DEFERRED,
    kek_id text NOT NULL,
    wrapped bytea NOT NULL,
    created_at timestamptz NOT NULL
);

CREATE TABLE person_index (
    agency_id uuid NOT NULL REFERENCES agency,
    field text NOT NULL CHECK (field IN ('name', 'phone', 'iin')),
    digest bytea NOT NULL CHECK (length(digest) = 32),
    person_id uuid NOT NULL REFERENCES person,
    PRIMARY KEY (agency_id, field, digest, person_id)
);
CREATE INDEX person_index_person ON person_index (person_id);

CREATE TABLE legal_hold (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    person_id uuid REFERENCES person,
    case_id uuid REFERENCES protection_case,
    reason text NOT NULL,
    placed_by uuid REFERENCES app_user,
    placed_at timestamptz NOT NULL,
    lifted_at timestamptz,
    CHECK (num_nonnulls(person_id, case_id) > 0)
);
CREATE INDEX legal_hold_person ON legal_hold (person_id) WHERE lifted_at IS NULL;
CREATE INDEX legal_hold_case ON legal_hold (case_id) WHERE lifted_at IS NULL;

CREATE TABLE erasure_request (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    person_id uuid NOT NULL REFERENCES person,
    asked_at timestamptz NOT NULL,
    asked_by uuid,
    due_at timestamptz NOT NULL,
    code_digest bytea NOT NULL,
    code_tries smallint NOT NULL DEFAULT 0,
    confirmed_at timestamptz,
    withdrawn_at timestamptz,
    lapsed_at timestamptz,
    erased_at timestamptz,
    held_at timestamptz
);
CREATE UNIQUE INDEX erasure_request_open ON erasure_request (person_id)
    WHERE num_nonnulls(withdrawn_at, lapsed_at, erased_at) = 0;
CREATE INDEX erasure_request_due ON erasure_request (due_at) WHERE num_nonnulls(withdrawn_at, lapsed_at, erased_at) = 0;

ALTER TABLE person
    ALTER COLUMN identity DROP NOT NULL,
    ALTER COLUMN identity DROP DEFAULT,
    ADD COLUMN identity_sealed bytea,
    ADD COLUMN safe_contact_sealed bytea,
    ADD COLUMN safe_word_sealed bytea,
    ADD COLUMN erased_at timestamptz;

ALTER TABLE contact
    ALTER COLUMN name DROP NOT NULL,
    ALTER COLUMN channels DROP NOT NULL,
    ALTER COLUMN channels DROP DEFAULT,
    ADD COLUMN name_sealed bytea,
    ADD COLUMN relation_sealed bytea,
    ADD COLUMN channels_sealed bytea;

ALTER TABLE zone ADD COLUMN name_sealed bytea;

ALTER TABLE device ADD COLUMN push_token_sealed bytea;

ALTER TABLE notification_route ADD COLUMN secret_sealed bytea;

ALTER TABLE panic
    ALTER COLUMN body DROP NOT NULL,
    ALTER COLUMN body DROP DEFAULT,
    ADD COLUMN note_sealed bytea,
    ADD COLUMN body_sealed bytea;

ALTER TABLE timeline ADD COLUMN private_sealed bytea;

ALTER TABLE delivery
    ALTER COLUMN address DROP NOT NULL,
    ADD COLUMN target_sealed bytea,
    ADD COLUMN address_digest bytea;

SELECT secure_by_agency('person_key', 'SELECT, INSERT', 'SELECT, INSERT', 'SELECT, INSERT');
SELECT secure_by_agency('agency_key', 'SELECT, INSERT', 'SELECT, INSERT', 'SELECT, INSERT');
SELECT secure_by_agency('person_index', 'SELECT, INSERT, DELETE');
SELECT secure_by_agency('legal_hold', device => 'SELECT');
SELECT secure_by_agency('erasure_request', device => 'SELECT, INSERT, UPDATE');
GRANT UPDATE (push_token, push_token_sealed, updated_at) ON device TO qorgan_worker;

-- migrate: rollback

REVOKE UPDATE (push_token, push_token_sealed, updated_at) ON device FROM qorgan_worker;
ALTER TABLE delivery DROP COLUMN target_sealed, DROP COLUMN address_digest;
ALTER TABLE timeline DROP COLUMN private_sealed;
ALTER TABLE panic DROP COLUMN note_sealed, DROP COLUMN body_sealed;
ALTER TABLE notification_route DROP COLUMN secret_sealed;
ALTER TABLE device DROP COLUMN push_token_sealed;
ALTER TABLE zone DROP COLUMN name_sealed;
ALTER TABLE contact DROP COLUMN name_sealed, DROP COLUMN relation_sealed, DROP COLUMN channels_sealed;
ALTER TABLE person DROP COLUMN identity_sealed, DROP COLUMN safe_contact_sealed, DROP COLUMN safe_word_sealed,
    DROP COLUMN erased_at;
-- What was sealed is gone with its columns; the older version wants something there.
UPDATE person SET identity = '{}' WHERE identity IS NULL;
UPDATE contact SET name = coalesce(name, ''), channels = coalesce(channels, '[]')
    WHERE name IS NULL OR channels IS NULL;
UPDATE panic SET body = '{}' WHERE body IS NULL;
UPDATE delivery SET address = '' WHERE address IS NULL;
ALTER TABLE person ALTER COLUMN identity SET DEFAULT '{}', ALTER COLUMN identity SET NOT NULL;
ALTER TABLE contact ALTER COLUMN name SET NOT NULL, ALTER COLUMN channels SET DEFAULT '[]',
    ALTER COLUMN channels SET NOT NULL;
ALTER TABLE panic ALTER COLUMN body SET DEFAULT '{}', ALTER COLUMN body SET NOT NULL;
ALTER TABLE delivery ALTER COLUMN address SET NOT NULL;
DROP TABLE erasure_request, legal_hold, person_index, agency_key, person_key;
