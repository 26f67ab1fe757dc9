"""Identifiers: UUIDv7 for what is made, UUIDv5 for what must come out the same when computed again."""

from __future__ import annotations

import binascii
import hashlib
import secrets
import uuid

import uuid_utils.compat

NAMESPACE = uuid.UUID("6f1d5d0e-5e0c-5b51-9f0a-71d3c0a70a11")
"""Root of every derived identifier."""

TOKEN_BYTES = 32


def new_id() -> uuid.UUID:
    """A time-ordered UUIDv7."""
    return uuid_utils.compat.uuid7()


def derived_id(*parts: object) -> uuid.UUID:
    """The UUIDv5 of the parts: the same parts give the same id, in any process, for ever."""
    return uuid.uuid5(NAMESPACE, "\x1f".join(str(part) for part in parts))


def timed_id(moment_ms: int, *parts: object) -> uuid.UUID:
    """A UUIDv7 of `moment_ms` whose random bits follow from the parts: the same parts give the same id."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    value = (moment_ms & (1 << 48) - 1) << 80 | int.from_bytes(digest[:10])
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=value)


def shard_of(case_id: uuid.UUID, shard_count: int) -> int:
    """The shard a case lives on: crc32 of its canonical text form modulo the number of shards."""
    return binascii.crc32(str(case_id).encode()) % shard_count


def new_token(prefix: str) -> str:
    """A random bearer token of 256 bits with a prefix that tells its kind (and lets scanners find leaks)."""
    return f"{prefix}_{secrets.token_urlsafe(TOKEN_BYTES)}"


def token_digest(token: str) -> bytes:
    """SHA-256 of a random token, 32 bytes: what is stored and compared instead of the token itself."""
    return hashlib.sha256(token.encode()).digest()
