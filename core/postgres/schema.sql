-- The schema of Qorgan, on one page. Migrations lead here; a test compares the two.
-- Conventions: ids are UUIDv7 unless derived; times are timestamptz; units are last in a name;
-- `changed_xid` lets a poller find every committed change without gaps (see core/postgres/changes.py).

-- What must never change once data exists.
CREATE TABLE installation (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    shard_count smallint NOT NULL CHECK (shard_count > 0),
    installed_at timestamptz NOT NULL
);

-- Who uses it ---------------------------------------------------------------------------------------------

CREATE TABLE agency (
    id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE,
    kind text NOT NULL DEFAULT 'police' CHECK (kind IN ('police', 'monitoring', 'crisis_centre', 'court', 'other')),
    region text,
    time_zone text NOT NULL DEFAULT 'Asia/Almaty',
    language text NOT NULL DEFAULT 'ru',
    jurisdiction jsonb,                       -- GeoJSON polygon
    policy jsonb NOT NULL DEFAULT '{}',       -- radii, probabilities, limits; named and validated in core.domain.policy
    recompile_after uuid,                     -- cases beyond this id still bear the policy before; null: none do
    created_at timestamptz NOT NULL,
    names_officials boolean NOT NULL DEFAULT false, -- whether a victim is told who looked, beside when and why
    jurisdiction_version integer NOT NULL DEFAULT 0
);

ALTER TABLE installation ADD COLUMN default_agency_id uuid REFERENCES agency; -- QORGAN_DEFAULT_AGENCY

CREATE TABLE app_user (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    username text NOT NULL,
    password_hash text,                       -- null: she signs in at her agency's provider, or by passkey
    role text NOT NULL CHECK (role IN ('admin', 'supervisor', 'dispatcher', 'officer', 'caseworker', 'auditor')),
    display_name text,
    language text NOT NULL DEFAULT 'ru',
    created_at timestamptz NOT NULL,
    disabled_at timestamptz,
    password_set_at timestamptz,
    provider_subject text,                    -- who she is to her agency's own sign-in
    attempts_noticed_at timestamptz           -- when she was last told that somebody guesses at her password
);
CREATE UNIQUE INDEX app_user_username ON app_user (lower(username));
CREATE UNIQUE INDEX app_user_provider ON app_user (agency_id, provider_subject);

CREATE TABLE refresh_token (
    digest bytea PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES app_user ON DELETE CASCADE,
    family_id uuid NOT NULL,                  -- reuse of a spent token ends its whole family
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    revoked_at timestamptz,
    agency_id uuid NOT NULL
);
CREATE INDEX refresh_token_family ON refresh_token (family_id);

-- Whom it protects, and from whom -------------------------------------------------------------------------

CREATE TABLE person (
    id uuid PRIMARY KEY,
    number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    agency_id uuid NOT NULL REFERENCES agency,
    identity jsonb,                           -- name, phone, address …; plain only in what an older version left
    safe_contact jsonb,                       -- channel, hours
    safe_word text,
    language text NOT NULL DEFAULT 'ru',
    needs text[] NOT NULL DEFAULT '{}',       -- interpreter, deaf
    hazards jsonb NOT NULL DEFAULT '{}',      -- weapons, children, medical
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    identity_sealed bytea,
    safe_contact_sealed bytea,
    safe_word_sealed bytea,
    erased_at timestamptz,
    sex text NOT NULL DEFAULT 'unknown' CHECK (sex IN ('female', 'male', 'unknown')), -- coarse: they outlast her data
    age_band text NOT NULL DEFAULT 'unknown',
    region_code text
);
CREATE INDEX person_agency ON person (agency_id, id);

-- One aggressor with everyone protected from him; or, without an aggressor, one person alone.
CREATE TABLE protection_case (
    id uuid PRIMARY KEY,
    number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    agency_id uuid NOT NULL REFERENCES agency,
    aggressor_id uuid UNIQUE REFERENCES person,
    own_person_id uuid UNIQUE REFERENCES person,
    shard smallint NOT NULL,
    config jsonb,                             -- core.domain.case.Case, compiled
    config_version integer NOT NULL DEFAULT 0,
    changed_xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    created_at timestamptz NOT NULL,
    CHECK (num_nonnulls(aggressor_id, own_person_id) = 1)
);
CREATE INDEX protection_case_changed ON protection_case (shard, changed_xid);

CREATE TABLE protection_order (
    id uuid PRIMARY KEY,
    number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    agency_id uuid NOT NULL REFERENCES agency,
    case_id uuid NOT NULL REFERENCES protection_case,
    reference text,
    issuer text,
    legal_ground text,
    restraints text[] NOT NULL DEFAULT '{}',
    victim_id uuid NOT NULL REFERENCES person,
    protected_person_ids uuid[] NOT NULL DEFAULT '{}',
    aggressor_id uuid NOT NULL REFERENCES person,
    relationship text CHECK (relationship IN ('spouse', 'former', 'unregistered nikah', 'relative', 'other')),
    cohabiting boolean NOT NULL DEFAULT false,
    risk_level text NOT NULL DEFAULT 'standard' CHECK (risk_level IN ('standard', 'high', 'extreme')),
    issued_at timestamptz,
    served_at timestamptz,
    valid_from timestamptz NOT NULL,
    valid_until timestamptz,
    status text NOT NULL DEFAULT 'in_force' CHECK (status IN ('issued', 'in_force', 'suspended', 'expired', 'revoked')),
    time_zone text NOT NULL DEFAULT 'Asia/Almaty',
    region text,
    legal_m double precision NOT NULL DEFAULT 0 CHECK (legal_m >= 0),
    alert_m double precision NOT NULL CHECK (alert_m > 0),
    warning_m double precision NOT NULL,
    grace_s double precision NOT NULL DEFAULT 300 CHECK (grace_s >= 0),
    warn_aggressor boolean NOT NULL DEFAULT false,
    sealed boolean NOT NULL DEFAULT false,
    exceptions jsonb,
    version integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    policy jsonb NOT NULL DEFAULT '{}',       -- what it sets otherwise than its agency (core.domain.policy.OrderPolicy)
    term jsonb,                               -- core.domain.order.Term: "30 days from service"
    extended_at timestamptz,
    revoked_at timestamptz,
    victim_fix_at timestamptz,                -- the first accepted fix of her device, and of his bracelet, under it
    aggressor_fix_at timestamptz,
    protected_at timestamptz,                 -- when both had come: the end of the unprotected gap
    legal_ground_sealed bytea,
    exceptions_sealed bytea,
    CHECK (victim_id <> aggressor_id),
    CHECK (alert_m >= legal_m),
    CHECK (warning_m >= alert_m),
    CHECK (valid_until IS NULL OR valid_until > valid_from)
);
CREATE INDEX protection_order_case ON protection_order (case_id);
CREATE INDEX protection_order_victim ON protection_order (victim_id);
CREATE INDEX protection_order_protected ON protection_order USING gin (protected_person_ids) WITH (fastupdate = off)
    WHERE protected_person_ids <> '{}';
CREATE INDEX protection_order_agency ON protection_order (agency_id, id);
CREATE INDEX protection_order_ends ON protection_order (valid_until) WHERE status NOT IN ('revoked', 'expired');
CREATE INDEX protection_order_gap ON protection_order (id) WHERE protected_at IS NULL AND status NOT IN ('revoked', 'expired');

CREATE TABLE zone (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    order_id uuid NOT NULL REFERENCES protection_order,
    kind text NOT NULL CHECK (kind IN ('exclusion', 'inclusion')),
    name text,
    geometry jsonb NOT NULL,                  -- GeoJSON geometry, validated and mended
    radius_m double precision,
    warning_m double precision NOT NULL DEFAULT 0 CHECK (warning_m >= 0),
    schedule jsonb,
    disclosed boolean NOT NULL DEFAULT false,
    valid_from timestamptz,
    valid_until timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    removed_at timestamptz,
    name_sealed bytea
);
CREATE INDEX zone_order ON zone (order_id);

CREATE TABLE suspension (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    order_id uuid NOT NULL REFERENCES protection_order,
    reason text,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    asked_by uuid NOT NULL REFERENCES app_user,
    confirmed_by uuid REFERENCES app_user,
    confirmed_at timestamptz,
    ended_at timestamptz,
    created_at timestamptz NOT NULL,
    reason_sealed bytea,
    CHECK (ends_at > starts_at AND ends_at <= starts_at + interval '8 hours'),
    CHECK (confirmed_by IS NULL OR confirmed_by <> asked_by)
);
CREATE INDEX suspension_order ON suspension (order_id);
CREATE INDEX suspension_due ON suspension (ends_at) WHERE ended_at IS NULL;

-- Devices ---------------------------------------------------------------------------------------------------

CREATE TABLE device (
    id uuid PRIMARY KEY,
    number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    agency_id uuid NOT NULL REFERENCES agency,
    kind text NOT NULL CHECK (kind IN ('bracelet', 'phone', 'victim_unit', 'tracker')),
    role text NOT NULL DEFAULT 'other' CHECK (role IN ('victim', 'aggressor', 'other')),
    person_id uuid REFERENCES person,
    external_id text,
    expected_interval_s double precision NOT NULL DEFAULT 60 CHECK (expected_interval_s BETWEEN 1 AND 86400),
    push_token text,
    battery_pct real,
    battery_hours_left real,
    clock_offset_s real,
    strap text,
    fitted_at timestamptz,
    returned_at timestamptz,
    last_seen_at timestamptz,
    last_proved_at timestamptz,
    status text NOT NULL DEFAULT 'registered' CHECK (status IN ('registered', 'active', 'returned', 'revoked', 'lost')),
    routes smallint[] NOT NULL DEFAULT '{}',  -- shards its pings go to, the primary one first
    changed_xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    push_token_sealed bytea
);
CREATE UNIQUE INDEX device_external ON device (agency_id, external_id) WHERE external_id IS NOT NULL;
CREATE INDEX device_person ON device (person_id);
CREATE INDEX device_agency ON device (agency_id, id);
CREATE INDEX device_changed ON device (changed_xid);

-- A device's or a gateway's bearer token: its SHA-256, never itself.
CREATE TABLE bearer_token (
    digest bytea PRIMARY KEY CHECK (length(digest) = 32),
    device_id uuid REFERENCES device,
    gateway_name text,
    agency_id uuid NOT NULL REFERENCES agency,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    changed_xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    replaced_at timestamptz,                  -- a device's: from when a newer one, asked for with it, stands in its place
    reused_at timestamptz,                    -- when it came again after that: somebody has a copy
    CHECK (num_nonnulls(device_id, gateway_name) = 1)
);
CREATE INDEX bearer_token_device ON bearer_token (device_id);
CREATE INDEX bearer_token_changed ON bearer_token (changed_xid);

CREATE TABLE enrolment (
    code_digest bytea PRIMARY KEY,
    device_id uuid NOT NULL REFERENCES device,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at timestamptz
);

-- People to tell, units to send ------------------------------------------------------------------------------

CREATE TABLE contact (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    person_id uuid NOT NULL REFERENCES person,
    name text,                                -- plain only in what an older version left, as relation and channels
    relation text,
    channels jsonb,                           -- [{"channel": "email", "address": "…"}]
    language text NOT NULL DEFAULT 'ru',
    verified_at timestamptz,
    consented_at timestamptz,
    revoked_at timestamptz,
    may_see text[] NOT NULL DEFAULT '{}',
    may_call_her boolean NOT NULL DEFAULT false,
    linked_to_aggressor boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    name_sealed bytea,
    relation_sealed bytea,
    channels_sealed bytea,
    last_proved_at timestamptz                -- when it last opened the link of a test
);
CREATE INDEX contact_person ON contact (person_id);

CREATE TABLE unit (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    callsign text NOT NULL,
    status text NOT NULL DEFAULT 'available' CHECK (status IN ('available', 'dispatched', 'en_route', 'on_scene', 'off_duty')),
    lat double precision,
    lon double precision,
    position_at timestamptz,
    capabilities text[] NOT NULL DEFAULT '{}',
    shift_ends_at timestamptz,
    conflicts uuid[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    user_ids uuid[] NOT NULL DEFAULT '{}',    -- who of the agency goes with it: told when it is sent, and who accepts
    UNIQUE (agency_id, callsign)
);

-- Where an agency itself wants to be told (a desk's e-mail, a dispatch system's webhook, a log).
CREATE TABLE notification_route (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    name text NOT NULL,
    channel text NOT NULL,
    address text NOT NULL,
    secret text,                              -- webhook signing secret
    language text NOT NULL DEFAULT 'ru',
    min_severity text NOT NULL DEFAULT 'high' CHECK (min_severity IN ('low', 'medium', 'high', 'critical')),
    enabled boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL,
    secret_sealed bytea
);
CREATE INDEX notification_route_agency ON notification_route (agency_id);

-- What happened --------------------------------------------------------------------------------------------

CREATE TABLE incident (
    id uuid PRIMARY KEY,
    type text NOT NULL,
    family text NOT NULL,
    severity text NOT NULL CHECK (severity IN ('low', 'medium', 'high', 'critical')),
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'acknowledged', 'dispatched', 'resolved')),
    version integer NOT NULL DEFAULT 1,
    episode_id uuid NOT NULL,
    agency_id uuid NOT NULL REFERENCES agency,
    jurisdiction_agency_id uuid REFERENCES agency,
    case_id uuid REFERENCES protection_case,
    order_id uuid REFERENCES protection_order,
    victim_id uuid REFERENCES person,
    aggressor_id uuid REFERENCES person,
    device_id uuid REFERENCES device,
    subject text NOT NULL,                    -- what folds: order:…, device:…, person:…, outage:…
    occurred_at timestamptz NOT NULL,
    opened_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    acknowledged_at timestamptz,
    dispatched_at timestamptz,
    resolved_at timestamptz,
    retrospective boolean NOT NULL DEFAULT false,
    exercise boolean NOT NULL DEFAULT false,
    provisional boolean NOT NULL DEFAULT false,
    inside boolean NOT NULL DEFAULT false,    -- he is inside now, as far as the engine knows
    distance_m double precision,
    p_within double precision,
    closing_mps double precision,
    time_to_zone_s double precision,
    attribution text,
    assurance text,
    fix_age_s jsonb,
    place jsonb,                              -- {"lat","lon","accuracy_m","at"} of the victim's side, dispatchers only
    owner_id uuid REFERENCES app_user,
    escalation_step integer NOT NULL DEFAULT 0,
    next_deadline_at timestamptz,
    do_not_call boolean NOT NULL DEFAULT false,
    hazards jsonb NOT NULL DEFAULT '{}',
    language text,
    units jsonb NOT NULL DEFAULT '[]',
    outcome text,
    cause text,
    false_alarm_cause text,
    external_ref text,
    detail jsonb NOT NULL DEFAULT '{}',
    inside_since timestamptz
);
-- The idempotent fold: at most one incident that is not resolved a subject and family.
CREATE UNIQUE INDEX incident_open ON incident (subject, family) WHERE state <> 'resolved';
CREATE INDEX incident_agency ON incident (agency_id, id);
CREATE INDEX incident_occurred ON incident (agency_id, occurred_at);
CREATE INDEX incident_board ON incident (agency_id, opened_at) WHERE state <> 'resolved';
CREATE INDEX incident_case ON incident (case_id, updated_at);
CREATE INDEX incident_episode ON incident (episode_id);
CREATE INDEX incident_outage ON incident (agency_id) WHERE family = 'outage' AND state <> 'resolved';
CREATE INDEX incident_inside ON incident (inside_since) WHERE inside AND state <> 'resolved';
CREATE INDEX incident_stays ON incident (updated_at) WHERE family = 'proximity';
CREATE INDEX incident_untold ON incident (opened_at) WHERE detail ? 'untold' AND state <> 'resolved';
CREATE INDEX incident_false ON incident (resolved_at) WHERE outcome IN ('false_alarm', 'technical');

CREATE TABLE timeline (
    id uuid PRIMARY KEY,                      -- derived from its cause where there is one: a repeat adds nothing
    incident_id uuid NOT NULL REFERENCES incident,
    ordinal bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL,
    kind text NOT NULL,
    actor_id uuid,
    data jsonb NOT NULL DEFAULT '{}',
    private_sealed bytea
);
CREATE INDEX timeline_incident ON timeline (incident_id, ordinal);

CREATE TABLE panic (
    id uuid PRIMARY KEY,                      -- the client's own id when it is a UUID, else derived from it
    client_id text,
    device_id uuid REFERENCES device,
    person_id uuid REFERENCES person,
    agency_id uuid NOT NULL REFERENCES agency,
    incident_id uuid NOT NULL REFERENCES incident,
    mode text,
    trigger text,
    at timestamptz,
    received_at timestamptz NOT NULL,
    lat double precision,
    lon double precision,
    accuracy_m double precision,
    note text,
    verified boolean NOT NULL,
    doubt text,                               -- why not verified: unknown_token, revoked_token, …
    body jsonb,                               -- note and body: plain only in what an older version left
    cancel_asked_at timestamptz,
    created_at timestamptz NOT NULL,
    note_sealed bytea,
    body_sealed bytea,
    unshown boolean NOT NULL DEFAULT false    -- a duress PIN gave it elsewhere: her device never learns that there is one
);
CREATE INDEX panic_incident ON panic (incident_id);
CREATE INDEX panic_agency ON panic (agency_id, received_at);
CREATE INDEX panic_device ON panic (device_id, received_at);

-- Every transition the engine made, also those that opened no incident: how an alert is explained later.
CREATE TABLE transition (
    id uuid PRIMARY KEY,
    shard smallint NOT NULL,
    agency_id uuid NOT NULL,
    case_id uuid NOT NULL,
    order_id uuid,
    incident_id uuid REFERENCES incident,
    at timestamptz NOT NULL,
    evaluated_at timestamptz NOT NULL,
    kind text NOT NULL,
    from_state text NOT NULL,
    to_state text NOT NULL,
    body jsonb NOT NULL
);
CREATE INDEX transition_case ON transition (case_id, evaluated_at);
CREATE INDEX transition_incident ON transition (incident_id) WHERE incident_id IS NOT NULL;

-- The last state told of each order and zone: what a device's alarm is judged by, and what lasts too long.
CREATE TABLE separation (
    order_id uuid NOT NULL,
    kind text NOT NULL,                       -- proximity, zone, approach, assurance
    zone_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    agency_id uuid NOT NULL,
    case_id uuid NOT NULL,
    state text NOT NULL,
    since timestamptz NOT NULL,
    evaluated_at timestamptz NOT NULL,
    distance_m double precision,
    closing_mps double precision,
    transition_id uuid NOT NULL,
    told_at timestamptz,                      -- when a lasting warning was told: once a stay
    PRIMARY KEY (order_id, kind, zone_id)
);
CREATE INDEX separation_case ON separation (case_id);
CREATE INDEX separation_warned ON separation (since) WHERE state = 'warning' AND told_at IS NULL;
CREATE INDEX separation_breached ON separation (since) WHERE state = 'breach';
CREATE INDEX separation_unknown ON separation (transition_id) WHERE kind = 'assurance' AND state = 'unknown';

-- Devices that are late or silent now. Silences that may be one of many wait (`held`) until that is known.
CREATE TABLE silence (
    device_id uuid PRIMARY KEY,
    person_id uuid,
    role text NOT NULL,
    state text NOT NULL,                      -- late, silent
    agency_id uuid NOT NULL,
    case_id uuid NOT NULL,
    since timestamptz NOT NULL,
    noted_at timestamptz NOT NULL,
    cell text,                                -- core.domain.outage.cell_of its last position
    transition_id uuid NOT NULL,
    held boolean NOT NULL DEFAULT false,
    outage_id uuid                            -- the incident that took it
);
CREATE INDEX silence_agency ON silence (agency_id, noted_at);
CREATE INDEX silence_case ON silence (case_id);
CREATE INDEX silence_person ON silence (person_id);
CREATE INDEX silence_outage ON silence (outage_id) WHERE outage_id IS NOT NULL;

-- A wearer asked to see to a device that is late; what has no channel yet waits here for one.
CREATE TABLE device_prompt (
    id uuid PRIMARY KEY,                      -- derived from the transition
    device_id uuid NOT NULL,
    person_id uuid,
    role text NOT NULL,
    agency_id uuid NOT NULL,
    case_id uuid NOT NULL,
    at timestamptz NOT NULL,
    pushes integer NOT NULL DEFAULT 0,        -- messages queued; 0: nothing could carry it
    answered_at timestamptz                   -- when the device was heard again
);
CREATE INDEX device_prompt_waiting ON device_prompt (device_id) WHERE answered_at IS NULL;

-- A pair whose incidents keep being false: somebody looks at the devices. Nothing is ever suppressed by it.
CREATE TABLE maintenance_task (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    case_id uuid NOT NULL REFERENCES protection_case,
    order_id uuid REFERENCES protection_order,
    incident_ids uuid[] NOT NULL,
    causes jsonb NOT NULL DEFAULT '{}',       -- false_alarm_cause, cause or outcome → how many
    opened_at timestamptz NOT NULL
);
CREATE INDEX maintenance_task_agency ON maintenance_task (agency_id, opened_at);
CREATE INDEX maintenance_task_case ON maintenance_task (case_id, opened_at);

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

-- A transition that could not be applied: set aside with its reason, counted, shown.
CREATE TABLE poison (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source text NOT NULL,
    entry text NOT NULL,
    reason text NOT NULL,
    body text,
    at timestamptz NOT NULL,
    handled_at timestamptz
);

-- Who is told ------------------------------------------------------------------------------------------------

CREATE TABLE delivery (
    id uuid PRIMARY KEY,                      -- derived: cause, recipient, channel, step
    agency_id uuid NOT NULL REFERENCES agency,
    incident_id uuid REFERENCES incident,
    cause text NOT NULL,                      -- what it tells: a transition's, panic's or command's id
    audience text NOT NULL CHECK (audience IN (
        'dispatcher', 'officer', 'victim', 'contact', 'operator', 'aggressor')),
    recipient text NOT NULL,                  -- route:…, device:…, contact:…
    channel text NOT NULL,
    address text,                             -- and secret: plain only in what an older version left
    secret text,
    language text NOT NULL DEFAULT 'ru',
    template text NOT NULL,
    data jsonb NOT NULL DEFAULT '{}',
    priority smallint NOT NULL DEFAULT 1,     -- 0 panic, 1 alarms, 2 the rest
    step integer NOT NULL DEFAULT 0,
    state text NOT NULL DEFAULT 'queued' CHECK (state IN (
        'queued', 'sending', 'sent', 'delivered', 'seen', 'acknowledged', 'failed', 'dead', 'cancelled')),
    attempts integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL,
    leased_until timestamptz,
    leased_by text,
    provider_id text,
    last_error text,
    created_at timestamptz NOT NULL,
    sent_at timestamptz,
    updated_at timestamptz NOT NULL,
    target_sealed bytea,
    address_digest bytea,
    forgiven integer NOT NULL DEFAULT 0,      -- attempts that do not count: the provider was away
    delivered_at timestamptz,
    seen_at timestamptz,
    dismissed_at timestamptz,                 -- somebody has looked at a dead letter and left it dead
    seen_digest bytea                         -- of the token in the link "I have seen it"
);
CREATE INDEX delivery_due ON delivery (channel, priority, due_at) WHERE state IN ('queued', 'sending');
CREATE INDEX delivery_incident ON delivery (incident_id);
CREATE INDEX delivery_recipient ON delivery (recipient) WHERE state IN ('queued', 'sending');
CREATE INDEX delivery_elsewhere ON delivery ((data ->> 'incident_id'))
    WHERE incident_id IS NULL AND state = 'queued' AND data ->> 'incident_id' IS NOT NULL; -- of another agency's incident
CREATE UNIQUE INDEX delivery_seen ON delivery (seen_digest) WHERE seen_digest IS NOT NULL;
CREATE INDEX delivery_dead ON delivery (agency_id, updated_at) WHERE state IN ('dead', 'failed');
CREATE INDEX delivery_provider ON delivery (provider_id) WHERE channel = 'sms' AND provider_id IS NOT NULL;

CREATE TABLE delivery_attempt (
    delivery_id uuid NOT NULL REFERENCES delivery,
    attempt integer NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz,
    result text NOT NULL,                     -- sent, retryable, permanent, throttled, abandoned
    detail text,
    PRIMARY KEY (delivery_id, attempt)
);

-- What dispatchers see, in commit order per agency ------------------------------------------------------------

CREATE SEQUENCE feed_id;
CREATE TABLE feed (
    id bigint PRIMARY KEY,                    -- taken under the agency's advisory lock, by the commit
    agency_id uuid NOT NULL REFERENCES agency,
    kind text NOT NULL,
    at timestamptz NOT NULL,
    data jsonb NOT NULL
);
CREATE INDEX feed_agency ON feed (agency_id, id);
CREATE INDEX feed_at ON feed (at);

-- What a transaction tells, until its own commit puts it into the feed: nobody waits for an agency's lock while its
-- holder's next statement is on its way. Empty for everybody but the transaction itself.
CREATE UNLOGGED TABLE feed_outgoing (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    agency_id uuid NOT NULL,
    at timestamptz NOT NULL,
    kinds text[] NOT NULL,
    bodies jsonb[] NOT NULL
);

CREATE FUNCTION send_outgoing() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock(hashtextextended(NEW.agency_id::text, 7067002));
        INSERT INTO feed (id, agency_id, kind, at, data)
            SELECT nextval('feed_id'), NEW.agency_id, event.kind, NEW.at, event.body
            FROM unnest(NEW.kinds, NEW.bodies) WITH ORDINALITY AS event (kind, body, number) ORDER BY event.number;
        DELETE FROM feed_outgoing WHERE id = NEW.id;
        PERFORM pg_notify('feed', NEW.agency_id::text);
        RETURN NULL;
    END
    $$;
REVOKE EXECUTE ON FUNCTION send_outgoing FROM PUBLIC;
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON feed_outgoing DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION send_outgoing();

-- Keys -----------------------------------------------------------------------------------------------------

-- What seals a person's values: AES-256, wrapped with a key-encryption key. Erased, it opens nothing ever again.
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

-- The same for what belongs to nobody in particular.
CREATE TABLE agency_key (
    agency_id uuid PRIMARY KEY REFERENCES agency DEFERRABLE INITIALLY DEFERRED,
    kek_id text NOT NULL,
    wrapped bytea NOT NULL,
    created_at timestamptz NOT NULL
);

-- A person is found by the exact value of a field: HMAC-SHA256 of it with a key of her agency's.
CREATE TABLE person_index (
    agency_id uuid NOT NULL REFERENCES agency,
    field text NOT NULL CHECK (field IN ('name', 'phone', 'iin')),
    digest bytea NOT NULL CHECK (length(digest) = 32),
    person_id uuid NOT NULL REFERENCES person,
    PRIMARY KEY (agency_id, field, digest, person_id)
);
CREATE INDEX person_index_person ON person_index (person_id);

-- What must not be erased while it is wanted in court.
CREATE TABLE legal_hold (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    person_id uuid REFERENCES person,
    case_id uuid REFERENCES protection_case,
    reason text NOT NULL,
    placed_by uuid REFERENCES app_user,
    placed_at timestamptz NOT NULL,
    lifted_at timestamptz,
    incident_id uuid REFERENCES incident,
    reference text,
    lifted_by uuid REFERENCES app_user,
    lift_reason text,
    CHECK (num_nonnulls(person_id, case_id, incident_id) > 0)
);
CREATE INDEX legal_hold_person ON legal_hold (person_id) WHERE lifted_at IS NULL;
CREATE INDEX legal_hold_case ON legal_hold (case_id) WHERE lifted_at IS NULL;
CREATE INDEX legal_hold_incident ON legal_hold (incident_id) WHERE lifted_at IS NULL;

-- A person asked to be erased: confirmed over her safe channel, carried out when due.
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
    held_at timestamptz,
    code_sent_at timestamptz NOT NULL,
    held_for text CHECK (held_for IN ('legal_hold', 'order', 'incident'))
);
CREATE UNIQUE INDEX erasure_request_open ON erasure_request (person_id)
    WHERE num_nonnulls(withdrawn_at, lapsed_at, erased_at) = 0;
CREATE INDEX erasure_request_due ON erasure_request (due_at) WHERE num_nonnulls(withdrawn_at, lapsed_at, erased_at) = 0;

-- The machine room --------------------------------------------------------------------------------------------

-- Who may work on what (geo:3, historian:3); the token only grows, and every write checks it.
CREATE TABLE lease (
    name text PRIMARY KEY,
    holder text,
    token bigint NOT NULL DEFAULT 0,
    expires_at timestamptz
);

-- Up to where a log has been taken into PostgreSQL, moved in the transaction that took it.
CREATE TABLE log_cursor (
    name text PRIMARY KEY,                    -- recorder:3, historian:3
    entry text NOT NULL DEFAULT '0-0',
    token bigint NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL
);

-- Who is running; a lease is shared out among those with a fresh beat.
CREATE TABLE service_beat (
    name text NOT NULL,                       -- geo, historian, notifier, api, ingest
    instance text NOT NULL,
    beat_at timestamptz NOT NULL,
    detail jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (name, instance)
);

-- A client-made id on a create: the same body again is answered, another body refused.
CREATE TABLE creation (
    id uuid PRIMARY KEY,
    kind text NOT NULL,
    body_digest bytea NOT NULL,
    created_at timestamptz NOT NULL
);

CREATE TABLE audit (
    id uuid PRIMARY KEY,
    at timestamptz NOT NULL,
    agency_id uuid,
    actor_kind text NOT NULL,                 -- user, device, gateway, service
    actor_id text,
    action text NOT NULL,
    subject_kind text,
    subject_id uuid,
    address text,
    detail jsonb NOT NULL DEFAULT '{}',
    role text,
    session_id uuid,
    purpose text,
    person_ids uuid[] NOT NULL DEFAULT '{}',  -- whose data it was
    xid xid8 NOT NULL DEFAULT pg_current_xact_id()  -- how the sealer misses none, however long a transaction takes
);
CREATE INDEX audit_agency ON audit (agency_id, id);
CREATE INDEX audit_subject ON audit (subject_id, id);
CREATE INDEX audit_person ON audit USING gin (person_ids) WITH (fastupdate = off) WHERE person_ids <> '{}';
CREATE INDEX audit_actor ON audit (actor_id, id);
CREATE INDEX audit_xid ON audit (xid);

-- A row's place in its agency's chain of hashes (core.domain.chain); the nil agency's: rows that belong to none.
CREATE TABLE audit_link (
    agency_id uuid NOT NULL,
    position bigint NOT NULL CHECK (position > 0),
    audit_id uuid NOT NULL UNIQUE,
    form smallint NOT NULL,
    row_hash bytea NOT NULL CHECK (length(row_hash) = 32),
    chain_hash bytea NOT NULL CHECK (length(chain_hash) = 32),
    PRIMARY KEY (agency_id, position)
);
-- How far the sealer has come: every row of a transaction below has its link.
CREATE TABLE audit_seal (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    floor_xid xid8 NOT NULL DEFAULT '0',
    cluster bigint NOT NULL DEFAULT 0,        -- whose transaction ids they are
    sealed_at timestamptz
);

-- Copies of the signed checkpoints; what counts are the files outside the database.
CREATE TABLE audit_checkpoint (
    agency_id uuid NOT NULL,
    number bigint NOT NULL CHECK (number > 0),
    position bigint NOT NULL,
    day date,                                 -- the day it closes; null: one of the minute
    hash bytea NOT NULL CHECK (length(hash) = 32),
    line text NOT NULL,
    PRIMARY KEY (agency_id, number)
);
CREATE INDEX audit_checkpoint_day ON audit_checkpoint (day, hash) WHERE day IS NOT NULL;
-- Public keys that have signed.
CREATE TABLE signing_key (
    key_id text PRIMARY KEY,
    public_key bytea NOT NULL CHECK (length(public_key) = 32),
    first_used_at timestamptz NOT NULL
);
-- Where the rule of retention cut a chain's beginning off, signed.
CREATE TABLE audit_cut (
    agency_id uuid NOT NULL,
    position bigint NOT NULL,
    chain_hash bytea NOT NULL CHECK (length(chain_hash) = 32),
    line text NOT NULL,
    cut_at timestamptz NOT NULL,
    PRIMARY KEY (agency_id, position)
);
-- Defers what a victim is told of who looked, while it is inquired into.
CREATE TABLE audit_hold (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    person_id uuid NOT NULL REFERENCES person,
    user_id uuid REFERENCES app_user,         -- whose looks it defers; null: everybody's
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

-- History: partitioned by role, then by the day of the live time, made ahead by the historian
-- (ping_victim_20260101 …). Dropping a partition is how positions are forgotten.
CREATE TABLE ping (
    role smallint NOT NULL,                   -- core.domain.ping.Role
    live_at timestamptz NOT NULL,             -- min(at, received_at)
    device_number bigint NOT NULL,
    seq bigint NOT NULL,                      -- -1: none
    at timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    flags bigint NOT NULL,                    -- core.domain.ping; above 32 bits its place in the log (core.postgres.pings)
    lat double precision NOT NULL,            -- NaN: heartbeat
    lon double precision NOT NULL,
    accuracy_m real NOT NULL,                 -- NaN: not said, here and below
    speed_mps real NOT NULL,
    heading_deg real NOT NULL,
    altitude_m real NOT NULL,
    battery_pct real NOT NULL,
    PRIMARY KEY (role, device_number, live_at, seq)
) PARTITION BY LIST (role);
CREATE TABLE ping_other PARTITION OF ping FOR VALUES IN (0) PARTITION BY RANGE (live_at);
CREATE TABLE ping_victim PARTITION OF ping FOR VALUES IN (1) PARTITION BY RANGE (live_at);
CREATE TABLE ping_aggressor PARTITION OF ping FOR VALUES IN (2) PARTITION BY RANGE (live_at);

-- Rare parts of a ping, beside it.
CREATE TABLE ping_heard (
    device_number bigint NOT NULL,
    live_at timestamptz NOT NULL,
    heard jsonb NOT NULL
);
CREATE INDEX ping_heard_device ON ping_heard (device_number, live_at);

-- Evidence: what an incident can be shown by, and judged again by, when history is long gone --------------------

-- What a case was judged by, version by version, and where its shard's log said so.
CREATE TABLE case_config_version (
    case_id uuid NOT NULL,
    version integer NOT NULL,
    agency_id uuid NOT NULL,
    shard smallint NOT NULL,
    entry_ms bigint NOT NULL,
    entry_n integer NOT NULL,
    entry_index integer NOT NULL,
    config jsonb NOT NULL,                    -- core.domain.case.Case
    PRIMARY KEY (case_id, version)
);

-- What the log told a case of its past (a part of a PAST entry): kept as long as a victim's pings.
CREATE TABLE case_past (
    case_id uuid NOT NULL,
    agency_id uuid NOT NULL,
    entry_ms bigint NOT NULL,
    entry_n integer NOT NULL,
    entry_index integer NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (case_id, entry_ms, entry_n, entry_index)
);
CREATE INDEX case_past_age ON case_past (entry_ms);

-- When time was told to a shard: packed ticks of some seconds (core.postgres.case_log), kept as case_past is.
CREATE TABLE shard_tick (
    shard smallint NOT NULL,
    first_ms bigint NOT NULL,
    last_ms bigint NOT NULL,
    ticks bytea NOT NULL,
    PRIMARY KEY (shard, first_ms)
);

-- An incident's window: copied to incident_fix while history still has it, and judged again from a snapshot.
CREATE TABLE incident_snapshot (
    incident_id uuid PRIMARY KEY REFERENCES incident ON DELETE CASCADE,
    agency_id uuid NOT NULL,
    case_id uuid NOT NULL,
    window_from timestamptz NOT NULL,
    window_until timestamptz NOT NULL,
    resolved_at timestamptz,                  -- the incident's when this was made: one that was reopened is copied anew
    copied_at timestamptz NOT NULL,
    next_copy_at timestamptz,                 -- null: complete
    leased_until timestamptz,
    log bytea,                                -- the case's log of the window (geo.evidence_log), compressed
    replay jsonb                              -- the engine's snapshot at its start, and what replaying showed
);
CREATE INDEX incident_snapshot_due ON incident_snapshot (next_copy_at) WHERE next_copy_at IS NOT NULL;

-- The fixes of both parties of an incident's window, as in ping.
CREATE TABLE incident_fix (
    incident_id uuid NOT NULL REFERENCES incident ON DELETE CASCADE,
    agency_id uuid NOT NULL,
    party text NOT NULL CHECK (party IN ('victim', 'aggressor')),
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
    PRIMARY KEY (incident_id, device_number, live_at, seq)
);

-- An export that was asked for: who, why, how far it is, and for some days the sealed bundles.
CREATE TABLE evidence_export (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL,
    incident_id uuid NOT NULL REFERENCES incident ON DELETE CASCADE,
    reason text NOT NULL,
    asked_by uuid,                            -- null: the operator of the machine, by the command line
    asked_role text,
    asked_at timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'done', 'failed')),
    progress real NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0,
    leased_until timestamptz,
    finished_at timestamptz,
    kept_until timestamptz,
    failure text,
    root text,                                -- of the hash tree that all editions share
    bundles bytea                             -- the editions, sealed with her key (core.actions.evidence)
);
CREATE INDEX evidence_export_due ON evidence_export (asked_at) WHERE state IN ('queued', 'running');
CREATE INDEX evidence_export_incident ON evidence_export (incident_id, asked_at);
CREATE INDEX evidence_export_kept ON evidence_export (kept_until) WHERE bundles IS NOT NULL;

-- Authorisation: roles that row-level security binds, and what hides a case from a user -------------------------

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

-- A sealed case opened without being named: for a reason, for a while, announced, reviewed.
CREATE TABLE break_glass (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    user_id uuid NOT NULL REFERENCES app_user,
    asked_kind text NOT NULL CHECK (asked_kind IN ('person', 'case', 'incident')),
    asked_id uuid NOT NULL,
    case_ids uuid[] NOT NULL CHECK (case_ids <> '{}'),
    reason_code text NOT NULL,
    reason text,
    from_at timestamptz NOT NULL,
    until_at timestamptz NOT NULL CHECK (until_at > from_at),
    reviewed_by uuid REFERENCES app_user,
    reviewed_at timestamptz,
    verdict text CHECK (verdict IN ('justified', 'unjustified')),
    review_note text,
    reason_sealed bytea,
    review_note_sealed bytea,
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
SELECT secure_by_agency('feed_outgoing', 'INSERT', 'INSERT', 'INSERT');
SELECT secure_by_agency('feed', 'SELECT', 'SELECT, DELETE', 'SELECT');
SELECT secure_by('audit', 'agency_id = (SELECT current_agency())', 'SELECT, INSERT', 'INSERT', 'INSERT');
SELECT secure_by('ping', 'EXISTS (SELECT FROM device d WHERE d.number = device_number)', 'SELECT', 'SELECT', 'SELECT');
SELECT secure_by('ping_heard', 'EXISTS (SELECT FROM device d WHERE d.number = device_number)',
    'SELECT', 'SELECT', 'SELECT');
SELECT secure_by_agency('user_conflict', 'SELECT, INSERT, UPDATE, DELETE');
SELECT secure_by_agency('case_named_user', 'SELECT, INSERT, DELETE');
SELECT secure_by('break_glass', 'agency_id = (SELECT current_agency())', 'SELECT, INSERT, UPDATE');
-- Whoever receives a hand-over sees that it is there; what is in it is read for her under the giver's name.
SELECT secure_by_agency('order_version', 'SELECT, INSERT', 'SELECT, INSERT', 'SELECT');
SELECT secure_by_agency('task', 'SELECT, INSERT, UPDATE', 'SELECT, INSERT, UPDATE');
SELECT secure_by_agency('consent');
SELECT secure_by_agency('handover');
CREATE POLICY by_recipient ON handover FOR SELECT TO qorgan_api USING (to_agency_id = (SELECT current_agency()));
SELECT secure_by_agency('call_record');
SELECT secure_by_agency('court_outcome');

-- The machine room: nobody's, and no person in it.
GRANT SELECT ON installation TO qorgan_api, qorgan_device, qorgan_worker, qorgan_historian;
GRANT SELECT, INSERT ON creation TO qorgan_api;
GRANT SELECT ON SEQUENCE feed_id TO qorgan_api, qorgan_device, qorgan_worker;
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

-- A day's partition of `ping`, made by who does not own it.
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

REVOKE EXECUTE ON FUNCTION cases_of_person, hidden_cases, ids_around, hides_something, hidden_from, act_for, sealed_alarms,
    glass_cases, secure_by_agency, secure_by, make_ping_day FROM PUBLIC;
GRANT EXECUTE ON FUNCTION act_for, hides_something, hidden_from, sealed_alarms, glass_cases TO qorgan_api;
GRANT EXECUTE ON FUNCTION hidden_from TO qorgan_device;
GRANT EXECUTE ON FUNCTION make_ping_day TO qorgan_historian;

-- Evidence: the historian adds what the log said, the geo workers an incident's copy, the API what is asked for ---

SELECT secure_by_agency('case_config_version', 'SELECT', '', 'SELECT');
SELECT secure_by_agency('case_past', '', '', 'SELECT');
SELECT secure_by_agency('incident_snapshot', 'SELECT', '', 'SELECT, INSERT, UPDATE, DELETE');
SELECT secure_by_agency('incident_fix', 'SELECT', '', 'SELECT, INSERT, DELETE');
SELECT secure_by_agency('evidence_export', 'SELECT, INSERT, UPDATE', 'SELECT, UPDATE', 'SELECT');
GRANT INSERT ON case_config_version TO qorgan_historian;
GRANT SELECT, INSERT, DELETE ON case_past, shard_tick TO qorgan_historian;
GRANT SELECT (id, number, agency_id) ON protection_case TO qorgan_historian;
GRANT SELECT ON shard_tick TO qorgan_worker;
GRANT SELECT (incident_id, copied_at) ON incident_snapshot TO qorgan_device;
CREATE POLICY by_device ON incident_snapshot TO qorgan_device USING (true);
CREATE POLICY by_historian ON case_config_version TO qorgan_historian USING (true) WITH CHECK (true);
CREATE POLICY by_historian ON case_past TO qorgan_historian USING (true) WITH CHECK (true);
CREATE POLICY by_historian ON protection_case TO qorgan_historian USING (true) WITH CHECK (true);

-- Keys by which devices sign their pings ---------------------------------------------------------------------

ALTER TABLE device ADD COLUMN signature_kind text CHECK (signature_kind IN ('ed25519', 'hmac'));
ALTER TABLE device ADD COLUMN signature_public_key bytea CHECK (length(signature_public_key) = 32);
ALTER TABLE device ADD COLUMN signature_generation integer NOT NULL DEFAULT 0;
ALTER TABLE device ADD CONSTRAINT device_signature CHECK ((signature_kind = 'ed25519') = (signature_public_key IS NOT NULL));

-- The audit is only ever added to --------------------------------------------------------------------------

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
            AND hidden_from_her(i.id, a.at))
        ORDER BY a.id DESC LIMIT most
    $$;
REVOKE EXECUTE ON FUNCTION published_checkpoints, looks_at FROM PUBLIC;
GRANT EXECUTE ON FUNCTION published_checkpoints TO qorgan_api;
GRANT EXECUTE ON FUNCTION looks_at TO qorgan_api, qorgan_device;

-- Who signs in, and how ------------------------------------------------------------------------------------

-- One sign-in and all that was refreshed from it.
CREATE TABLE user_session (
    id uuid PRIMARY KEY,                      -- also the family of its refresh tokens
    agency_id uuid NOT NULL REFERENCES agency,
    user_id uuid NOT NULL REFERENCES app_user ON DELETE CASCADE,
    created_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    confirmed_at timestamptz NOT NULL,        -- when she last proved who she is: sensitive changes want it recent
    expires_at timestamptz NOT NULL,
    address text,
    user_agent text,                          -- browser and system, in two words
    method text NOT NULL CHECK (method IN ('password', 'passkey', 'provider', 'code')),
    second_factor text CHECK (second_factor IN ('totp', 'recovery', 'passkey', 'provider')),
    enrol_only boolean NOT NULL DEFAULT false,
    ended_at timestamptz,
    ended_because text
);
CREATE INDEX user_session_user ON user_session (user_id, created_at);
CREATE INDEX user_session_ended ON user_session (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE user_totp (
    user_id uuid PRIMARY KEY REFERENCES app_user ON DELETE CASCADE,
    agency_id uuid NOT NULL REFERENCES agency,
    secret_sealed bytea NOT NULL,
    created_at timestamptz NOT NULL,
    confirmed_at timestamptz,                 -- null: begun, not yet proved
    last_step bigint NOT NULL DEFAULT 0       -- a code's 30 s step is used once
);

CREATE TABLE user_recovery_code (
    digest bytea PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES app_user ON DELETE CASCADE,
    agency_id uuid NOT NULL REFERENCES agency,
    created_at timestamptz NOT NULL,
    used_at timestamptz
);
CREATE INDEX user_recovery_code_user ON user_recovery_code (user_id);

CREATE TABLE user_passkey (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    user_id uuid NOT NULL REFERENCES app_user ON DELETE CASCADE,
    credential_id bytea NOT NULL UNIQUE,
    public_key bytea NOT NULL,                -- COSE
    sign_count bigint NOT NULL,
    name text NOT NULL,
    transports text[] NOT NULL DEFAULT '{}',
    backed_up boolean NOT NULL DEFAULT false, -- kept by its maker's cloud, on several devices
    created_at timestamptz NOT NULL,
    last_used_at timestamptz
);
CREATE INDEX user_passkey_user ON user_passkey (user_id);

-- What is handed over once: a code to set a password, the end of a sign-in at an agency's provider.
CREATE TABLE sign_in_code (
    digest bytea PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    user_id uuid NOT NULL REFERENCES app_user ON DELETE CASCADE,
    purpose text NOT NULL CHECK (purpose IN ('set_password', 'provider')),
    detail jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at timestamptz
);
CREATE INDEX sign_in_code_user ON sign_in_code (user_id);

-- Signed challenges that have been answered: each is answered once.
CREATE TABLE spent_challenge (
    digest bytea PRIMARY KEY,
    expires_at timestamptz NOT NULL
);
CREATE INDEX spent_challenge_expires ON spent_challenge (expires_at);

CREATE TABLE sign_in_policy (
    agency_id uuid PRIMARY KEY REFERENCES agency,
    second_factor_roles text[] NOT NULL DEFAULT '{}',
    updated_at timestamptz NOT NULL
);

CREATE TABLE oidc_provider (
    agency_id uuid PRIMARY KEY REFERENCES agency,
    issuer text NOT NULL,
    client_id text NOT NULL,
    client_secret_sealed bytea,               -- null: in a file of the secrets' directory, or a public client
    label text NOT NULL,                      -- what the button says
    scopes text NOT NULL,
    role_claim text,
    role_map jsonb NOT NULL DEFAULT '{}',     -- value of the claim → role
    default_role text,
    email_domains text[] NOT NULL DEFAULT '{}',
    provision boolean NOT NULL DEFAULT false, -- whether a user nobody added is made at her first sign-in
    trusts_second_factor boolean NOT NULL DEFAULT false,
    enabled boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

-- Looked up before anybody is signed in, so by nobody's scope: each finds one user by what only she has or is.
CREATE FUNCTION sign_in_by_name(name text) RETURNS SETOF app_user
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS 'SELECT u.* FROM app_user u WHERE lower(u.username) = lower(name)';
CREATE FUNCTION sign_in_by_refresh_token(token_digest bytea) RETURNS SETOF app_user
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS 'SELECT u.* FROM refresh_token t JOIN app_user u ON u.id = t.user_id WHERE t.digest = token_digest';
CREATE FUNCTION sign_in_by_passkey(credential bytea) RETURNS SETOF app_user
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS 'SELECT u.* FROM user_passkey p JOIN app_user u ON u.id = p.user_id WHERE p.credential_id = credential';
CREATE FUNCTION sign_in_by_code(code_digest bytea) RETURNS SETOF app_user
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS 'SELECT u.* FROM sign_in_code c JOIN app_user u ON u.id = c.user_id WHERE c.digest = code_digest';
CREATE FUNCTION sign_in_providers() RETURNS TABLE (agency_id uuid, label text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS 'SELECT agency_id, label FROM oidc_provider WHERE enabled ORDER BY label, agency_id LIMIT 100';
CREATE FUNCTION sign_in_provider(agency uuid) RETURNS SETOF oidc_provider
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS 'SELECT p.* FROM oidc_provider p WHERE p.agency_id = agency AND p.enabled';
-- Which sessions ended lately: every process refuses their access tokens while those would still hold.
CREATE FUNCTION ended_sessions(since timestamptz) RETURNS TABLE (id uuid, ended_at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS 'SELECT s.id, s.ended_at FROM user_session s WHERE s.ended_at >= since';

SELECT secure_by_agency('refresh_token');
SELECT secure_by_agency('user_session');
SELECT secure_by_agency('user_totp', 'SELECT, INSERT, UPDATE, DELETE');
SELECT secure_by_agency('user_recovery_code', 'SELECT, INSERT, UPDATE, DELETE');
SELECT secure_by_agency('user_passkey', 'SELECT, INSERT, UPDATE, DELETE');
SELECT secure_by_agency('sign_in_code', 'SELECT, INSERT, UPDATE, DELETE');
SELECT secure_by_agency('sign_in_policy');
SELECT secure_by_agency('oidc_provider', 'SELECT, INSERT, UPDATE, DELETE');
GRANT SELECT, INSERT, DELETE ON spent_challenge TO qorgan_api;
REVOKE EXECUTE ON FUNCTION sign_in_by_name, sign_in_by_refresh_token, sign_in_by_passkey, sign_in_by_code,
    sign_in_providers, sign_in_provider, ended_sessions FROM PUBLIC;
GRANT EXECUTE ON FUNCTION sign_in_by_name, sign_in_by_refresh_token, sign_in_by_passkey, sign_in_by_code,
    sign_in_providers, sign_in_provider, ended_sessions TO qorgan_api;

SELECT secure_by_agency('person_key', 'SELECT, INSERT', 'SELECT, INSERT', 'SELECT, INSERT');
SELECT secure_by_agency('agency_key', 'SELECT, INSERT', 'SELECT, INSERT', 'SELECT, INSERT');
SELECT secure_by_agency('person_index', 'SELECT, INSERT, DELETE');
SELECT secure_by_agency('legal_hold', device => 'SELECT');
SELECT secure_by_agency('erasure_request', device => 'SELECT, INSERT, UPDATE');
GRANT UPDATE (push_token, push_token_sealed, updated_at) ON device TO qorgan_worker;

-- Whether something of a person is wanted in court, herself or a case she is in.
CREATE FUNCTION is_held(asked uuid) RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
        SELECT EXISTS (
            SELECT FROM legal_hold h LEFT JOIN incident i ON i.id = h.incident_id WHERE h.lifted_at IS NULL
            AND (h.person_id = asked OR h.case_id IN (SELECT cases_of_person(asked))
                OR i.victim_id = asked OR i.aggressor_id = asked))
    $$;

-- What is left of a person afterwards: ids, times, kinds, and figures that lead to nobody. Called twice it changes
-- nothing more. Rows of the audit stay: they hold ids alone, and are chained.
CREATE FUNCTION erase_person(asked uuid, moment timestamptz) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    DECLARE
        her_number bigint := (SELECT number FROM person WHERE id = asked);
        her_incidents uuid[] := ARRAY(SELECT id FROM incident WHERE victim_id = asked);
        his_incidents uuid[] := ARRAY(SELECT id FROM incident WHERE aggressor_id = asked);
        her_orders uuid[] := ARRAY(SELECT id FROM protection_order WHERE victim_id = asked);
    BEGIN
        IF her_number IS NULL THEN
            RETURN;
        END IF;
        INSERT INTO person_key (person_id, agency_id, created_at, erased_at)
            SELECT id, agency_id, moment, moment FROM person WHERE id = asked
            ON CONFLICT (person_id) DO UPDATE
            SET kek_id = NULL, wrapped = NULL, erased_at = coalesce(person_key.erased_at, excluded.erased_at);
        UPDATE person SET identity = NULL, safe_contact = NULL, safe_word = NULL, identity_sealed = NULL,
            safe_contact_sealed = NULL, safe_word_sealed = NULL, language = 'ru', needs = '{}', hazards = '{}',
            erased_at = coalesce(erased_at, moment), updated_at = moment
            WHERE id = asked;
        DELETE FROM person_index WHERE person_id = asked;
        DELETE FROM creation
            WHERE id = asked OR id IN (SELECT c.id FROM contact c WHERE c.person_id = asked) OR id = ANY (her_orders);
        DELETE FROM contact WHERE person_id = asked;

        -- Where she was goes with `erased_at` (erase_copies); what her devices heard goes here.
        DELETE FROM ping_heard p USING wearing w
            WHERE w.person_id = asked AND p.device_number = w.device_number
            AND p.live_at >= w.since AND p.live_at < w.until;
        DELETE FROM enrolment WHERE device_id IN (SELECT d.id FROM device d WHERE d.person_id = asked);
        UPDATE bearer_token SET revoked_at = coalesce(revoked_at, moment), changed_xid = pg_current_xact_id()
            WHERE device_id IN (SELECT d.id FROM device d WHERE d.person_id = asked);
        DELETE FROM silence WHERE person_id = asked OR device_id IN (SELECT d.id FROM device d WHERE d.person_id = asked);
        UPDATE device_prompt SET person_id = NULL WHERE person_id = asked;
        UPDATE device SET person_id = NULL, push_token = NULL, push_token_sealed = NULL, status = 'returned',
            returned_at = moment, last_seen_at = NULL, last_proved_at = NULL, routes = '{}', updated_at = moment,
            changed_xid = pg_current_xact_id()
            WHERE person_id = asked;

        -- What protected her ends; its zones were her places.
        DELETE FROM zone WHERE order_id = ANY (her_orders);
        UPDATE suspension SET reason = '' WHERE order_id = ANY (her_orders);
        UPDATE protection_order SET reference = NULL, exceptions = '[]', updated_at = moment, version = version + 1,
            revoked_at = CASE WHEN status IN ('revoked', 'expired') THEN revoked_at ELSE moment END,
            status = CASE WHEN status IN ('revoked', 'expired') THEN status ELSE 'revoked' END
            WHERE id = ANY (her_orders);
        UPDATE order_version SET body = body || '{"reference": null, "exceptions": []}' WHERE order_id = ANY (her_orders);
        UPDATE protection_order SET protected_person_ids = array_remove(protected_person_ids, asked), updated_at = moment
            WHERE protected_person_ids @> ARRAY[asked] AND protected_person_ids <> '{}';
        UPDATE case_config_version v SET config = jsonb_set(v.config, '{orders}', coalesce((
                SELECT jsonb_agg(o) FROM jsonb_array_elements(v.config -> 'orders') o
                WHERE (o ->> 'victim')::bigint <> her_number), '[]'))
            WHERE v.case_id IN (SELECT cases_of_person(asked));
        DELETE FROM case_past p WHERE p.case_id IN (SELECT cases_of_person(asked))
            AND NOT EXISTS (SELECT FROM protection_order o WHERE o.case_id = p.case_id AND o.victim_id <> asked);

        -- What happened to her stays as a figure: what, when, how it ended; not where, and in nobody's words.
        UPDATE incident SET place = NULL, hazards = '{}', language = NULL,
            detail = detail - ARRAY['aggressor_place', 'district', 'order_reference']
            WHERE id = ANY (her_incidents);
        UPDATE incident SET hazards = '{}', detail = detail - ARRAY['aggressor_place', 'district']
            WHERE id = ANY (his_incidents);
        UPDATE timeline SET private_sealed = NULL,
            data = data - ARRAY['note', 'differs', 'lat', 'lon', 'accuracy_m', 'place', 'aggressor_place', 'district']
            WHERE incident_id = ANY (her_incidents);
        UPDATE panic SET client_id = NULL, note = NULL, body = NULL, note_sealed = NULL, body_sealed = NULL, lat = NULL,
            lon = NULL, accuracy_m = NULL
            WHERE person_id = asked;
        UPDATE transition SET body = body - ARRAY['victim_position', 'aggressor_position']
            WHERE order_id = ANY (her_orders) OR incident_id = ANY (her_incidents);
        UPDATE transition SET body = body - 'aggressor_position' WHERE incident_id = ANY (his_incidents);
        DELETE FROM incident_fix WHERE incident_id = ANY (her_incidents)
            OR incident_id = ANY (his_incidents) AND party = 'aggressor';
        UPDATE incident_snapshot SET log = NULL, replay = NULL, next_copy_at = NULL
            WHERE incident_id = ANY (her_incidents) OR incident_id = ANY (his_incidents);
        DELETE FROM evidence_export WHERE incident_id = ANY (her_incidents) OR incident_id = ANY (his_incidents);
        UPDATE delivery SET address = NULL, secret = NULL, target_sealed = NULL, address_digest = NULL,
            state = CASE WHEN state IN ('queued', 'sending') THEN 'cancelled' ELSE state END, updated_at = moment
            WHERE audience IN ('victim', 'contact')
            AND (incident_id = ANY (her_incidents) OR recipient = 'person:' || asked);
        UPDATE feed SET data = data || '{"place": null, "hazards": {}, "detail": {}}'
            WHERE kind LIKE 'incident.%' AND data ->> 'victim_id' = asked::text;
    END
    $$;

-- What keeps a person from being erased just now, the weightiest first; null: nothing.
CREATE FUNCTION erasure_obstacle(asked uuid) RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
        SELECT CASE
            WHEN is_held(asked) THEN 'legal_hold'
            WHEN EXISTS (SELECT FROM protection_order
                WHERE aggressor_id = asked AND status NOT IN ('revoked', 'expired')) THEN 'order'
            WHEN EXISTS (SELECT FROM incident WHERE victim_id = asked AND state <> 'resolved')
                OR EXISTS (SELECT FROM incident WHERE aggressor_id = asked AND state <> 'resolved') THEN 'incident'
            END
    $$;

-- Carries a request out if it may be: confirmed, due, not withdrawn, nothing in its way. The person, or null. Her row
-- is locked first: who holds her, or opens an incident of hers, at the same moment comes wholly before or after.
CREATE FUNCTION carry_out_erasure(request uuid, moment timestamptz) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    DECLARE
        found erasure_request;
        obstacle text;
    BEGIN
        SELECT * INTO found FROM erasure_request WHERE id = request FOR UPDATE;
        IF found.id IS NULL OR num_nonnulls(found.withdrawn_at, found.lapsed_at, found.erased_at) > 0
            OR found.confirmed_at IS NULL OR found.due_at > moment THEN
            RETURN NULL;
        END IF;
        PERFORM FROM person WHERE id = found.person_id FOR UPDATE;
        obstacle := erasure_obstacle(found.person_id);
        IF obstacle IS NOT NULL THEN
            UPDATE erasure_request SET held_at = coalesce(held_at, moment), held_for = obstacle WHERE id = request;
            RETURN NULL;
        END IF;
        PERFORM erase_person(found.person_id, moment);
        UPDATE erasure_request SET erased_at = moment WHERE id = request;
        RETURN found.person_id;
    END
    $$;

-- A hold and an erasure of one it covers wait for each other.
CREATE FUNCTION lock_held() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    BEGIN
        PERFORM FROM person WHERE id IN (
            SELECT NEW.person_id
            UNION SELECT p FROM protection_order o, unnest(ARRAY[o.victim_id, o.aggressor_id] || o.protected_person_ids) p
                WHERE o.case_id = NEW.case_id
            UNION SELECT p FROM incident i, unnest(ARRAY[i.victim_id, i.aggressor_id]) p WHERE i.id = NEW.incident_id)
            ORDER BY id FOR KEY SHARE;
        RETURN NEW;
    END
    $$;
CREATE TRIGGER waits_for_erasure BEFORE INSERT ON legal_hold FOR EACH ROW EXECUTE FUNCTION lock_held();

-- Who of these was erased at a moment (the latest that is known) and is there all the same. A hold placed, an incident
-- opened, a request withdrawn since show that it never came to that: such a one waits, as who asks to be erased does.
CREATE FUNCTION unapplied_erasures(people uuid[], moments timestamptz[]) RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
        SELECT p.id FROM (SELECT id, max(at) AS at FROM unnest(people, moments) AS line (id, at) GROUP BY id) e
        JOIN person p ON p.id = e.id
        WHERE p.erased_at IS NULL
        AND NOT EXISTS (SELECT FROM legal_hold h LEFT JOIN incident i ON i.id = h.incident_id
            WHERE h.lifted_at IS NULL AND h.placed_at > e.at
            AND (h.person_id = p.id OR h.case_id IN (SELECT cases_of_person(p.id))
                OR i.victim_id = p.id OR i.aggressor_id = p.id))
        AND NOT EXISTS (SELECT FROM incident i
            WHERE p.id IN (i.victim_id, i.aggressor_id) AND i.state <> 'resolved' AND i.opened_at > e.at)
        AND NOT EXISTS (SELECT FROM protection_order o
            WHERE o.aggressor_id = p.id AND o.status NOT IN ('revoked', 'expired') AND o.created_at > e.at)
        AND NOT EXISTS (SELECT FROM erasure_request r WHERE r.person_id = p.id AND r.withdrawn_at > e.at)
        ORDER BY p.id
    $$;

REVOKE EXECUTE ON FUNCTION is_held, erasure_obstacle, erase_person, carry_out_erasure, lock_held, unapplied_erasures
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION is_held TO qorgan_api, qorgan_device;
GRANT EXECUTE ON FUNCTION carry_out_erasure TO qorgan_device;
GRANT EXECUTE ON FUNCTION unapplied_erasures TO qorgan_device, qorgan_worker;

-- A user who looks at where a person is though no incident unlocks it: for a reason, for minutes, announced, reviewed.
CREATE TABLE person_look (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    user_id uuid NOT NULL REFERENCES app_user,
    person_id uuid NOT NULL REFERENCES person,
    reason_code text NOT NULL,
    reason text,
    from_at timestamptz NOT NULL,
    until_at timestamptz NOT NULL CHECK (until_at > from_at),
    reviewed_by uuid REFERENCES app_user,
    reviewed_at timestamptz,
    verdict text CHECK (verdict IN ('justified', 'unjustified')),
    review_note text,
    reason_sealed bytea,
    review_note_sealed bytea,
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
    left_at timestamptz,                      -- he turned back before it was released: nothing is said
    settled_at timestamptz,
    outcome text CHECK (outcome IN ('sent', 'recent', 'away', 'over', 'unreachable'))
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

-- Who sees that an edge is being tested puts it on the caseworkers' list.
SELECT secure_by_agency('task', 'SELECT, INSERT, UPDATE', 'SELECT, INSERT, UPDATE', 'SELECT, INSERT, UPDATE');

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

-- Every id of whom the current user is related to. Unlike what is sealed, nobody reviews or audits that of her own kin.
CREATE FUNCTION related_ids() RETURNS uuid[] LANGUAGE sql STABLE
    AS $$
        SELECT CASE current_setting('qorgan.hides', true)
            WHEN 'false' THEN '{}'::uuid[]
            WHEN 'true' THEN (SELECT h.related FROM hidden_from(current_app_user(), current_agency()) AS h)
            END
    $$;

SELECT secure_by(
    'break_glass',
    'agency_id = (SELECT current_agency()) AND NOT (array_append(case_ids, asked_id) && (SELECT related_ids()))',
    'SELECT, INSERT, UPDATE');
CREATE POLICY not_of_kin ON audit AS RESTRICTIVE FOR SELECT TO qorgan_api
    USING (NOT (array_append(person_ids, subject_id) && (SELECT related_ids())));

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

-- A device that holds its wearer's fixes has to know for how long.
SELECT secure_by_agency('retention_policy', device => 'SELECT');

-- A test of the whole pipe: of a device, of a contact, or the server's own with nobody in it.
CREATE TABLE drill (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    kind text NOT NULL CHECK (kind IN ('device', 'contact', 'server')),
    person_id uuid REFERENCES person,
    device_id uuid REFERENCES device,
    contact_id uuid REFERENCES contact ON DELETE CASCADE,
    started_at timestamptz NOT NULL,          -- pressed, or queued
    journal_s real,                           -- how long the disk took
    answers_by timestamptz NOT NULL,
    sent_at timestamptz,
    proved_at timestamptz,
    failed_at timestamptz,
    failure text CHECK (failure IN ('not_sent', 'not_answered', 'not_on_feed', 'no_journal')),
    CHECK ((kind = 'device') = (device_id IS NOT NULL)),
    CHECK ((kind = 'contact') = (contact_id IS NOT NULL)),
    CHECK ((failed_at IS NULL) = (failure IS NULL))
);
CREATE INDEX drill_waiting ON drill (answers_by) WHERE proved_at IS NULL AND failed_at IS NULL;
CREATE INDEX drill_device ON drill (device_id, started_at);
CREATE INDEX drill_contact ON drill (contact_id, started_at);
CREATE INDEX drill_agency ON drill (agency_id, started_at);
CREATE INDEX delivery_cause ON delivery (cause) WHERE template IN ('drill_device', 'drill_contact');

-- The service was without a part of itself: every agency is told, and says that it has heard.
CREATE TABLE service_outage (
    id uuid PRIMARY KEY,
    what text NOT NULL CHECK (what IN ('positions', 'detection', 'database')),
    started_at timestamptz NOT NULL,
    told_at timestamptz NOT NULL,
    ended_at timestamptz
);
CREATE UNIQUE INDEX service_outage_open ON service_outage (what) WHERE ended_at IS NULL;

CREATE TABLE outage_acknowledgement (
    outage_id uuid NOT NULL,                  -- of a service_outage, or of an incident of the type
    agency_id uuid NOT NULL REFERENCES agency,
    user_id uuid NOT NULL REFERENCES app_user,
    at timestamptz NOT NULL,
    PRIMARY KEY (outage_id, agency_id)
);

-- Who was told, discreetly, that she is not seen for now: once an outage.
CREATE TABLE outage_word (
    outage_id uuid NOT NULL,
    person_id uuid NOT NULL REFERENCES person,
    agency_id uuid NOT NULL REFERENCES agency,
    at timestamptz NOT NULL,
    messages integer NOT NULL,                -- 0: nothing could carry it now
    over_at timestamptz,                      -- when she was told that it is over
    PRIMARY KEY (outage_id, person_id)
);

-- The agency of the server's own drills, the last that anything else would ever fall to; null while there is no other.
CREATE FUNCTION self_drill_agency(self uuid, self_name text, moment timestamptz) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    BEGIN
        IF NOT EXISTS (SELECT FROM agency WHERE id <> self) THEN
            RETURN NULL;
        END IF;
        INSERT INTO agency (id, name, kind, created_at) VALUES (self, self_name, 'other', '9999-01-01')
            ON CONFLICT DO NOTHING;
        INSERT INTO retention_policy (agency_id, periods, updated_at)
            VALUES (self, '{"delivery_text_days": 1, "delivery_days": 30, "device_notice_days": 7}', moment)
            ON CONFLICT DO NOTHING;
        RETURN self;
    END
    $$;

-- Since when the oldest row of the audit waits for its link; null: none does.
CREATE FUNCTION oldest_unsealed() RETURNS timestamptz
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
        SELECT min(a.at) FROM audit a, audit_seal s WHERE a.xid >= s.floor_xid
        AND NOT EXISTS (SELECT FROM audit_link l WHERE l.audit_id = a.id)
    $$;

-- Which agencies have acknowledged an outage, and when; by whom is each agency's own.
CREATE FUNCTION outage_heard(outages uuid[]) RETURNS TABLE (outage_id uuid, agency text, at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
        SELECT k.outage_id, g.name, k.at FROM outage_acknowledgement k JOIN agency g ON g.id = k.agency_id
        WHERE k.outage_id = ANY (outages) ORDER BY k.at
    $$;
REVOKE EXECUTE ON FUNCTION self_drill_agency, oldest_unsealed, outage_heard FROM PUBLIC;
GRANT EXECUTE ON FUNCTION self_drill_agency, oldest_unsealed TO qorgan_device;
GRANT EXECUTE ON FUNCTION outage_heard TO qorgan_api;

SELECT secure_by_agency('drill', 'SELECT, INSERT', 'SELECT, INSERT, UPDATE');
SELECT secure_by_agency('outage_acknowledgement', 'SELECT, INSERT');
SELECT secure_by_agency('outage_word', 'SELECT', 'SELECT, INSERT, UPDATE');
GRANT SELECT ON service_outage TO qorgan_api;
GRANT SELECT, INSERT, UPDATE ON service_outage TO qorgan_device;
GRANT SELECT, DELETE ON drill, outage_word TO qorgan_retention;
CREATE POLICY by_retention ON drill TO qorgan_retention USING (true) WITH CHECK (true);
CREATE POLICY by_retention ON outage_word TO qorgan_retention USING (true) WITH CHECK (true);

-- Each receipt of a delivery once: when, and of a failure why, in words of ours.
CREATE TABLE delivery_receipt (
    delivery_id uuid NOT NULL REFERENCES delivery ON DELETE CASCADE,
    state text NOT NULL CHECK (state IN ('delivered', 'seen', 'acknowledged', 'failed')),
    agency_id uuid NOT NULL REFERENCES agency,
    at timestamptz NOT NULL,
    noted_at timestamptz NOT NULL,
    detail text,
    PRIMARY KEY (delivery_id, state)
);

-- A browser in which a user is told by Web Push; where it is and its keys are sealed.
CREATE TABLE push_subscription (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    user_id uuid NOT NULL REFERENCES app_user ON DELETE CASCADE,
    endpoint_digest bytea NOT NULL UNIQUE,
    target_sealed bytea NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX push_subscription_user ON push_subscription (user_id);

SELECT secure_by(
    'delivery_receipt',
    'agency_id = (SELECT current_agency()) AND EXISTS (SELECT FROM delivery d WHERE d.id = delivery_id)',
    'SELECT, INSERT', 'SELECT, INSERT', 'SELECT, INSERT');
SELECT secure_by_agency('push_subscription', 'SELECT, INSERT, DELETE', 'SELECT', 'SELECT, DELETE');

-- What an agency does while nobody acts on an incident; what it does not say stands in core.domain.escalation.
CREATE TABLE escalation_policy (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    type text NOT NULL DEFAULT 'any',         -- of incidents; any: of those that have none of their own
    severity text NOT NULL CHECK (severity IN ('low', 'medium', 'high', 'critical')),
    body jsonb NOT NULL,                      -- core.domain.escalation.Policy
    plan jsonb NOT NULL,                      -- what runs from an opening on: [[step, turn, seconds], …]
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    updated_by uuid REFERENCES app_user,
    UNIQUE (agency_id, severity, type)
);

-- When something has to have been done about an incident. Only who holds the incident's row changes them.
CREATE TABLE escalation_deadline (
    incident_id uuid NOT NULL REFERENCES incident ON DELETE CASCADE,
    round integer NOT NULL,                   -- the incident's version when the clock was started; 0: a unit's
    kind text NOT NULL CHECK (kind IN ('unacknowledged', 'undispatched', 'unaccepted', 'late')),
    unit_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    step smallint NOT NULL,
    turn smallint NOT NULL DEFAULT 0,         -- how often the step was repeated
    due_at timestamptz NOT NULL,
    agency_id uuid NOT NULL,
    settled_at timestamptz,
    outcome text CHECK (outcome IN ('told', 'nobody', 'together', 'stopped')),
    PRIMARY KEY (incident_id, round, kind, unit_id, step, turn, due_at),
    CHECK ((settled_at IS NULL) = (outcome IS NULL))
);
CREATE INDEX escalation_deadline_due ON escalation_deadline (due_at) WHERE settled_at IS NULL;

-- Who is on call: a rota in wall-clock time, and who stands in for whom.
CREATE TABLE on_call_rota (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    duty text NOT NULL CHECK (duty IN ('duty_officer', 'supervisor')),
    body jsonb NOT NULL,                      -- core.domain.on_call.Rota
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    updated_by uuid REFERENCES app_user,
    UNIQUE (agency_id, duty)
);
CREATE TABLE on_call_override (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    duty text NOT NULL CHECK (duty IN ('duty_officer', 'supervisor')),
    user_id uuid NOT NULL REFERENCES app_user,
    instead_of uuid REFERENCES app_user,      -- null: instead of whoever is on call then
    from_at timestamptz NOT NULL,
    until_at timestamptz NOT NULL CHECK (until_at > from_at),
    created_by uuid REFERENCES app_user,
    created_at timestamptz NOT NULL
);
CREATE INDEX on_call_override_agency ON on_call_override (agency_id, until_at);

-- How a user is told when her screen is not enough.
CREATE TABLE user_channel (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    user_id uuid NOT NULL REFERENCES app_user ON DELETE CASCADE,
    channel text NOT NULL,
    address_sealed bytea NOT NULL,
    language text NOT NULL DEFAULT 'ru',
    enabled boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    UNIQUE (user_id, channel)
);
CREATE INDEX user_channel_agency ON user_channel (agency_id);

-- Another agency that has to know of an incident: it is in its jurisdiction, or its neighbour's help was asked.
CREATE TABLE incident_share (
    incident_id uuid NOT NULL REFERENCES incident ON DELETE CASCADE,
    agency_id uuid NOT NULL REFERENCES agency, -- who is told
    owner_agency_id uuid NOT NULL REFERENCES agency,
    reason text NOT NULL CHECK (reason IN ('jurisdiction', 'neighbour')),
    since timestamptz NOT NULL,
    acknowledged_at timestamptz,
    acknowledged_by uuid REFERENCES app_user,
    PRIMARY KEY (incident_id, agency_id)
);
CREATE INDEX incident_share_agency ON incident_share (agency_id, since);

-- What a device is told with its next acknowledgement.
CREATE TABLE device_command (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    device_id uuid NOT NULL REFERENCES device,
    kind text NOT NULL,
    body jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    taken_at timestamptz                      -- when it went out with an acknowledgement
);
CREATE INDEX device_command_waiting ON device_command (expires_at) WHERE taken_at IS NULL;

CREATE INDEX aggressor_warning_due ON aggressor_warning (release_at) WHERE settled_at IS NULL AND left_at IS NULL;
CREATE INDEX aggressor_warning_sent ON aggressor_warning (aggressor_id, settled_at) WHERE outcome = 'sent';

-- How often an agency's jurisdiction changed: what the index of all of them is kept by.
CREATE FUNCTION note_jurisdiction() RETURNS trigger LANGUAGE plpgsql
    AS $$
    BEGIN
        NEW.jurisdiction_version := OLD.jurisdiction_version + 1;
        RETURN NEW;
    END
    $$;
CREATE TRIGGER jurisdiction_changed BEFORE UPDATE OF jurisdiction, kind ON agency
    FOR EACH ROW EXECUTE FUNCTION note_jurisdiction();

-- Who of an agency may be told of an incident: everybody there but who is related to somebody in it.
CREATE FUNCTION staff_to_tell(agency uuid, people uuid[], of_case uuid)
    RETURNS TABLE (user_id uuid, role text, language text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
        SELECT u.id, u.role, u.language FROM app_user u
        WHERE u.agency_id = agency AND u.disabled_at IS NULL
            AND coalesce(current_setting('qorgan.agency_id', true), '') IN ('', agency::text)
            AND NOT EXISTS (
                SELECT FROM user_conflict k WHERE k.user_id = u.id
                AND (k.person_id = ANY (people) OR of_case IN (SELECT cases_of_person(k.person_id))))
        ORDER BY u.id
    $$;

-- What an agency is told of others' incidents that are its concern and not over: what it needs to send help, and where
-- she is only while a panic, a breach or an approach of hers is open.
CREATE FUNCTION shared_incidents(asked uuid DEFAULT NULL)
    RETURNS TABLE (
        id uuid, agency_id uuid, agency_name text, reason text, since timestamptz, acknowledged_at timestamptz,
        type text, severity text, state text, opened_at timestamptz, exercise boolean, place jsonb,
        do_not_call boolean, hazards jsonb, language text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
        SELECT i.id, i.agency_id, a.name, s.reason, s.since, s.acknowledged_at, i.type, i.severity, i.state,
            i.opened_at, i.exercise,
            CASE WHEN i.type IN ('panic', 'proximity', 'approach') AND NOT i.retrospective THEN i.place END,
            i.do_not_call, i.hazards, i.language
        FROM incident_share s JOIN incident i ON i.id = s.incident_id JOIN agency a ON a.id = i.agency_id
        WHERE s.agency_id = current_agency() AND i.state <> 'resolved' AND (asked IS NULL OR i.id = asked)
        ORDER BY i.opened_at DESC, i.id LIMIT 500
    $$;

SELECT secure_by_agency('escalation_policy', 'SELECT, INSERT, UPDATE, DELETE', 'SELECT', 'SELECT');
SELECT secure_by_agency('escalation_deadline', 'SELECT, INSERT, UPDATE', 'SELECT, INSERT, UPDATE', 'SELECT, INSERT, UPDATE');
SELECT secure_by_agency('on_call_rota', 'SELECT, INSERT, UPDATE, DELETE', 'SELECT', 'SELECT');
SELECT secure_by_agency('on_call_override', 'SELECT, INSERT, DELETE', 'SELECT', 'SELECT');
SELECT secure_by_agency('user_channel', 'SELECT, INSERT, UPDATE, DELETE', 'SELECT', 'SELECT');
SELECT secure_by(
    'incident_share',
    'agency_id = (SELECT current_agency()) OR owner_agency_id = (SELECT current_agency())'
    ' AND EXISTS (SELECT FROM incident i WHERE i.id = incident_id)',
    'SELECT, INSERT', 'SELECT, INSERT, UPDATE', 'SELECT, INSERT, UPDATE');
CREATE POLICY by_owner ON incident_share AS RESTRICTIVE FOR INSERT TO qorgan_api
    WITH CHECK (owner_agency_id = (SELECT current_agency()) AND EXISTS (SELECT FROM incident i WHERE i.id = incident_id));
SELECT secure_by_agency('device_command', 'SELECT', 'SELECT, UPDATE', 'SELECT, INSERT, DELETE');
SELECT secure_by_agency('unit', device => 'SELECT', worker => 'SELECT, UPDATE');
REVOKE EXECUTE ON FUNCTION note_jurisdiction, staff_to_tell, shared_incidents FROM PUBLIC;
GRANT EXECUTE ON FUNCTION staff_to_tell TO qorgan_api, qorgan_device, qorgan_worker;
GRANT EXECUTE ON FUNCTION shared_incidents TO qorgan_api;

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
    id uuid PRIMARY KEY,                      -- the client's own; the panic it gives is known by it
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
SELECT secure_by_agency('panic_timer', 'SELECT', 'SELECT, INSERT, UPDATE, DELETE');

-- How somebody is asked to be a trusted contact: a random token's digest, until when, and the name it gives.
CREATE TABLE contact_invitation (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    person_id uuid NOT NULL REFERENCES person,
    contact_id uuid NOT NULL REFERENCES contact ON DELETE CASCADE,
    digest bytea NOT NULL UNIQUE CHECK (length(digest) = 32),
    made_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL CHECK (expires_at > made_at),
    made_by text NOT NULL CHECK (made_by IN ('user', 'device')),
    inviter_sealed bytea,                     -- the name by which he knows her, if she wants it given
    opened_at timestamptz,                    -- first
    verified_at timestamptz,                  -- first address confirmed
    consented_at timestamptz,
    refused_at timestamptz,
    ended_at timestamptz,                     -- taken back, or asked anew
    CHECK (consented_at IS NULL OR verified_at IS NOT NULL)
);
CREATE INDEX contact_invitation_contact ON contact_invitation (contact_id, made_at);
CREATE INDEX contact_invitation_person ON contact_invitation (person_id);

-- The code that shows that an address is his: a digest that its token goes into.
CREATE TABLE contact_code (
    invitation_id uuid NOT NULL REFERENCES contact_invitation ON DELETE CASCADE,
    way smallint NOT NULL CHECK (way >= 0),   -- place among the contact's channels
    agency_id uuid NOT NULL REFERENCES agency,
    person_id uuid NOT NULL REFERENCES person,
    digest bytea NOT NULL CHECK (length(digest) = 32),
    sent_at timestamptz NOT NULL,             -- last
    sent integer NOT NULL,
    tries integer NOT NULL,                   -- of the last
    verified_at timestamptz,
    PRIMARY KEY (invitation_id, way)
);

SELECT secure_by_agency('contact', device => 'SELECT, INSERT, UPDATE', worker => 'SELECT');
SELECT secure_by_agency('contact_invitation', 'SELECT, INSERT, UPDATE', 'SELECT, INSERT, UPDATE');
SELECT secure_by_agency('contact_code', 'SELECT', 'SELECT, INSERT, UPDATE');
GRANT SELECT (id, agency_id, consented_at), DELETE ON contact TO qorgan_retention;
GRANT SELECT ON contact_invitation TO qorgan_retention;
CREATE POLICY by_retention ON contact TO qorgan_retention USING (true) WITH CHECK (true);
CREATE POLICY by_retention ON contact_invitation TO qorgan_retention USING (true) WITH CHECK (true);

SELECT secure_by_agency('person_index', 'SELECT, INSERT, DELETE', 'SELECT');

-- Whom nobody has to ask about before telling them of a panic in an outage: users who are related to nobody.
CREATE FUNCTION users_in_conflict(agencies uuid[]) RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$ SELECT DISTINCT user_id FROM user_conflict WHERE agency_id = ANY (agencies) $$;
REVOKE EXECUTE ON FUNCTION users_in_conflict FROM PUBLIC;
GRANT EXECUTE ON FUNCTION users_in_conflict TO qorgan_device;

-- What is still to go to a contact goes with him, whoever deletes him: an erasure, or the end of what was kept of him.
CREATE FUNCTION silence_contact() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    BEGIN
        UPDATE delivery SET state = 'cancelled', leased_until = NULL, leased_by = NULL, address = NULL, secret = NULL,
            target_sealed = NULL, address_digest = NULL, updated_at = now()
            WHERE recipient = 'contact:' || OLD.id AND state IN ('queued', 'sending');
        RETURN NULL;
    END
    $$;
CREATE TRIGGER contact_silenced AFTER DELETE ON contact FOR EACH ROW EXECUTE FUNCTION silence_contact();
REVOKE EXECUTE ON FUNCTION silence_contact FROM PUBLIC;

-- Takes back what steps of these kinds queued to agencies an incident is not of: its own cannot see their messages.
CREATE FUNCTION take_back_elsewhere(told_of uuid, kinds text[], moment timestamptz) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
        UPDATE delivery SET state = 'cancelled', updated_at = moment
            WHERE incident_id IS NULL AND state = 'queued' AND data ->> 'incident_id' = told_of::text
            AND data ->> 'event' = 'incident.escalated' AND data ->> 'why' = ANY (kinds)
    $$;
REVOKE EXECUTE ON FUNCTION take_back_elsewhere FROM PUBLIC;
GRANT EXECUTE ON FUNCTION take_back_elsewhere TO qorgan_api, qorgan_device, qorgan_worker;

-- Tells another agency of an incident that concerns it, in its feed, as core.postgres.feed does: whoever acts in one
-- agency's name writes into no other's feed but this.
CREATE FUNCTION tell_other_agency(other uuid, moment timestamptz, bodies jsonb[]) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
        INSERT INTO feed_outgoing (agency_id, at, kinds, bodies)
            VALUES (other, moment, array_fill('shared.incident'::text, ARRAY[cardinality(bodies)]), bodies)
    $$;
REVOKE EXECUTE ON FUNCTION tell_other_agency FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tell_other_agency TO qorgan_api, qorgan_device, qorgan_worker;

-- The agency that answers a panic of which nobody knows whose it is: as the operator says, else the police agency that
-- was there first, else the first of all.
CREATE FUNCTION default_agency() RETURNS uuid
    LANGUAGE sql STABLE
    AS $$
        SELECT coalesce(
            (SELECT default_agency_id FROM installation),
            (SELECT id FROM agency ORDER BY kind <> 'police', created_at, id LIMIT 1))
    $$;
