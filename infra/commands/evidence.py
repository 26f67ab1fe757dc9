"""`qorgan evidence`: bundles of an incident that stand without Qorgan: made, checked, judged again."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path
from typing import Annotated, Any

import typer

from core.clock import utc_now
from core.errors import InvalidInput, Misconfigured
from core.settings import Settings
from infra.stores import open_stores
from infra.terminal import load_settings, out

evidence_app = typer.Typer(help="Evidence of incidents, sealed so that anyone can check it.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(help="A bundle (.zip).")]


@evidence_app.command()
def export(
    incident: Annotated[uuid.UUID, typer.Option(help="Id of the incident.")],
    file: Annotated[Path, typer.Option("--out", help="Directory for every edition, or a file for one.")],
    edition: Annotated[str | None, typer.Option(help="court, defence or subject; else all of them.")] = None,
    reason: Annotated[str, typer.Option(help="Why, for the audit.")] = "asked at the command line",
    fresh: Annotated[bool, typer.Option(help="Make it anew, though one made before can still be fetched.")] = False,
) -> None:
    """Write an incident's evidence. Editions fetched one after the other share one root for some days."""
    from core.evidence.bundle import EDITIONS
    from core.signing import load_signer

    if edition is not None and edition not in EDITIONS:
        raise typer.BadParameter(f"no edition {edition!r}; there are {', '.join(EDITIONS)}", param_hint="--edition")

    async def work(settings: Settings) -> tuple[str, dict[str, bytes]]:
        return await _export(settings, incident, reason, fresh)

    with open_stores(load_settings()) as settings:
        root, editions = asyncio.run(work(settings))
        signer = load_signer(settings)
    whole = file.is_dir() or (edition is None and file.suffix != ".zip")
    if edition is None and not whole:
        raise typer.BadParameter("a file takes one edition; name it, or give a directory", param_hint="--out")
    for name in [edition] if edition else EDITIONS:
        target = file / f"{incident}.{name}.zip" if whole else file
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch(mode=0o600)
            target.chmod(0o600)
            target.write_bytes(editions[name])
        except OSError as error:
            raise Misconfigured(f"{target} cannot be written: {error.strerror}; choose another with --out.") from None
        out().print(f"{name}: {target}", soft_wrap=True)
    out().print(f"Root {root}, signed with key {signer.key_id}.", soft_wrap=True)


async def _export(settings: Settings, incident: uuid.UUID, reason: str, fresh: bool) -> tuple[str, dict[str, bytes]]:
    from core.actions import evidence_exports
    from core.postgres.database import Database
    from core.signing import load_signer
    from core.vault import Vault, load_vault
    from geo import evidence_keeper

    assert settings.database_url is not None
    vault: Vault = load_vault(settings)
    database = Database(
        settings.database_url.get_secret_value(),
        size=2,
        application="qorgan-evidence",
        command_timeout_s=300,
        vault=vault,
    )
    try:
        if not fresh and (before := await evidence_exports.latest(database, incident, utc_now())) is not None:
            return before
        await evidence_keeper.keep(database, incident, utc_now(), asked=True)
        return await evidence_exports.make_now(database, incident, reason, load_signer(settings), utc_now())
    finally:
        await database.close()


@evidence_app.command()
def verify(
    bundles: Annotated[list[Path], typer.Argument(help="Bundles (.zip); of several it is checked that they match.")],
    public_key: Annotated[Path, typer.Option(help="The public key (PEM), from who publishes it.")],
) -> None:
    """Check bundles offline, as the verify.py in each of them does."""
    from core.evidence import verify as verifier

    if verifier.main([*map(str, bundles), "--public-key", str(public_key)]):
        raise typer.Exit(1)


@evidence_app.command()
def replay(file: File) -> None:
    """Run the rules again over what a court's bundle holds, and say whether they decide the same."""
    from core.evidence import verify as verifier
    from geo.evidence_replay import again

    try:
        files = verifier.read_archive(file.read_bytes())
    except verifier.Broken as error:
        raise InvalidInput(f"{file}: {error}") from None
    if "court/log.ndjson" not in files:
        raise InvalidInput(f"{file} holds no log: only the court's edition can be replayed.")
    recorded: list[dict[str, Any]] = json.loads(files["court/decisions.json"])
    stored = [{n: v for n, v in each.items() if n not in ("at", "evaluated_at", "incident_id")} for each in recorded]
    decided, differences = again(files["court/log.ndjson"], stored)
    for each in differences:
        out().print(json.dumps(each, ensure_ascii=False), soft_wrap=True)
    out().print(f"{len(recorded)} decisions in the bundle, {decided} decided again, {len(differences)} differ.")
    if differences:
        raise typer.Exit(1)
