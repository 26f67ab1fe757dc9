-- Who sees that an edge is being tested puts it on the caseworkers' list.
-- depends: 0013_sight

-- migrate: apply

SELECT secure_by_agency('task', 'SELECT, INSERT, UPDATE', 'SELECT, INSERT, UPDATE', 'SELECT, INSERT, UPDATE');

-- migrate: rollback

SELECT secure_by_agency('task', 'SELECT, INSERT, UPDATE', 'SELECT, INSERT, UPDATE');
