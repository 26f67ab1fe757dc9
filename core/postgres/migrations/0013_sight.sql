-- Least sight: reasoned looks, the cells people are shown in, and who tests where the edge is.
-- depends: 0012_statistics

-- migrate: apply

-- A user who looks at where a person is though no incident unlocks it: for a reason, for minutes, announced, reviewed.
CREATE TABLE person_look (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    user_id uuid NOT NULL REFERENCES app_user,
    person_id uuid NOT NULL REFERENCES person,
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
CREATE INDEX person_look_user ON person_look (user_id, until_at);
CREATE INDEX person_look_agency ON person_look (agency_id, id);
CREATE INDEX person_look_person ON person_look (person_id);

-- The cells in which somebody was shown coarsely: a place near a cell's edge is always the same one's.
CREATE TABLE coarse_cell (
    person_id uuid NOT NULL REFERENCES person,
    cell text NOT NULL,                       -- row:column of a grid of 2 km (core.domain.sight)
    agency_id uuid NOT NULL REFERENCES agency,
    shown_at timestamptz NOT NULL,            -- first
    PRIMARY KEY (person_id, cell)
);

-- When, and inside which radius, an aggressor may be warned: decided with jitter, sent by who sends to devices.
CREATE TABLE aggressor_warning (
    id uuid PRIMARY KEY,                      -- follows from the transition that called for it
    agency_id uuid NOT NULL REFERENCES agency,
    case_id uuid NOT NULL,
    order_id uuid NOT NULL REFERENCES protection_order,
    aggressor_id uuid NOT NULL REFERENCES person,
    decided_at timestamptz NOT NULL,
    release_at timestamptz NOT NULL CHECK (release_at >= decided_at),
    radius_m double precision NOT NULL,
    left_at timestamptz                       -- he turned back before it was released: nothing is said
);
CREATE INDEX aggressor_warning_order ON aggressor_warning (order_id, decided_at);
CREATE INDEX transition_edge ON transition (order_id, evaluated_at) WHERE kind IN ('proximity', 'approach');

-- Who is erased was nowhere.
CREATE FUNCTION forget_cells() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    BEGIN
        DELETE FROM coarse_cell WHERE person_id = NEW.id;
        RETURN NEW;
    END
    $$;
REVOKE EXECUTE ON FUNCTION forget_cells FROM PUBLIC;
CREATE TRIGGER erased_person_was_nowhere AFTER UPDATE OF erased_at ON person
    FOR EACH ROW WHEN (NEW.erased_at IS NOT NULL) EXECUTE FUNCTION forget_cells();

SELECT secure_by_agency('person_look', api => 'SELECT, INSERT, UPDATE', device => 'SELECT', worker => '');
SELECT secure_by_agency('coarse_cell', api => 'SELECT, INSERT', device => 'SELECT, INSERT', worker => '');
SELECT secure_by_agency('aggressor_warning', api => 'SELECT', device => '', worker => 'SELECT, INSERT, UPDATE');

-- migrate: rollback

DROP TRIGGER erased_person_was_nowhere ON person;
DROP FUNCTION forget_cells;
DROP INDEX transition_edge;
DROP TABLE aggressor_warning, coarse_cell, person_look;
