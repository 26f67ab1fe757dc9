"""The present, in Redis or Valkey: ping logs, engine state, live positions, leases' tokens, panics in transit.

Model: everything of a shard bears its hash tag (`{s3}:pings`), so one shard is one slot and one atomic step;
no command crosses shards. Nothing here must be true tomorrow: it is in PostgreSQL, or still in a log that is
trimmed only once PostgreSQL has it.

Failure: Redis away → writers raise StoreUnavailable, devices keep their pings, workers wait and go on from
their cursors.
"""
