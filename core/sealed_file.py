"""A file of this machine that only this installation reads: what a process has to know while a store is away.

    magic | frames: length (4) · nonce (12) · AES-256-GCM ciphertext and tag

Each frame is bound to the file's purpose, its place and whether it is the last one, so that a file cut short, mixed
with another or moved is no file at all. It is written beside the old one and takes its name once it is on disk: there
is always a whole one. The key is handed in; it derives from the installation's token key (`core.token_key`), so it is
there with PostgreSQL and the key service away.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC: Final = b"QSF1"
LENGTH: Final = struct.Struct("<I")
NONCE_BYTES: Final = 12
FRAME_BYTES_MAX: Final = 16 * 1024 * 1024


class Unreadable(Exception):  # noqa: N818 - it is what the sentence says
    """The file was changed, cut short, or sealed with another key or for another purpose."""


class TooBig(Exception):  # noqa: N818
    """What was to be written is beyond the file's bound; the old file stays."""


class SealedFile:
    """One file; every method may block on the disk."""

    def __init__(self, path: Path, key: bytes, purpose: str, *, bytes_max: int) -> None:
        """`key`: 32 bytes; `purpose` tells this file from any other under the same key."""
        self.path = path
        self._cipher = AESGCM(key)
        self._purpose = purpose.encode()
        self._bytes_max = bytes_max

    def write(self, frames: Iterable[bytes]) -> int:
        """Replace the file by these frames, mode 0600, whole or not at all; returns its bytes.

        Raises OSError, and TooBig beyond `bytes_max`.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = self.path.with_name(f"{self.path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                size = self._write(file, frames)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            raise
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return size

    def _write(self, file: BinaryIO, frames: Iterable[bytes]) -> int:
        size = file.write(MAGIC)
        place = 0
        held: bytes | None = None
        for frame in frames:  # one behind: the last frame says that it is
            if held is not None:
                size += self._frame(file, held, place, last=False)
                place += 1
            held = frame
            if size > self._bytes_max:
                raise TooBig
        size += self._frame(file, held or b"", place, last=True)
        if size > self._bytes_max:
            raise TooBig
        return size

    def _frame(self, file: BinaryIO, frame: bytes, place: int, *, last: bool) -> int:
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, frame, self._bound(place, last))
        return file.write(LENGTH.pack(len(sealed)) + nonce + sealed)

    def _bound(self, place: int, last: bool) -> bytes:
        return b"\x1f".join((b"qorgan file", self._purpose, str(place).encode(), b"last" if last else b"more"))

    def read(self) -> Iterator[bytes]:
        """The frames in their order. Raises FileNotFoundError, OSError; Unreadable, also after frames that were right:
        take nothing from a file before its end was reached."""
        with self.path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise Unreadable("it is no sealed file")
            place, ended = 0, False
            while header := file.read(LENGTH.size):
                if ended or len(header) < LENGTH.size:
                    raise Unreadable("something follows its end")
                (length,) = LENGTH.unpack(header)
                if length > FRAME_BYTES_MAX:
                    raise Unreadable("a frame is beyond its bound")
                nonce, sealed = file.read(NONCE_BYTES), file.read(length)
                frame, ended = self._opened(nonce, sealed, place)
                place += 1
                yield frame
            if not ended:
                raise Unreadable("it was cut short")

    def _opened(self, nonce: bytes, sealed: bytes, place: int) -> tuple[bytes, bool]:
        for last in (False, True):
            with contextlib.suppress(InvalidTag, ValueError):
                return self._cipher.decrypt(nonce, sealed, self._bound(place, last)), last
        raise Unreadable("a frame does not open")

    def remove(self) -> None:
        """Have no such file."""
        self.path.unlink(missing_ok=True)
