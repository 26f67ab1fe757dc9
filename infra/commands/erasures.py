"""`qorgan erasure`: the ledger of who was erased."""

from __future__ import annotations

import typer

from core.erasure_ledger import ledger_path, load_ledger
from infra.terminal import load_settings, out

erasure_app = typer.Typer(help="The ledger of who was erased.", no_args_is_help=True)


@erasure_app.command("verify")
def erasure_verify() -> None:
    """Check every line of the erasure ledger."""
    settings = load_settings()
    lines = load_ledger(settings).read()
    out().print(f"{len(lines):,} erasures stand in {ledger_path(settings)}; every line is as it was written.")
