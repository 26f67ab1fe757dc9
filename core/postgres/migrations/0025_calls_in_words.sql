-- A text message that is nothing but a call for help is found to be a protected person's by its number.
-- depends: 0024_contacts

-- migrate: apply

SELECT secure_by_agency('person_index', 'SELECT, INSERT, DELETE', 'SELECT');

-- migrate: rollback

SELECT secure_by_agency('person_index', 'SELECT, INSERT, DELETE');
