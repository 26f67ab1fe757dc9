"""Outage sheets kept sealed on this machine's disk, for when the database itself is away."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from core.evidence.outage_sheet import Sheet
from core.sealed_file import SealedFile
from core.settings import Settings
from core.token_key import derived_key

BYTES_MAX: Final = 64 * 1024 * 1024
"""Some 100,000 pairs."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Sheet).decode


def _file(settings: Settings) -> SealedFile:
    path = settings.data_dir / "last-known" / "outage-sheets.sealed"
    return SealedFile(path, derived_key(settings, "outage sheets"), "outage sheets", bytes_max=BYTES_MAX)


def write(settings: Settings, sheets: Iterable[Sheet]) -> int:
    """Replace the kept sheets; bytes written. Raises OSError, TooBig."""
    return _file(settings).write(_encode(sheet) for sheet in sheets)


def read(settings: Settings) -> list[Sheet]:
    """The kept sheets, each marked as a copy. Raises FileNotFoundError, OSError, Unreadable."""
    return [msgspec.structs.replace(_decode(frame), copy=True) for frame in _file(settings).read()]
