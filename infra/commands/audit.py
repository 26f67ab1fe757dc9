"""`qorgan audit`: checks that nobody changed what was written, and says by which key that can be checked."""

from __future__ import annotations

import asyncio
import time
import uuid
from pathlib import Path
from typing import Annotated

import typer

from core.clock import utc_now
from core.errors import Misconfigured
from core.settings import Settings
from infra.stores import open_stores
from infra.terminal import load_settings, out, progress

audit_app = typer.Typer(help="The audit: checked from its first row to its last.", no_args_is_help=True)
SHOWN = 50
"""Findings printed; more are counted."""


def _agency(value: str | None) -> uuid.UUID | None:
    if value is None:
        return None
    try:
        return uuid.UUID(value)
    except ValueError:
        raise typer.BadParameter("an agency is given by its id (a UUID)", param_hint="--agency") from None


@audit_app.command("verify")
def verify_audit(
    agency: Annotated[str | None, typer.Option(help="Id of one agency; else all, and what belongs to none.")] = None,
    checkpoints: Annotated[
        Path | None, typer.Option(help="Folder of signed checkpoints, best a copy kept by somebody else.")
    ] = None,
    public_key: Annotated[
        list[Path] | None,
        typer.Option(help="Public key (PEM) to trust; may be given again. Else this installation's own."),
    ] = None,
) -> None:
    """Find whatever was edited, deleted, put in or reordered since it was written; status 1 when there is anything."""
    from core.actions.verification import Report, verify
    from core.checkpoints import CheckpointFiles, checkpoint_directory
    from core.postgres.database import Database
    from core.signing import KeyRing, load_key_ring, read_public_key

    wanted = _agency(agency)
    if checkpoints is not None and not checkpoints.is_dir():
        raise Misconfigured(f"{checkpoints} is no folder.")

    async def work(settings: Settings) -> Report:
        assert settings.database_url is not None
        keys = KeyRing(read_public_key(path) for path in public_key) if public_key else load_key_ring(settings)
        files = CheckpointFiles(checkpoints or checkpoint_directory(settings))
        url = settings.database_url.get_secret_value()
        database = Database(url, size=2, application="qorgan-audit", command_timeout_s=86_400)
        with progress() as bar:
            task = bar.add_task("Checking rows", total=0)

            def advance(rows: int, total: int) -> None:
                bar.update(task, advance=rows, total=total)

            try:
                return await verify(database, utc_now(), files, keys, agency_id=wanted, on_rows=advance)
            finally:
                await database.close()

    started = time.monotonic()
    with open_stores(load_settings()) as settings:
        report = asyncio.run(work(settings))
    took_s = time.monotonic() - started
    screen = out()
    for note in report.notes:
        screen.print(f"Note: {note}.", soft_wrap=True)
    for finding in report.findings[:SHOWN]:
        place = "" if finding.position is None else f", position {finding.position}"
        row = "" if finding.audit_id is None else f", row {finding.audit_id}"
        screen.print(f"{finding.kind}: agency {finding.agency_id}{place}{row}: {finding.text}", soft_wrap=True)
    found = len(report.findings) + report.more
    checked = f"{report.rows:,} rows of {report.agencies} chains and {report.checkpoints:,} checkpoints"
    if found:
        raise Misconfigured(f"the audit is not what was written: {found:,} findings in {checked} ({took_s:.1f} s)")
    screen.print(f"The audit holds: {checked} ({took_s:.1f} s).")


@audit_app.command("key")
def show_key() -> None:
    """Print the public key (PEM) by which checkpoints and evidence are checked; hand it out on another road."""
    from core.signing import load_signer

    signer = load_signer(load_settings())
    out().print(signer.public_key_pem, end="", soft_wrap=True)


@audit_app.command("accept-restore")
def accept_restore(
    agency: Annotated[str, typer.Option(help="Id of the agency whose chain was signed further than it now goes.")],
) -> None:
    """After an old backup was restored: sign that what was signed since is lost. That stays in the checkpoints."""
    from core.actions.sealing import Notary
    from core.checkpoints import CheckpointFiles, checkpoint_directory
    from core.domain.chain import Checkpoint
    from core.postgres.database import Database
    from core.signing import load_signer

    wanted = _agency(agency)
    assert wanted is not None

    async def work(settings: Settings) -> Checkpoint | None:
        assert settings.database_url is not None
        database = Database(settings.database_url.get_secret_value(), size=2, application="qorgan-audit")
        files = CheckpointFiles(checkpoint_directory(settings))
        try:
            return await Notary(database, files, load_signer(settings), utc_now).accept_restore(wanted)
        finally:
            await database.close()

    with open_stores(load_settings()) as settings:
        checkpoint = asyncio.run(work(settings))
    if checkpoint is None:
        raise Misconfigured("the chain agrees with what was signed last; there is nothing to accept")
    out().print(f"Signed: rows after position {checkpoint.kept:,} that were signed before are lost.")
