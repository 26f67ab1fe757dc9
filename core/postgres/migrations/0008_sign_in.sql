-- Who signs in and how: sessions, second factors, passkeys, one-time codes, agencies' own sign-in.
-- depends: 0007_audit_chain

-- migrate: apply

ALTER TABLE app_user ALTER COLUMN password_hash DROP NOT NULL;
ALTER TABLE app_user ADD COLUMN password_set_at timestamptz;
ALTER TABLE app_user ADD COLUMN provider_subject text;
ALTER TABLE app_user ADD COLUMN attempts_noticed_at timestamptz;
CREATE UNIQUE INDEX app_user_provider ON app_user (agency_id, provider_subject);

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

INSERT INTO user_session (id, agency_id, user_id, created_at, last_seen_at, confirmed_at, expires_at, method, ended_at,
                          ended_because)
SELECT t.family_id, u.agency_id, t.user_id, min(t.created_at), max(t.created_at), min(t.created_at), max(t.expires_at),
    'password', max(t.revoked_at), CASE WHEN max(t.revoked_at) IS NOT NULL THEN 'signed_out' END
FROM refresh_token t JOIN app_user u ON u.id = t.user_id
GROUP BY t.family_id, u.agency_id, t.user_id;

ALTER TABLE refresh_token ADD COLUMN agency_id uuid;
UPDATE refresh_token SET agency_id = u.agency_id FROM app_user u WHERE u.id = user_id;
ALTER TABLE refresh_token ALTER COLUMN agency_id SET NOT NULL;

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

-- migrate: rollback

DROP FUNCTION ended_sessions, sign_in_provider, sign_in_providers, sign_in_by_code, sign_in_by_passkey,
    sign_in_by_refresh_token, sign_in_by_name;
DROP TABLE oidc_provider, sign_in_policy, spent_challenge, sign_in_code, user_passkey, user_recovery_code, user_totp,
    user_session;
SELECT secure_by('refresh_token', 'EXISTS (SELECT FROM app_user u WHERE u.id = user_id)', 'SELECT, INSERT, UPDATE');
ALTER TABLE refresh_token DROP COLUMN agency_id;
DROP INDEX app_user_provider;
ALTER TABLE app_user DROP COLUMN attempts_noticed_at, DROP COLUMN provider_subject, DROP COLUMN password_set_at;
DELETE FROM app_user WHERE password_hash IS NULL;
ALTER TABLE app_user ALTER COLUMN password_hash SET NOT NULL;
