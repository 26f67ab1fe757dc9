-- Whom nobody has to ask about before telling them of a panic in an outage: users who are related to nobody.
-- depends: 0026_drills

-- migrate: apply

CREATE FUNCTION users_in_conflict(agencies uuid[]) RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$ SELECT DISTINCT user_id FROM user_conflict WHERE agency_id = ANY (agencies) $$;
REVOKE EXECUTE ON FUNCTION users_in_conflict FROM PUBLIC;
GRANT EXECUTE ON FUNCTION users_in_conflict TO qorgan_device;

-- migrate: rollback

DROP FUNCTION users_in_conflict;
