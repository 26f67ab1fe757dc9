"""The commands of `qorgan`, a module a subject; `infra.cli` registers them."""
