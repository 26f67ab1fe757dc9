-- What waits for one recipient is found by its index: silencing her takes as long beside a hundred thousand alarms.
-- depends: 0029_contact_silenced

-- migrate: apply

CREATE INDEX delivery_recipient ON delivery (recipient) WHERE state IN ('queued', 'sending');

-- migrate: rollback

DROP INDEX delivery_recipient;
