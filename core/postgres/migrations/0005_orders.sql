-- The life of an order: its versions, the tasks that follow from its time, the gap before it protects, hand-overs.
-- depends: 0004_authorisation

-- migrate: apply

ALTER TABLE protection_order
    ADD COLUMN term jsonb,
    ADD COLUMN extended_at timestamptz,
    ADD COLUMN revoked_at timestamptz,
    ADD COLUMN victim_fix_at timestamptz,
    ADD COLUMN aggressor_fix_at timestamptz,
    ADD COLUMN protected_at timestamptz;
CREATE INDEX protection_order_gap ON protection_order (id) WHERE protected_at IS NULL AND status NOT IN ('revoked', 'expired');

-- What an order was at each of its versions, who made it so, when and by what; never changed, never removed.
CREATE TABLE order_version (
    order_id uuid NOT NULL REFERENCES protection_order,
    version integer NOT NULL,
    agency_id uuid NOT NULL REFERENCES agency,
    at timestamptz NOT NULL,
    action text NOT NULL,                     -- entered, changed, served, extended, suspended, resumed, expired, revoked
    actor_id uuid REFERENCES app_user,        -- null: the clock
    fields text[] NOT NULL DEFAULT '{}',
    detail jsonb NOT NULL DEFAULT '{}',       -- the document that extends or revokes, the reason's code
    body jsonb NOT NULL,                      -- the order's row as it was from then on
    PRIMARY KEY (order_id, version)
);
CREATE INDEX order_version_agency ON order_version (agency_id, order_id);
INSERT INTO order_version (order_id, version, agency_id, at, action, body)
SELECT o.id, o.version, o.agency_id, o.updated_at, 'entered', to_jsonb(o) FROM protection_order o;

-- Something a caseworker has to see to by some time. A row from the day it is known, told when it opens.
CREATE TABLE task (
    id uuid PRIMARY KEY,                      -- derived of what it is about: made once
    agency_id uuid NOT NULL REFERENCES agency,
    kind text NOT NULL,                       -- core.domain.task
    case_id uuid REFERENCES protection_case,
    order_id uuid REFERENCES protection_order,
    opens_at timestamptz NOT NULL,            -- when it comes onto the list
    due_at timestamptz NOT NULL,              -- by when it wants to be done
    detail jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL,
    opened_at timestamptz,                    -- when it was told; null: not yet
    done_at timestamptz,
    done_by uuid REFERENCES app_user,         -- null: by what happened, not by somebody
    outcome text
);
CREATE INDEX task_opens ON task (opens_at) WHERE opened_at IS NULL AND done_at IS NULL;
CREATE INDEX task_agency ON task (agency_id, due_at, id) WHERE opened_at IS NOT NULL;
CREATE INDEX task_order ON task (order_id, kind);
CREATE INDEX task_case ON task (case_id, kind);
INSERT INTO task (id, agency_id, kind, case_id, order_id, opens_at, due_at, detail, created_at)
SELECT gen_random_uuid(), o.agency_id, 'order_expiring', o.case_id, o.id, o.valid_until - step.before, o.valid_until,
    jsonb_build_object('step', step.name), now()
FROM protection_order o
CROSS JOIN (VALUES ('7d', interval '168 hours'), ('72h', interval '72 hours'), ('24h', interval '24 hours')) step (name, before)
WHERE o.status NOT IN ('revoked', 'expired') AND o.valid_until > now();
INSERT INTO task (id, agency_id, kind, case_id, order_id, opens_at, due_at, created_at, opened_at)
SELECT m.id, m.agency_id, 'maintenance', m.case_id, m.order_id, m.opened_at, m.opened_at + interval '7 days', m.opened_at,
    m.opened_at
FROM maintenance_task m;

-- What a person allows to be told, to whom, until when.
CREATE TABLE consent (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    person_id uuid NOT NULL REFERENCES person,
    recipient text NOT NULL CHECK (recipient IN ('contact_centre', 'caseworker', 'crisis_centre', 'prosecutor', 'medical', 'other')),
    to_agency_id uuid REFERENCES agency,      -- null: outside this service
    fields text[] NOT NULL CHECK (fields <> '{}'),
    manner text NOT NULL CHECK (manner IN ('written', 'spoken', 'own_device')),
    given_at timestamptz NOT NULL,
    valid_until timestamptz NOT NULL,
    recorded_by uuid NOT NULL REFERENCES app_user,
    withdrawn_at timestamptz,
    created_at timestamptz NOT NULL,
    CHECK (valid_until > given_at)
);
CREATE INDEX consent_person ON consent (person_id, id);

-- A package handed over under a consent: which fields, never their values; those are read as they are when it is opened.
CREATE TABLE handover (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    to_agency_id uuid REFERENCES agency,
    consent_id uuid NOT NULL REFERENCES consent,
    person_id uuid NOT NULL REFERENCES person,
    order_id uuid REFERENCES protection_order,
    fields text[] NOT NULL,
    made_by uuid NOT NULL REFERENCES app_user,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    first_opened_at timestamptz
);
CREATE INDEX handover_agency ON handover (agency_id, id);
CREATE INDEX handover_to ON handover (to_agency_id, id) WHERE to_agency_id IS NOT NULL;
CREATE INDEX handover_consent ON handover (consent_id);

CREATE INDEX incident_stays ON incident (updated_at) WHERE family = 'proximity';

-- Whoever receives a hand-over sees that it is there; what is in it is read for her under the giver's name.
SELECT secure_by_agency('order_version', 'SELECT, INSERT', 'SELECT, INSERT', 'SELECT');
SELECT secure_by_agency('task', 'SELECT, INSERT, UPDATE', 'SELECT, INSERT, UPDATE');
SELECT secure_by_agency('consent');
SELECT secure_by_agency('handover');
CREATE POLICY by_recipient ON handover FOR SELECT TO qorgan_api USING (to_agency_id = (SELECT current_agency()));

-- migrate: rollback

DROP INDEX incident_stays;
DROP TABLE handover, consent, task, order_version;
DROP INDEX protection_order_gap;
ALTER TABLE protection_order DROP COLUMN term, DROP COLUMN extended_at, DROP COLUMN revoked_at, DROP COLUMN victim_fix_at,
    DROP COLUMN aggressor_fix_at, DROP COLUMN protected_at;
