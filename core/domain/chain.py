"""The audit's hash chain and its checkpoints: what is hashed, how it is linked, how a break shows.

A row's canonical form is the line that `COPY (SELECT …) TO STDOUT` writes of its columns (UTF-8, tabs between, `\\N`
for null, times in UTC), so that a copy of the table and `sha256sum` are enough to check it. Then, per agency:

    row_hash(n)   = SHA-256(canonical form of row n)
    chain_hash(0) = SHA-256("qorgan audit chain 1\\n" + the agency's id)
    chain_hash(n) = SHA-256(chain_hash(n - 1) + row_hash(n))

A checkpoint says, signed, what the chain's hash was at a position. Checkpoints of an agency are a chain too: each
bears the hash of the one before, so that the last signature vouches for all. They are kept outside the database: who
can change rows and hash the chain anew still cannot change what was signed before.
"""

from __future__ import annotations

import binascii
import datetime
import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from core.clock import rfc3339

FORM: Final = 1
"""The canonical form in use; a link names its own, so that a later one may have more columns."""
NO_AGENCY: Final = uuid.UUID(int=0)
"""Whose chain rows are in that belong to no agency."""
FIRST: Final = "0" * 64
"""What the first checkpoint gives as the hash of the one before."""
MAX_LINE_BYTES: Final = 4096
_BEFORE_ROW: Final = len("\t1\t") + 64 + 1 + 64 + 1 + 36 + 1
"""Bytes of a streamed link between its position and its row: the form, two hashes, the row's id, and tabs."""

Sign = Callable[[bytes], bytes]
"""Gives the signature of a message."""
Check = Callable[[str, bytes, bytes], bool]
"""Whether the key of this id, which is trusted, made this signature of this message."""


def genesis(agency_id: uuid.UUID) -> bytes:
    """What an agency's chain begins from, 32 bytes."""
    return hashlib.sha256(b"qorgan audit chain 1\n" + str(agency_id).encode()).digest()


def row_hash(canonical: bytes) -> bytes:
    """The hash of one row in its canonical form, 32 bytes."""
    return hashlib.sha256(canonical).digest()


def chain_hash(previous: bytes, row: bytes) -> bytes:
    """The chain's hash after a row with this hash, 32 bytes."""
    return hashlib.sha256(previous + row).digest()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the chain's hash was at a position, signed; `line` is the whole of it as it is kept and published."""

    agency_id: uuid.UUID
    number: int
    """Counts an agency's checkpoints from 1."""
    position: int
    chain_hash: bytes
    at: str
    """RFC 3339, UTC."""
    day: str | None
    """The day (UTC) it closes; None: one of the minute."""
    kept: int | None
    """After a restored backup: the last position that survived it. What was signed beyond is lost and said to be."""
    previous: str
    key_id: str
    signature: bytes
    line: str

    @property
    def hash(self) -> str:
        """SHA-256 of the line, hexadecimal: what the next one bears and what is published."""
        return hashlib.sha256(self.line.encode()).hexdigest()


def _encode(members: dict[str, Any]) -> str:
    return json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def make_checkpoint(
    agency_id: uuid.UUID,
    position: int,
    chain: bytes,
    at: datetime.datetime,
    *,
    after: Checkpoint | None,
    day: datetime.date | None,
    key_id: str,
    sign: Sign,
    kept: int | None = None,
) -> Checkpoint:
    """The checkpoint that follows `after` (None: the first)."""
    members: dict[str, Any] = {
        "agency": str(agency_id),
        "at": rfc3339(at),
        "chain_hash": chain.hex(),
        "key_id": key_id,
        "number": 1 if after is None else after.number + 1,
        "position": position,
        "previous": FIRST if after is None else after.hash,
    }
    if day is not None:
        members["day"] = day.isoformat()
    if kept is not None:
        members["kept"] = kept
    signature = sign(_encode(members).encode())
    return read_checkpoint(_encode({**members, "signature": signature.hex()}))


def read_checkpoint(line: str) -> Checkpoint:
    """A checkpoint of its line. Raises ValueError when it is none; its signature is not looked at."""
    try:
        members = json.loads(line)
        found = Checkpoint(
            agency_id=uuid.UUID(members["agency"]),
            number=int(members["number"]),
            position=int(members["position"]),
            chain_hash=bytes.fromhex(members["chain_hash"]),
            at=str(members["at"]),
            day=members.get("day"),
            kept=members.get("kept"),
            previous=str(members["previous"]),
            key_id=str(members["key_id"]),
            signature=bytes.fromhex(members["signature"]),
            line=line,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("not a checkpoint") from error
    if _encode(members) != line:
        raise ValueError("not in the form that checkpoints are written in")
    return found


def is_signed(checkpoint: Checkpoint, check: Check) -> bool:
    """Whether a trusted key signed it."""
    members = json.loads(checkpoint.line)
    del members["signature"]
    return check(checkpoint.key_id, checkpoint.signature, _encode(members).encode())


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was written."""

    kind: str
    """edited, deleted, missing_link, broken, bad_link, unlinked, unsealed, checkpoint_edited, checkpoint_missing,
    checkpoint_contradicts, behind_checkpoints, bad_cut."""
    agency_id: uuid.UUID
    text: str
    position: int | None = None
    audit_id: uuid.UUID | None = None


def check_checkpoints(
    agency_id: uuid.UUID, lines: Iterable[str], check: Check
) -> tuple[list[Checkpoint], list[Finding]]:
    """The checkpoints of an agency's lines in order, and what is wrong with them.

    When each bears the hash of the one before, the last one's signature vouches for all; else all are looked at.
    """
    found: list[Checkpoint] = []
    findings: list[Finding] = []

    def blame(number: int, why: str) -> None:
        findings.append(Finding("checkpoint_edited", agency_id, f"checkpoint {number}: {why}"))

    before: Checkpoint | None = None
    for number, line in enumerate(lines, start=1):
        try:
            checkpoint = read_checkpoint(line)
        except ValueError as error:
            blame(number, str(error))
            before = None
            continue
        if checkpoint.agency_id != agency_id:
            blame(number, "it is another agency's")
        elif number > 1 and before is None:
            pass  # the line before is the broken one
        elif checkpoint.previous != (FIRST if before is None else before.hash):
            blame(number, "what it says of the one before does not hold: that one was changed, taken away or put in")
        elif checkpoint.number != number:
            blame(number, f"it is number {checkpoint.number}")
        elif before is not None and checkpoint.position < before.position and checkpoint.kept is None:
            blame(number, "its position is before that of the one before")
        before = checkpoint
        found.append(checkpoint)
    doubtful = found if findings else found[-1:]
    for checkpoint in doubtful:
        if not is_signed(checkpoint, check):
            blame(checkpoint.number, f"no trusted key signed it (it names key {checkpoint.key_id})")
    return found, findings


def still_bound(checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
    """The checkpoints that the chain in the database must agree with.

    Those that a restored backup left without their rows are not among them: a later one says so, signed.
    """
    bound: list[Checkpoint] = []
    for checkpoint in checkpoints:
        if checkpoint.kept is not None:
            bound = [one for one in bound if one.position <= checkpoint.kept]
        bound.append(checkpoint)
    return bound


class Follower:
    """Follows one agency's chain, position by position, and notes where it is not what was written."""

    def __init__(
        self, agency_id: uuid.UUID, position: int, chain: bytes, checkpoints: Sequence[Checkpoint], most_findings: int
    ) -> None:
        """From after `position`, where the chain's hash was `chain`; findings beyond `most_findings` are counted."""
        self._agency_id = agency_id
        self._checkpoints = [one for one in checkpoints if one.position >= position]
        self._next = 0
        self._most = most_findings
        self.position = position
        self.chain = chain
        self.findings: list[Finding] = []
        self.found = 0
        self.taken = 0
        """Links taken."""
        self._agreed = position
        self._check_position()

    def _note(self, kind: str, text: str, position: int | None, audit_id: bytes | None = None) -> None:
        self.found += 1
        if len(self.findings) < self._most:
            identity = uuid.UUID(audit_id.decode()) if audit_id else None
            self.findings.append(Finding(kind, self._agency_id, text, position, identity))

    def _check_position(self) -> None:
        while self._next < len(self._checkpoints) and self._checkpoints[self._next].position <= self.position:
            checkpoint = self._checkpoints[self._next]
            if checkpoint.position < self.position:
                pass  # its link is gone, which is said already
            elif checkpoint.chain_hash != self.chain:
                self._note(
                    "checkpoint_contradicts",
                    f"the chain was hashed anew: at position {self.position} it is not what checkpoint"
                    f" {checkpoint.number} of {checkpoint.at} signed; rows after position {self._agreed} are in doubt",
                    self.position,
                )
            else:
                self._agreed = self.position
            self._next += 1

    def take(self, lines: Sequence[bytes]) -> None:
        """Take lines `position, form, row_hash, chain_hash, audit_id, canonical form of the row`, tabs between.

        The canonical form of a row that is not there begins with `\\N`.
        """
        self.taken += len(lines)
        sha256, hexlify = hashlib.sha256, binascii.hexlify
        chain, position = self.chain, self.position
        next_checkpoint = self._next_position()
        for line in lines:
            position += 1
            # A million rows are to take seconds: what a good line begins with is made and compared whole.
            place = b"%d" % position
            row = sha256(line[len(place) + _BEFORE_ROW :]).digest()
            following = sha256(chain + row).digest()
            if line.startswith(b"%b\t1\t%b\t%b\t" % (place, hexlify(row), hexlify(following))):
                chain = following
            else:
                position, chain = self._blame(line, position, chain)
            if position >= next_checkpoint:
                self.chain, self.position = chain, position
                self._check_position()
                next_checkpoint = self._next_position()
        self.chain, self.position = chain, position

    def _next_position(self) -> float:
        return self._checkpoints[self._next].position if self._next < len(self._checkpoints) else float("inf")

    def _blame(self, line: bytes, expected: int, chain: bytes) -> tuple[int, bytes]:
        """Say what is wrong with a line; its position and the hash that the next one must go on from."""
        place, form, row_hex, chain_hex, audit_id, canonical = line.split(b"\t", 5)
        position, row, stored = int(place), bytes.fromhex(row_hex.decode()), bytes.fromhex(chain_hex.decode())
        if position != expected:
            self._note("missing_link", f"the links from {expected} to {position - 1} are gone", expected)
        if form != str(FORM).encode():
            self._note("bad_link", f"a form {form.decode()} is not known", position, audit_id)
        elif canonical.startswith(rb"\N"):
            self._note("deleted", "the row is gone", position, audit_id)
        elif row_hash(canonical) != row:
            self._note("edited", "the row is not what was linked", position, audit_id)
        if chain_hash(chain, row) != stored:
            self._note("broken", "the chain breaks here: rows were reordered or put in", position, audit_id)
        return position, stored

    def end(self) -> None:
        """No more links: what checkpoints beyond them say is lost."""
        self._check_position()
        beyond = self._checkpoints[self._next :]
        if beyond:
            last = beyond[-1]
            self._note(
                "behind_checkpoints",
                f"the database ends at position {self.position}, but checkpoint {last.number} of {last.at} signed"
                f" position {last.position}: an old backup was restored, or the newest rows were removed",
                self.position,
            )
