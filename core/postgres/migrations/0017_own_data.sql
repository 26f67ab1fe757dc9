-- A device that holds its wearer's fixes has to know for how long.
-- depends: 0016_kin

-- migrate: apply

SELECT secure_by_agency('retention_policy', device => 'SELECT');

-- migrate: rollback

SELECT secure_by_agency('retention_policy');
