"""PostgreSQL: the only package that imports asyncpg; every SQL statement lives here, one module a table family.

Model: a function takes a connection and values, sends one statement (or one batch) and returns values; it opens
no transaction of its own: `core.actions` does. `now` is always a parameter.

Failure: a connection that is lost or a statement that times out surfaces as `core.errors.StoreUnavailable`
through `Database`; constraint violations surface as Conflict or InvalidInput.
"""
