-- Figures without identities: calls for help, what courts decided, and coarse attributes that stay when a person is erased.
-- depends: 0011_erasure

-- migrate: apply

ALTER TABLE person
    ADD COLUMN sex text NOT NULL DEFAULT 'unknown' CHECK (sex IN ('female', 'male', 'unknown')),
    ADD COLUMN age_band text NOT NULL DEFAULT 'unknown',
    ADD COLUMN region_code text;

-- A call for help as it is counted: nobody's name, and no words of hers.
CREATE TABLE call_record (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    person_id uuid REFERENCES person,         -- null: she is not entered
    order_id uuid REFERENCES protection_order, -- the order that followed, if one did
    received_at timestamptz NOT NULL,
    channel text NOT NULL CHECK (channel IN ('102', '112', '111', 'visit', 'app', 'other')),
    region text,
    violence text NOT NULL DEFAULT 'unknown'
        CHECK (violence IN ('physical', 'psychological', 'sexual', 'economic', 'stalking', 'threat', 'other', 'unknown')),
    injury text NOT NULL DEFAULT 'unknown' CHECK (injury IN ('none', 'light', 'moderate', 'serious', 'fatal', 'unknown')),
    sex text NOT NULL DEFAULT 'unknown' CHECK (sex IN ('female', 'male', 'unknown')),
    age_band text NOT NULL DEFAULT 'unknown',
    recorded_by uuid NOT NULL REFERENCES app_user,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX call_record_agency ON call_record (agency_id, received_at);
CREATE INDEX call_record_order ON call_record (order_id) WHERE order_id IS NOT NULL;
CREATE INDEX call_record_person ON call_record (person_id) WHERE person_id IS NOT NULL;

-- What a court decided of a breach of an order.
CREATE TABLE court_outcome (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    order_id uuid NOT NULL REFERENCES protection_order,
    decided_at timestamptz NOT NULL,
    proceeding text NOT NULL CHECK (proceeding IN ('administrative', 'criminal', 'civil')),
    result text NOT NULL
        CHECK (result IN ('arrest', 'fine', 'restraint', 'imprisonment', 'other_penalty', 'acquitted', 'closed', 'returned')),
    article text,                             -- of the law; no words on anybody
    sex text NOT NULL DEFAULT 'unknown' CHECK (sex IN ('female', 'male', 'unknown')),
    age_band text NOT NULL DEFAULT 'unknown',  -- his, when it was entered
    recorded_by uuid NOT NULL REFERENCES app_user,
    created_at timestamptz NOT NULL
);
CREATE INDEX court_outcome_agency ON court_outcome (agency_id, decided_at);
CREATE INDEX court_outcome_order ON court_outcome (order_id);

CREATE INDEX incident_occurred ON incident (agency_id, occurred_at);
CREATE INDEX panic_agency ON panic (agency_id, received_at);

SELECT secure_by_agency('call_record');
SELECT secure_by_agency('court_outcome');

-- migrate: rollback

DROP INDEX incident_occurred, panic_agency;
DROP TABLE court_outcome, call_record;
ALTER TABLE person DROP COLUMN sex, DROP COLUMN age_band, DROP COLUMN region_code;
