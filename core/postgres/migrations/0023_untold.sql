-- Incidents whose messages wait for keys are found without reading the others.
-- depends: 0022_panic_life

-- migrate: apply

CREATE INDEX incident_untold ON incident (opened_at) WHERE detail ? 'untold' AND state <> 'resolved';

-- migrate: rollback

DROP INDEX incident_untold;
