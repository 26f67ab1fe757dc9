-- What is written of a case in the audit and on the list of broken glass is hidden from who is related to it.
-- depends: 0015_retention

-- migrate: apply

-- Every id of whom the current user is related to. Unlike what is sealed, nobody reviews or audits that of her own kin.
CREATE FUNCTION related_ids() RETURNS uuid[] LANGUAGE sql STABLE
    AS $$
        SELECT CASE current_setting('qorgan.hides', true)
            WHEN 'false' THEN '{}'::uuid[]
            WHEN 'true' THEN (SELECT h.related FROM hidden_from(current_app_user(), current_agency()) AS h)
            END
    $$;

SELECT secure_by(
    'break_glass',
    'agency_id = (SELECT current_agency()) AND NOT (array_append(case_ids, asked_id) && (SELECT related_ids()))',
    'SELECT, INSERT, UPDATE');
CREATE POLICY not_of_kin ON audit AS RESTRICTIVE FOR SELECT TO qorgan_api
    USING (NOT (array_append(person_ids, subject_id) && (SELECT related_ids())));

-- migrate: rollback

DROP POLICY not_of_kin ON audit;
SELECT secure_by('break_glass', 'agency_id = (SELECT current_agency())', 'SELECT, INSERT, UPDATE');
DROP FUNCTION related_ids;
