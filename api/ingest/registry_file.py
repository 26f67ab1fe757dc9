"""The registry on this machine's disk: what a process started while PostgreSQL is away knows devices by.

A sealed file (`core.sealed_file`) of devices and token digests as the registry holds them, rewritten some seconds
after a change and seconds apart at the least. No token, no name and no position is in it; a token cannot be made from
its digest.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import Final, TypeVar

import msgspec
import structlog

from core.sealed_file import SealedFile, TooBig, Unreadable
from core.settings import Settings
from core.token_key import derived_key

log = structlog.get_logger(__name__)

FOLDER: Final = "last-known"
BYTES_MAX: Final = 256 * 1024 * 1024
"""About a million devices."""
BATCH: Final = 1_000
"""Rows encoded in one go: a millisecond of the event loop."""
WRITE_DELAY_S: Final = 2.0
WRITE_EVERY_S: Final = 30.0
"""Least time between two writings of a file, however much changes."""
LOADS_MAX: Final = 2_000_000

DeviceRow = tuple[
    int, uuid.UUID, str, str, uuid.UUID | None, uuid.UUID, tuple[int, ...], float, str,
    str | None, bytes | None, int | None,
]  # fmt: skip
"""As `core.postgres.registry.device_changes` gives them."""
TokenRow = tuple[bytes, str | None, str | None, uuid.UUID | None, datetime | None, bool | None]
"""As `token_changes` gives them, but that of a revocation only the fact is kept, and no agency of a device's token."""


class Frame(msgspec.Struct, array_like=True):
    """A part of the file."""

    devices: list[DeviceRow]
    tokens: list[TokenRow]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Frame).decode


Row = TypeVar("Row")


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    rest = iter(rows)
    while batch := list(islice(rest, BATCH)):
        yield batch


class RegistryFile:
    """Where one process keeps its registry."""

    def __init__(self, settings: Settings, target: str, index: int = 0) -> None:
        """`target`: api or ingest; each has a file of its own, which the first of its processes writes for all.

        Raises Misconfigured without a token key.
        """
        self._writes = index == 0
        self._file = SealedFile(
            settings.data_dir / FOLDER / f"registry.{target}.sealed",
            derived_key(settings, "last known"),
            "registry",
            bytes_max=BYTES_MAX,
        )

    async def write(self, devices: Iterable[DeviceRow], tokens: Iterable[TokenRow]) -> bool:
        """Replace the file; whether the disk took it. The event loop is given way to after each batch."""
        if not self._writes:
            return True
        frames = []
        for device_rows in _batches(devices):
            frames.append(_encode(Frame(device_rows, [])))
            await asyncio.sleep(0)
        for token_rows in _batches(tokens):
            frames.append(_encode(Frame([], token_rows)))
            await asyncio.sleep(0)
        try:
            await asyncio.to_thread(self._file.write, frames)
        except (OSError, TooBig) as error:
            log.error("registry_not_kept", error=type(error).__name__)
            return False
        return True

    def read(self) -> Frame | None:
        """Everything in the file; None when there is none that can be read."""
        found = Frame([], [])
        try:
            for frame in self._file.read():
                part = _decode(frame)
                found.devices += part.devices
                found.tokens += part.tokens
                if len(found.devices) + len(found.tokens) > LOADS_MAX:
                    raise Unreadable("it is beyond its bound")
        except FileNotFoundError:
            return None
        except (OSError, Unreadable, msgspec.DecodeError) as error:
            log.error("registry_not_read", error=type(error).__name__)
            return None
        return found


class Writing:
    """When the file is to be rewritten: a moment after a change, and not too often."""

    def __init__(self) -> None:
        self._changed_at: float | None = None
        self._written_at = float("-inf")

    def note(self, now: float) -> None:
        """Something changed at a moment of the monotonic clock."""
        if self._changed_at is None:
            self._changed_at = now

    def is_due(self, now: float) -> bool:
        """Whether to write now."""
        return (
            self._changed_at is not None
            and now >= self._changed_at + WRITE_DELAY_S
            and now >= self._written_at + WRITE_EVERY_S
        )

    @property
    def is_behind(self) -> bool:
        """Whether the file lacks something."""
        return self._changed_at is not None

    def begin(self, now: float) -> None:
        """The file is being written with everything noted so far."""
        self._changed_at, self._written_at = None, now
