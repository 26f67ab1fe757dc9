-- What became of a delivery after the provider took it, browsers that take pushes, and dead letters somebody sees to.
-- depends: 0018_erasure_waits

-- migrate: apply

ALTER TABLE delivery DROP CONSTRAINT delivery_state_check;
ALTER TABLE delivery ADD CONSTRAINT delivery_state_check CHECK (state IN (
    'queued', 'sending', 'sent', 'delivered', 'seen', 'acknowledged', 'failed', 'dead', 'cancelled'));
ALTER TABLE delivery DROP CONSTRAINT delivery_audience_check;
ALTER TABLE delivery ADD CONSTRAINT delivery_audience_check CHECK (audience IN (
    'dispatcher', 'officer', 'victim', 'contact', 'operator', 'aggressor'));
ALTER TABLE delivery
    ADD COLUMN forgiven integer NOT NULL DEFAULT 0,  -- attempts that do not count: the provider was away
    ADD COLUMN delivered_at timestamptz,
    ADD COLUMN seen_at timestamptz,
    ADD COLUMN dismissed_at timestamptz,             -- somebody has looked at a dead letter and left it dead
    ADD COLUMN seen_digest bytea;                    -- of the token in the link "I have seen it"
CREATE UNIQUE INDEX delivery_seen ON delivery (seen_digest) WHERE seen_digest IS NOT NULL;
CREATE INDEX delivery_dead ON delivery (agency_id, updated_at) WHERE state IN ('dead', 'failed');
CREATE INDEX delivery_provider ON delivery (provider_id) WHERE channel = 'sms' AND provider_id IS NOT NULL;

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

-- migrate: rollback

DROP TABLE push_subscription, delivery_receipt;
DROP INDEX delivery_seen, delivery_dead, delivery_provider;
UPDATE delivery SET state = 'sent' WHERE state IN ('acknowledged', 'failed');
ALTER TABLE delivery
    DROP COLUMN forgiven, DROP COLUMN delivered_at, DROP COLUMN seen_at, DROP COLUMN dismissed_at,
    DROP COLUMN seen_digest;
ALTER TABLE delivery DROP CONSTRAINT delivery_state_check;
ALTER TABLE delivery ADD CONSTRAINT delivery_state_check CHECK (state IN (
    'queued', 'sending', 'sent', 'delivered', 'seen', 'dead', 'cancelled'));
ALTER TABLE delivery DROP CONSTRAINT delivery_audience_check;
ALTER TABLE delivery ADD CONSTRAINT delivery_audience_check CHECK (audience IN (
    'dispatcher', 'officer', 'victim', 'contact', 'operator'));
