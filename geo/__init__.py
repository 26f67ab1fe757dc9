"""geo: see docs/architecture.md."""
