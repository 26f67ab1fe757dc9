"""From files to editions: one tree over all of them, one statement, a zip for each edition."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from core.errors import InvalidInput
from core.evidence import verify

EDITIONS: Final = ("court", "defence", "subject")
"""court: everything. defence: without what would betray her. subject: his own raw fixes alone."""
VERIFIER: Final = Path(verify.__file__)
SALT_BYTES: Final = 32
MAX_FILES: Final = 1_000
MAX_TREE_BYTES: Final = 256 * 1024 * 1024


class Signing(Protocol):
    """What is needed of `core.signing.Signer`."""

    @property
    def key_id(self) -> str: ...
    @property
    def public_key_bytes(self) -> bytes: ...
    def sign(self, message: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Leaf:
    """A file of the evidence, and who gets it."""

    content: bytes
    editions: frozenset[str]
    withheld_because: str = ""
    """What an edition without it says."""


def seal(
    leaves: Mapping[str, Leaf],
    facts: Mapping[str, Any],
    notes: Mapping[str, Mapping[str, Any]],
    signer: Signing,
) -> tuple[str, dict[str, bytes]]:
    """(root, {edition: zip}) of one evidence.

    `facts` are what the statement says beside the root; `notes` what an edition's manifest says of itself. Raises
    InvalidInput when there is more than an archive may hold.
    """
    if len(leaves) > MAX_FILES or sum(len(leaf.content) for leaf in leaves.values()) > MAX_TREE_BYTES:
        raise InvalidInput("There is more than one bundle can hold.")
    paths = sorted(leaves, key=str.encode)
    salts = {path: secrets.token_bytes(SALT_BYTES) for path in paths}
    digests = {path: verify.sha256(leaves[path].content) for path in paths}
    hashes = {path: verify.leaf_hash(salts[path], path, digests[path]) for path in paths}
    root = verify.tree_root([hashes[path] for path in paths]).hex()
    statement = verify.canonical(
        {
            **facts,
            "format": verify.FORMAT,
            "root": root,
            "leaves": len(paths),
            "key_id": signer.key_id,
            "public_key_sha256": verify.sha256(signer.public_key_bytes).hex(),
        }
    )
    signature = signer.sign(statement)
    out = {}
    for edition in EDITIONS:
        held = [path for path in paths if edition in leaves[path].editions]
        manifest = verify.canonical(
            {
                **notes.get(edition, {}),
                "format": verify.FORMAT,
                "edition": edition,
                "statement_sha256": verify.sha256(statement).hex(),
                "files": [_held(path, leaves[path], salts[path], digests[path]) for path in held],
                "withheld": _withheld(paths, leaves, hashes, edition),
            }
        )
        out[edition] = verify.archive_bytes(
            {
                verify.STATEMENT: statement,
                verify.STATEMENT_SIGNATURE: signature,
                verify.MANIFEST: manifest,
                verify.MANIFEST_SIGNATURE: signer.sign(manifest),
                **{path: leaves[path].content for path in held},
            }
        )
    return root, out


def _held(path: str, leaf: Leaf, salt: bytes, digest: bytes) -> dict[str, Any]:
    return {"path": path, "size": len(leaf.content), "sha256": digest.hex(), "salt": salt.hex()}


def _withheld(
    paths: Sequence[str], leaves: Mapping[str, Leaf], hashes: Mapping[str, bytes], edition: str
) -> list[dict[str, str]]:
    return [
        {"path": path, "leaf": hashes[path].hex(), "why": leaves[path].withheld_because}
        for path in paths
        if edition not in leaves[path].editions
    ]
