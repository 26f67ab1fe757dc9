"""device_sim: see docs/architecture.md."""
