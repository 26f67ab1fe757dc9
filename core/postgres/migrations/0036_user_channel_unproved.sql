-- Whether a user's way was ever verified was kept by nobody and asked by nobody: who is on duty is told by it anyway.
-- depends: 0035_feed_at_commit

-- migrate: apply

ALTER TABLE user_channel DROP COLUMN verified_at;

-- migrate: rollback

ALTER TABLE user_channel ADD COLUMN verified_at timestamptz;
