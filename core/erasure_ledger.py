"""The erasure ledger: who was erased, outside the database, so that a backup that is restored does not bring her back.

A file of lines of JSON that are only ever added, each signed (Ed25519, `core.signing`) and bound to the one before by
its SHA-256. It bears ids and moments, never a name. Keep its directory apart from the database and its backups.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from core.clock import rfc3339
from core.errors import Misconfigured
from core.settings import Settings
from core.signing import KeyRing, Signer, load_key_ring, load_signer

FILE_NAME: Final = "erasures.jsonl"
BEGINNING: Final = "0" * 64
"""What the first line is bound to."""

_encode = msgspec.json.Encoder(order="deterministic").encode


@dataclass(frozen=True, slots=True)
class Erasure:
    """One line: a person erased, when, and by which rule."""

    person_id: uuid.UUID
    agency_id: uuid.UUID
    at: datetime
    rule: str
    """Why: `request` (her own), or the name of a rule of retention."""


class ErasureLedger:
    """One file; `append` and `read` block on the disk."""

    def __init__(self, path: Path, signer: Signer, trusted: KeyRing, *, required: bool = False) -> None:
        """One that is `required` is made by `begin` alone: an erasure that found no file would make one that looks
        whole, and open what waits for the true one."""
        self.path = path
        self._required = required
        self._signer = signer
        self._trusted = trusted

    def begin(self) -> None:
        """Make the file, empty, where there is none. Raises Misconfigured when it cannot be written."""
        self._add([], os.O_CREAT)

    def append(self, erasures: Sequence[Erasure]) -> None:
        """Add lines and have them on disk. Raises Misconfigured when it cannot be written, or was changed."""
        self._add(erasures, 0 if self._required else os.O_CREAT)

    def _add(self, erasures: Sequence[Erasure], create: int) -> None:
        try:
            self._append(erasures, create)
        except OSError as error:
            raise Misconfigured(f"The erasure ledger {self.path} cannot be written: {error.strerror}.") from error

    def _append(self, erasures: Sequence[Erasure], create: int) -> None:
        if create:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self.path, os.O_RDWR | create, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            written = file.read()
            # A last line without its end was being written when the machine went down: nobody was told of it.
            whole = written[: written.rfind(b"\n") + 1]
            before = self._check(whole)[1]
            lines = b""
            for erasure in erasures:
                line = self._line(erasure, before)
                before = hashlib.sha256(line).hexdigest()
                lines += line + b"\n"
            file.seek(len(whole))
            file.truncate()
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> list[Erasure]:
        """Every line, checked. Raises Misconfigured when one was changed, left out, or cannot be read."""
        try:
            written = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise Misconfigured(f"The erasure ledger {self.path} cannot be read: {error.strerror}.") from error
        return self._check(written[: written.rfind(b"\n") + 1])[0]

    def _line(self, erasure: Erasure, before: str) -> bytes:
        body: dict[str, Any] = {
            "person_id": str(erasure.person_id), "agency_id": str(erasure.agency_id), "at": rfc3339(erasure.at),
            "rule": erasure.rule, "before": before, "key": self._signer.key_id,
        }  # fmt: skip
        signature = base64.b64encode(self._signer.sign(_encode(body))).decode()
        return _encode({**body, "signature": signature})

    def _check(self, written: bytes) -> tuple[list[Erasure], str]:
        """The lines, and what the next one is bound to."""
        erasures, before = [], BEGINNING
        for number, line in enumerate(written.splitlines(), start=1):
            try:
                body = msgspec.json.decode(line)
                signature = base64.b64decode(body.pop("signature"), validate=True)
                if body["before"] != before or not self._trusted.verify(body["key"], signature, _encode(body)):
                    raise ValueError
                erasures.append(
                    Erasure(
                        uuid.UUID(body["person_id"]), uuid.UUID(body["agency_id"]), datetime.fromisoformat(body["at"]),
                        str(body["rule"]),
                    )
                )  # fmt: skip
            except (msgspec.DecodeError, binascii.Error, KeyError, TypeError, AttributeError, ValueError):
                raise Misconfigured(
                    f"Line {number} of the erasure ledger {self.path} was changed, or is signed with a key nobody"
                    " knows; put the true file in its place (docs/encryption.md)."
                ) from None
            before = hashlib.sha256(line).hexdigest()
        return erasures, before


def ledger_path(settings: Settings) -> Path:
    """Where the ledger is."""
    return (settings.ledger_dir or settings.data_dir / "ledger") / FILE_NAME


def load_ledger(settings: Settings) -> ErasureLedger:
    """The installation's ledger; its file is made by the first erasure, or beforehand where it is required.

    Raises Misconfigured as `load_signer` does.
    """
    required = settings.ledger == "required"
    return ErasureLedger(ledger_path(settings), load_signer(settings), load_key_ring(settings), required=required)
