-- What one order sets otherwise than its agency.
-- depends: 0001_initial

-- migrate: apply

ALTER TABLE protection_order ADD COLUMN policy jsonb NOT NULL DEFAULT '{}';

-- migrate: rollback

ALTER TABLE protection_order DROP COLUMN policy;
