-- Trusted contacts: invitations, the codes that show an address to be his, and contacts asked for from her own device.
-- depends: 0023_untold

-- migrate: apply

-- How somebody is asked to be a trusted contact: a random token's digest, until when, and the name it gives.
CREATE TABLE contact_invitation (
    id uuid PRIMARY KEY,
    agency_id uuid NOT NULL REFERENCES agency,
    person_id uuid NOT NULL REFERENCES person,
    contact_id uuid NOT NULL REFERENCES contact ON DELETE CASCADE,
    digest bytea NOT NULL UNIQUE CHECK (length(digest) = 32),
    made_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL CHECK (expires_at > made_at),
    made_by text NOT NULL CHECK (made_by IN ('user', 'device')),
    inviter_sealed bytea,                     -- the name by which he knows her, if she wants it given
    opened_at timestamptz,                    -- first
    verified_at timestamptz,                  -- first address confirmed
    consented_at timestamptz,
    refused_at timestamptz,
    ended_at timestamptz,                     -- taken back, or asked anew
    CHECK (consented_at IS NULL OR verified_at IS NOT NULL)
);
CREATE INDEX contact_invitation_contact ON contact_invitation (contact_id, made_at);
CREATE INDEX contact_invitation_person ON contact_invitation (person_id);

-- The code that shows that an address is his: a digest that its token goes into.
CREATE TABLE contact_code (
    invitation_id uuid NOT NULL REFERENCES contact_invitation ON DELETE CASCADE,
    way smallint NOT NULL CHECK (way >= 0),   -- place among the contact's channels
    agency_id uuid NOT NULL REFERENCES agency,
    person_id uuid NOT NULL REFERENCES person,
    digest bytea NOT NULL CHECK (length(digest) = 32),
    sent_at timestamptz NOT NULL,             -- last
    sent integer NOT NULL,
    tries integer NOT NULL,                   -- of the last
    verified_at timestamptz,
    PRIMARY KEY (invitation_id, way)
);

SELECT secure_by_agency('contact', device => 'SELECT, INSERT, UPDATE', worker => 'SELECT');
SELECT secure_by_agency('contact_invitation', 'SELECT, INSERT, UPDATE', 'SELECT, INSERT, UPDATE');
SELECT secure_by_agency('contact_code', 'SELECT', 'SELECT, INSERT, UPDATE');
GRANT SELECT (id, agency_id, consented_at), DELETE ON contact TO qorgan_retention;
GRANT SELECT ON contact_invitation TO qorgan_retention;
CREATE POLICY by_retention ON contact TO qorgan_retention USING (true) WITH CHECK (true);
CREATE POLICY by_retention ON contact_invitation TO qorgan_retention USING (true) WITH CHECK (true);

-- migrate: rollback

DROP POLICY by_retention ON contact;
REVOKE ALL ON contact FROM qorgan_retention;
DROP TABLE contact_code, contact_invitation;
SELECT secure_by_agency('contact', device => 'SELECT', worker => 'SELECT');
