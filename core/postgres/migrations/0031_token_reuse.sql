-- A device token that was replaced and comes again is known for what it is.
-- depends: 0030_waiting_recipient

-- migrate: apply

ALTER TABLE bearer_token ADD COLUMN replaced_at timestamptz;
ALTER TABLE bearer_token ADD COLUMN reused_at timestamptz;

-- migrate: rollback

ALTER TABLE bearer_token DROP COLUMN reused_at;
ALTER TABLE bearer_token DROP COLUMN replaced_at;
