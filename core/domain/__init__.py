"""The domain: values and pure functions. No store, no clock, no network; numpy only for the ping record.

Everything that decides is here or in `geo.engine`; everything that acts is in `core.actions`.
"""
