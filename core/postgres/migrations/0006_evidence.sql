-- What evidence is made of: configuration as it was judged by, ticks, and an incident's own copy of its fixes.
-- depends: 0005_orders

-- migrate: apply

CREATE TABLE case_config_version (
    case_id uuid NOT NULL,
    version integer NOT NULL,
    agency_id uuid NOT NULL,
    shard smallint NOT NULL,
    entry_ms bigint NOT NULL,
    entry_n integer NOT NULL,
    entry_index integer NOT NULL,
    config jsonb NOT NULL,
    PRIMARY KEY (case_id, version)
);

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

CREATE TABLE shard_tick (
    shard smallint NOT NULL,
    first_ms bigint NOT NULL,
    last_ms bigint NOT NULL,
    ticks bytea NOT NULL,
    PRIMARY KEY (shard, first_ms)
);

CREATE TABLE incident_snapshot (
    incident_id uuid PRIMARY KEY REFERENCES incident ON DELETE CASCADE,
    agency_id uuid NOT NULL,
    case_id uuid NOT NULL,
    window_from timestamptz NOT NULL,
    window_until timestamptz NOT NULL,
    resolved_at timestamptz,
    copied_at timestamptz NOT NULL,
    next_copy_at timestamptz,
    leased_until timestamptz,
    log bytea,
    replay jsonb
);
CREATE INDEX incident_snapshot_due ON incident_snapshot (next_copy_at) WHERE next_copy_at IS NOT NULL;

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

CREATE TABLE evidence_export (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL,
    incident_id uuid NOT NULL REFERENCES incident ON DELETE CASCADE,
    reason text NOT NULL,
    asked_by uuid,
    asked_role text,
    asked_at timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'done', 'failed')),
    progress real NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0,
    leased_until timestamptz,
    finished_at timestamptz,
    kept_until timestamptz,
    failure text,
    root text,
    bundles bytea
);
CREATE INDEX evidence_export_due ON evidence_export (asked_at) WHERE state IN ('queued', 'running');
CREATE INDEX evidence_export_incident ON evidence_export (incident_id, asked_at);
CREATE INDEX evidence_export_kept ON evidence_export (kept_until) WHERE bundles IS NOT NULL;

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

-- migrate: rollback

DROP POLICY by_historian ON protection_case;
REVOKE SELECT (id, number, agency_id) ON protection_case FROM qorgan_historian;
DROP TABLE evidence_export, incident_fix, incident_snapshot, shard_tick, case_past, case_config_version;
