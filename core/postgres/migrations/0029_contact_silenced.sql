-- What is still to go to a contact goes with him.
-- depends: 0028_sealed_words

-- migrate: apply

-- What is still to go to a contact goes with him, whoever deletes him: an erasure, or the end of what was kept of him.
CREATE FUNCTION silence_contact() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    BEGIN
        UPDATE delivery SET state = 'cancelled', leased_until = NULL, leased_by = NULL, address = NULL, secret = NULL,
            target_sealed = NULL, address_digest = NULL, updated_at = now()
            WHERE recipient = 'contact:' || OLD.id AND state IN ('queued', 'sending');
        RETURN NULL;
    END
    $$;
CREATE TRIGGER contact_silenced AFTER DELETE ON contact FOR EACH ROW EXECUTE FUNCTION silence_contact();
REVOKE EXECUTE ON FUNCTION silence_contact FROM PUBLIC;

-- migrate: rollback

DROP TRIGGER contact_silenced ON contact;
DROP FUNCTION silence_contact;
