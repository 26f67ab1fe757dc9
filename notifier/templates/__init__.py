"""templates: see docs/architecture.md."""
