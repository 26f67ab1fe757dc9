"""The composition root: settings in, running processes out; the command line, embedded stores, seeding.

Only this package knows which parts exist and how they are put together (`infra.wiring`); nothing else asks in
which mode it runs.
"""
