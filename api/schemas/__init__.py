"""schemas: see docs/architecture.md."""
