-- Her PINs, the timers that press for her, and panics of which her own device hears nothing.
-- depends: 0021_live_links

-- migrate: apply

-- A panic that a duress PIN gave elsewhere than on an open panic: her device never learns that there is one.
ALTER TABLE panic ADD COLUMN unshown boolean NOT NULL DEFAULT false;

-- The PIN that asks for an end, and the one that says she is forced: argon2id, both sealed with her key.
CREATE TABLE person_pin (
    person_id uuid PRIMARY KEY REFERENCES person,
    agency_id uuid NOT NULL REFERENCES agency,
    hashes_sealed bytea NOT NULL,
    forced boolean NOT NULL DEFAULT false,    -- set by who gave the duress PIN: both are duress until a caseworker resets
    wrong_tries smallint NOT NULL DEFAULT 0,
    wrong_at timestamptz,
    updated_at timestamptz NOT NULL
);

-- "Check on me in 20 minutes": a panic that is given at its time unless her PIN says otherwise.
CREATE TABLE panic_timer (
    id uuid PRIMARY KEY,                      -- the client's own, and the id of the panic it gives
    agency_id uuid NOT NULL REFERENCES agency,
    person_id uuid NOT NULL REFERENCES person,
    device_id uuid NOT NULL REFERENCES device,
    state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'firing', 'fired', 'cancelled')),
    due_at timestamptz NOT NULL,
    mode text,
    lat double precision,                     -- where she was when she set it; emptied when it ends
    lon double precision,
    accuracy_m double precision,
    placed_at timestamptz,
    note_sealed bytea,
    started_at timestamptz NOT NULL,
    ended_at timestamptz,
    updated_at timestamptz NOT NULL
);
CREATE INDEX panic_timer_due ON panic_timer (due_at) WHERE state IN ('running', 'firing');
CREATE INDEX panic_timer_device ON panic_timer (device_id, started_at);
CREATE INDEX panic_timer_ended ON panic_timer (ended_at) WHERE ended_at IS NOT NULL;

-- Whoever is erased has no PIN and no timer, whoever erased her.
CREATE FUNCTION erase_pins() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    BEGIN
        DELETE FROM person_pin WHERE person_id = NEW.id;
        DELETE FROM panic_timer WHERE person_id = NEW.id;
        RETURN NULL;
    END
    $$;
CREATE TRIGGER pins_erased AFTER UPDATE OF erased_at ON person
    FOR EACH ROW WHEN (NEW.erased_at IS NOT NULL) EXECUTE FUNCTION erase_pins();
REVOKE EXECUTE ON FUNCTION erase_pins FROM PUBLIC;

SELECT secure_by_agency('person_pin', 'SELECT (person_id, agency_id, updated_at), DELETE', 'SELECT, INSERT, UPDATE');
SELECT secure_by_agency('panic_timer', '', 'SELECT, INSERT, UPDATE, DELETE');

-- migrate: rollback

DROP TRIGGER pins_erased ON person;
DROP FUNCTION erase_pins;
DROP TABLE panic_timer;
DROP TABLE person_pin;
ALTER TABLE panic DROP COLUMN unshown;
