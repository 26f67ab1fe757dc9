-- What the fold must remember: separations as they stand, who is silent, prompts, maintenance.
-- depends: 0002_order_policy

-- migrate: apply

ALTER TABLE incident ADD COLUMN inside_since timestamptz;
UPDATE incident SET inside_since = occurred_at WHERE inside AND state <> 'resolved';
CREATE INDEX incident_episode ON incident (episode_id);
CREATE INDEX incident_outage ON incident (agency_id) WHERE family = 'outage' AND state <> 'resolved';
CREATE INDEX incident_inside ON incident (inside_since) WHERE inside AND state <> 'resolved';
CREATE INDEX transition_incident ON transition (incident_id) WHERE incident_id IS NOT NULL;
CREATE INDEX incident_false ON incident (resolved_at) WHERE outcome IN ('false_alarm', 'technical');

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

INSERT INTO separation (order_id, kind, zone_id, agency_id, case_id, state, since, evaluated_at, distance_m,
                        closing_mps, transition_id)
SELECT DISTINCT ON (order_id, kind, zone) order_id, kind, zone, agency_id, case_id, to_state, at, evaluated_at,
    (body->>'distance_m')::double precision, (body->>'closing_mps')::double precision, id
FROM (SELECT *, coalesce(body->>'zone_id', '00000000-0000-0000-0000-000000000000')::uuid AS zone FROM transition) t
WHERE order_id IS NOT NULL AND kind IN ('proximity', 'zone', 'approach', 'assurance')
    AND coalesce(body->>'retrospective', 'false') <> 'true'
ORDER BY order_id, kind, zone, evaluated_at DESC, at DESC;

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

-- migrate: rollback

DROP TABLE maintenance_task, device_prompt, silence, separation;
DROP INDEX incident_false, incident_episode, incident_outage, incident_inside, transition_incident;
ALTER TABLE incident DROP COLUMN inside_since;
