"""What every part of Qorgan shares: settings, errors, time, ids, the domain, the actions and both stores.

Model: PostgreSQL decides, Redis remembers the present. `core.domain` computes, `core.actions` changes state
(one transaction each), `core.postgres` and `core.redis` hold every statement sent to a store. Nothing here
knows HTTP, WebSockets or screens.

Failure: every error raised on purpose descends from `core.errors.QorganError` and carries a stable code.
"""
