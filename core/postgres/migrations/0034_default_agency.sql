-- Whose a panic is of which nobody knows whose it is, may be said.
-- depends: 0033_neighbour_untold

-- migrate: apply

ALTER TABLE installation ADD COLUMN default_agency_id uuid REFERENCES agency;

-- The agency that answers a panic of which nobody knows whose it is: as the operator says, else the police agency that
-- was there first, else the first of all.
CREATE FUNCTION default_agency() RETURNS uuid
    LANGUAGE sql STABLE
    AS $$
        SELECT coalesce(
            (SELECT default_agency_id FROM installation),
            (SELECT id FROM agency ORDER BY kind <> 'police', created_at, id LIMIT 1))
    $$;

-- migrate: rollback

DROP FUNCTION default_agency;
ALTER TABLE installation DROP COLUMN default_agency_id;
