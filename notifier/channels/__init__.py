"""channels: see docs/architecture.md."""
