"""The notifier: tells people what the database says they are to be told.

A delivery is a row written in the transaction that caused it (`core.actions`), with an id derived from cause,
recipient, channel and step. `notifier.sender` claims what is due, sends it over one of `notifier.channels`, and
marks how that went; `notifier.retry` decides what follows. It needs PostgreSQL and the providers, never Redis.

Guarantee: at least once, with the same id at every attempt, which is the provider's key to drop repeats. Whatever
cannot be delivered ends as a dead letter with its reason, on the incident's timeline and on the feed.

Each channel is a bulkhead: its own loop (`notifier.lane`), connections, rate (`notifier.bucket`), and a breaker for
each of its providers (`notifier.breaker`). While a provider is away its deliveries wait in the database and burn no
attempt; places and rate are kept for panics.
See docs/notifications.md.
"""
