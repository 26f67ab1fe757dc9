-- What is written of an order, of a suspension, of broken glass and of looks is sealed like all that people write.
-- depends: 0027_outage_staff

-- migrate: apply

ALTER TABLE protection_order ADD COLUMN legal_ground_sealed bytea, ADD COLUMN exceptions_sealed bytea,
    ALTER COLUMN exceptions DROP NOT NULL, ALTER COLUMN exceptions DROP DEFAULT;
UPDATE protection_order SET exceptions = NULL WHERE exceptions = '[]';
ALTER TABLE suspension ADD COLUMN reason_sealed bytea, ALTER COLUMN reason DROP NOT NULL;
ALTER TABLE break_glass ADD COLUMN reason_sealed bytea, ADD COLUMN review_note_sealed bytea,
    ALTER COLUMN reason DROP NOT NULL;
ALTER TABLE person_look ADD COLUMN reason_sealed bytea, ADD COLUMN review_note_sealed bytea,
    ALTER COLUMN reason DROP NOT NULL;

-- migrate: rollback

UPDATE person_look SET reason = '' WHERE reason IS NULL;
UPDATE break_glass SET reason = '' WHERE reason IS NULL;
UPDATE suspension SET reason = '' WHERE reason IS NULL;
UPDATE protection_order SET exceptions = '[]' WHERE exceptions IS NULL;
ALTER TABLE person_look DROP COLUMN reason_sealed, DROP COLUMN review_note_sealed, ALTER COLUMN reason SET NOT NULL;
ALTER TABLE break_glass DROP COLUMN reason_sealed, DROP COLUMN review_note_sealed, ALTER COLUMN reason SET NOT NULL;
ALTER TABLE suspension DROP COLUMN reason_sealed, ALTER COLUMN reason SET NOT NULL;
ALTER TABLE protection_order DROP COLUMN legal_ground_sealed, DROP COLUMN exceptions_sealed,
    ALTER COLUMN exceptions SET DEFAULT '[]', ALTER COLUMN exceptions SET NOT NULL;
