"""The live feed: what dispatchers see, as it happens.

Model: events are rows of `feed`, whose ids are in commit order per agency; the tail reads each agency's new rows once
and hands them to its sockets. Beside the cursor travel live positions (latest only), health of the stores, and
provisional incidents while PostgreSQL is away.

Guarantees: a socket gets every event after its cursor, in order, once; a board and the events after its cursor are the
next board. Nobody gets an event of another agency.

Failure: a lost or slow socket resumes by its cursor; a cursor older than the feed is told `reset`; with PostgreSQL
away sockets stay open and are told so; with Redis away only positions stop.
"""
