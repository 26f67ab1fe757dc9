-- Keys by which devices sign their pings.
-- depends: 0009_sealed

-- migrate: apply

ALTER TABLE device ADD COLUMN signature_kind text CHECK (signature_kind IN ('ed25519', 'hmac'));
ALTER TABLE device ADD COLUMN signature_public_key bytea CHECK (length(signature_public_key) = 32);
ALTER TABLE device ADD COLUMN signature_generation integer NOT NULL DEFAULT 0;
ALTER TABLE device ADD CONSTRAINT device_signature CHECK ((signature_kind = 'ed25519') = (signature_public_key IS NOT NULL));

-- migrate: rollback

ALTER TABLE device DROP COLUMN signature_kind, DROP COLUMN signature_public_key, DROP COLUMN signature_generation;
