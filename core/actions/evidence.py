"""Exporting evidence: asked for with a reason, made in the background, downloadable for some days by those who may.

Everything is read in the scope of who asked, so an export never holds what she may not open. All editions are made at
once, from one reading, and kept sealed together: an edition fetched later has the root of the one fetched before.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import struct
import uuid
import zlib
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from core.clock import rfc3339
from core.domain.evidence import Fix
from core.domain.sealing import Spot
from core.domain.transition import RULE_VERSION
from core.errors import NotFound
from core.evidence import bundle, document, files
from core.evidence.bundle import EDITIONS, Signing
from core.evidence.defence import of_defence
from core.evidence.view import of_court
from core.evidence.wording import LANGUAGES
from core.postgres import evidence, evidence_audit, evidence_keep, keys
from core.postgres.database import Connection
from core.postgres.evidence import Parties

KEPT_FOR: Final = timedelta(days=7)
"""How long a finished export can be fetched."""

Progress = Callable[[float], None]
Json = dict[str, Any]


class Material:
    """What was read of an incident, in one transaction; nothing of a store is needed after."""

    def __init__(self, about: Parties, data: Json, fixes: list[Fix], replay: Json, log: bytes | None) -> None:
        self.about, self.data, self.fixes, self.replay, self.log = about, data, fixes, replay, log


async def read(connection: Connection, incident_id: uuid.UUID, now: datetime) -> Material:
    """Read an incident whole. Raises NotFound for one that is not there, or not to be seen."""
    about = await evidence.parties_of(connection, incident_id, now)
    if about is None:
        raise NotFound("There is no such incident.")
    subjects = [incident_id, *about.order_ids]
    proof = await evidence_audit.audit_proof(connection, about.agency_id, subjects)
    data = await evidence.gather(connection, about, proof) | {"made_at": rfc3339(now)}
    fixes = await evidence.fixes_of(connection, about)
    if not fixes:
        numbers = await evidence.device_numbers(connection, about)
        fixes = await evidence.history_of(connection, numbers, about.window.since, about.window.until)
    kept = await evidence_keep.snapshot_of(connection, incident_id)
    replay = (kept or {}).get("replay") or {"state": "not_made"}
    log = zlib.decompress(kept["log"]) if kept and kept["log"] else None
    return Material(about, data, fixes, replay, log)


def make(material: Material, signer: Signing, progress: Progress = lambda _: None) -> tuple[str, dict[str, bytes]]:
    """(root, {edition: bundle}). Takes seconds of a processor: call it in a thread."""
    court = of_court(material.data, material.fixes, material.about.window, material.replay)
    defence = of_defence(court)
    documents: dict[str, dict[str, bytes]] = {"court": {}, "defence": {}}
    bundle_id = str(uuid.UUID(bytes=secrets.token_bytes(16), version=4))
    done = 0
    for view in (court, defence):
        for language in LANGUAGES:
            documents[view.edition][language] = document.render(view, language, bundle_id, signer.public_key_bytes)
            done += 1
            progress(done / (2 * len(LANGUAGES) + 1))
    facts = {
        "bundle_id": bundle_id,
        "incident_id": str(material.about.incident_id),
        "made_at": material.data["made_at"],
        "window": material.data["window"],
        "rule_versions": sorted({RULE_VERSION, *(str(t["rule_version"]) for t in material.data["transitions"])}),
        "replay": {name: material.replay.get(name) for name in ("state", "identical")},
    }
    leaves = files.leaves_of(court, defence, documents, material.log)
    return bundle.seal(leaves, facts, files.notes_of(defence), signer)


async def make_apart(material: Material, signer: Signing, progress: Progress) -> tuple[str, dict[str, bytes]]:
    """As `make`, without holding up the loop."""
    return await asyncio.to_thread(make, material, signer, progress)


_LENGTH: Final = struct.Struct("<I")


async def sealed(
    connection: Connection, about: Parties, export_id: uuid.UUID, editions: Mapping[str, bytes], now: datetime
) -> bytes:
    """All editions of an export as they are kept: compressed, sealed with her key, so that erasing her erases them."""
    parts = [zlib.compress(editions[name], 6) for name in EDITIONS]
    packed = base64.b64encode(b"".join(_LENGTH.pack(len(part)) + part for part in parts)).decode()
    spot = Spot("evidence_export", "bundles", export_id)
    values = await keys.seal_for(connection, about.victim_id, about.agency_id, {spot: packed}, now, or_agency=True)
    return values[spot]


async def opened(connection: Connection, export_id: uuid.UUID, kept: bytes) -> dict[str, bytes]:
    """What `sealed` kept. Raises NotFound when her key is gone."""
    (packed,) = await keys.open_all(connection, [(Spot("evidence_export", "bundles", export_id), kept)])
    if not packed:
        raise NotFound("The export cannot be opened any more; ask for it again.")
    plain, out, at = base64.b64decode(packed), {}, 0
    for name in EDITIONS:
        (size,) = _LENGTH.unpack_from(plain, at)
        at += _LENGTH.size
        out[name] = zlib.decompress(plain[at : at + size])
        at += size
    return out


__all__ = ["EDITIONS", "KEPT_FOR", "Material", "make", "make_apart", "opened", "read", "sealed"]
