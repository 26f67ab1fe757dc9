"""Key-encryption keys: what wraps the data keys of people and agencies, and where they are kept.

Three kinds of ring behind one interface. `LocalRing` holds the keys themselves, from a file (`key_file`, made when
there is none) or from a secret setting (`keys`); `core.kms.TransitRing` asks a key service, and never sees one.
A ring reads with every key it has and wraps with the current one, so that keys are replaced while everything runs.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import structlog

from core.aead import AESGCM, InvalidTag, decrypt, encrypt
from core.domain.sealing import KEY_BYTES, Owner
from core.errors import Misconfigured
from core.files import write_whole
from core.settings import Settings

log = structlog.get_logger(__name__)

FILE_NAME: Final = "vault.keys"
KEY_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A data key as it is stored."""

    key_id: str
    """The key-encryption key that wrapped it."""
    blob: bytes = field(repr=False)


class KeyLost(Exception):  # noqa: N818 - it is what the sentence says
    """A data key cannot be unwrapped: its key-encryption key is not in the ring, or it was changed."""


class KeyRing(Protocol):
    """Key-encryption keys, of which one is current."""

    async def current_id(self) -> str:
        """The id of the key that wraps now."""

    async def wrap(self, keys: Sequence[tuple[Owner, bytes]]) -> list[Wrapped]:
        """Data keys wrapped with the current key, each for its owner alone. Raises StoreUnavailable."""

    async def unwrap(self, keys: Sequence[tuple[Owner, Wrapped]]) -> list[bytes]:
        """Data keys, 32 bytes each. Raises KeyLost for one that does not open, StoreUnavailable."""

    async def rewrap(self, keys: Sequence[tuple[Owner, Wrapped]]) -> list[Wrapped]:
        """The same data keys wrapped with the current key. Raises KeyLost, StoreUnavailable."""

    async def aclose(self) -> None:
        """Let go of connections; a second call does nothing."""


class LocalRing:
    """Keys in this process's memory. With a `path`, a file that was changed since is read again before it wraps, and
    when a key is asked for that was not in it."""

    def __init__(self, keys: dict[str, bytes], path: Path | None = None) -> None:
        self._path = path
        self._read_at = path.stat().st_mtime_ns if path is not None else 0
        self._current = ""
        self._ciphers: dict[str, AESGCM] = {}
        self._take(keys)

    def _take(self, keys: dict[str, bytes]) -> None:
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._current = next(iter(keys))

    @property
    def key_ids(self) -> tuple[str, ...]:
        """Every key it reads with, the current one first."""
        return tuple(self._ciphers)

    def _look_again(self) -> None:
        if self._path is None:
            return
        with contextlib.suppress(OSError):  # gone for a moment or for good: the keys in memory go on
            changed_at = self._path.stat().st_mtime_ns
            if changed_at != self._read_at:
                self._read_at = changed_at
                try:
                    self._take(read_key_file(self._path))
                except Misconfigured as error:  # being edited, or damaged: the same
                    log.error("key_file_not_read", reason=error.detail)

    async def current_id(self) -> str:
        self._look_again()
        return self._current

    async def wrap(self, keys: Sequence[tuple[Owner, bytes]]) -> list[Wrapped]:
        self._look_again()
        cipher = self._ciphers[self._current]
        return [Wrapped(self._current, encrypt(cipher, key, _bound(owner))) for owner, key in keys]

    async def unwrap(self, keys: Sequence[tuple[Owner, Wrapped]]) -> list[bytes]:
        return [self._unwrap(owner, wrapped) for owner, wrapped in keys]

    def _unwrap(self, owner: Owner, wrapped: Wrapped) -> bytes:
        if wrapped.key_id not in self._ciphers:
            self._look_again()
        cipher = self._ciphers.get(wrapped.key_id)
        if cipher is None:
            raise KeyLost(f"the key {wrapped.key_id!r:.80} is not in the ring")
        try:
            return decrypt(cipher, wrapped.blob, _bound(owner))
        except InvalidTag:
            raise KeyLost("a data key does not open: it was changed, or belongs to another owner") from None

    async def rewrap(self, keys: Sequence[tuple[Owner, Wrapped]]) -> list[Wrapped]:
        opened = await self.unwrap(keys)
        return await self.wrap([(owner, key) for (owner, _), key in zip(keys, opened, strict=True)])

    async def aclose(self) -> None:
        return


def _bound(owner: Owner) -> bytes:
    return b"qorgan data key\x1f" + owner.header


def new_key_line(key_id: str) -> str:
    """A line of a key file with a fresh key."""
    return f"{key_id}:{base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}"


def read_keys(text: str, source: str) -> dict[str, bytes]:
    """Keys by id in their order, the current one first, out of `id:base64` separated by commas, spaces or lines.

    Raises Misconfigured, which names `source` and never a key.
    """
    keys: dict[str, bytes] = {}
    for entry in re.split(r"[,\s]+", re.sub(r"(?m)^\s*#.*$", "", text).strip()):
        key_id, colon, encoded = entry.partition(":")
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not colon or not KEY_ID.fullmatch(key_id) or len(key) != KEY_BYTES or key_id in keys:
            raise Misconfigured(
                f"{source} needs keys as id:base64 of {KEY_BYTES} bytes each, every id once, the current key first."
            )
        keys[key_id] = key
    return keys


def read_key_file(path: Path) -> dict[str, bytes]:
    """The keys of a file. Raises Misconfigured when it cannot be read, or others than its owner may read it."""
    try:
        if path.stat().st_mode & 0o077:
            raise Misconfigured(f"The key file {path} is open to others; make its mode 0600.")
        return read_keys(path.read_text("ascii"), f"The key file {path}")
    except OSError as error:
        raise Misconfigured(f"The key file {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError:
        raise Misconfigured(f"The key file {path} is no list of keys.") from None


def make_key_file(path: Path, text: str, *, replace: bool = False) -> None:
    """Write a key file, mode 0600: whole or not at all. Without `replace`, the one that is there wins.

    Raises OSError.
    """
    write_whole(path, text.encode("ascii"), 0o600, replace=replace)


def key_path(settings: Settings) -> Path:
    """Where the key file is or will be."""
    return settings.key_file or settings.data_dir / FILE_NAME


def load_ring(settings: Settings) -> KeyRing:
    """The ring that the settings ask for: a key service, keys from a secret, or a key file, made when there is none.

    Raises Misconfigured.
    """
    if settings.kms_url is not None:
        from core.kms import TransitRing

        return TransitRing.of(settings)
    if settings.keys is not None:
        return LocalRing(read_keys(settings.keys.get_secret_value(), "QORGAN_KEYS"))
    path = key_path(settings)
    try:
        if not path.exists():
            if settings.key_file is not None:
                raise Misconfigured(f"The key file {path} is not there; `qorgan keys new` makes one.")
            make_key_file(path, new_key_line("k1") + "\n")
    except OSError as error:
        raise Misconfigured(f"The key file {path} cannot be made: {error.strerror}.") from error
    return LocalRing(read_key_file(path), path)
