"""notifier: see docs/architecture.md."""
