"""The panic journal: a panic is on this machine's disk before anything else is tried.

One file a process, preallocated (so that a full disk cannot refuse a panic), locked by its writer with `flock`. A
record is a header and a payload; when PostgreSQL has the panic its record is marked settled in place. That mark need
not be durable: a panic taken again is found made already. The journal of a process that died is read by whoever gets
its lock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import threading
import zlib
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Final

from core.ids import new_id

HEADER: Final = struct.Struct("<4sIIB3x")
"""Magic, payload length, CRC-32 of the payload, mark."""
MAGIC: Final = b"QPJ1"
WAITING: Final = ord("W")
SETTLED: Final = ord("S")
MARK_OFFSET: Final = 12
ALIGNMENT: Final = 8
PREALLOCATED_BYTES: Final = 4 * 1024 * 1024
GROWTH_BYTES: Final = 1024 * 1024
JOURNAL_BYTES_MAX: Final = 256 * 1024 * 1024
"""A journal that long means PostgreSQL has been away through some 100,000 panics."""
RESTART_BYTES: Final = 1024 * 1024
"""Once everything is settled, writing starts again at the front beyond this."""
CLOSE_WAIT_S: Final = 2.0
"""How long closing waits for a record that is being written."""
SUFFIX: Final = ".journal"


class PanicJournal:
    """One file of panics; every method may block on the disk, and may be called from any thread."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._writing = threading.Lock()
        """Held by who writes a record, for as long as the disk takes."""
        self._guard = threading.Lock()
        """Held for a moment, by who looks at what is waiting: never while the disk syncs."""
        self._end = 0
        self._size = os.fstat(descriptor).st_size
        self._waiting: dict[int, bytes] = {}
        self._in_hand: set[int] = set()
        self._scan()

    @classmethod
    def create(cls, directory: Path) -> PanicJournal:
        """A new, locked, preallocated journal in `directory`; raises OSError when the disk does not give it."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = directory / f"panic-{os.getpid()}-{new_id()}{SUFFIX}"
        # It gets its name once it is locked: nobody may take it for a dead process's in between.
        unnamed = path.with_suffix(".new")
        descriptor = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(descriptor, 0, PREALLOCATED_BYTES)
            os.fsync(descriptor)
            unnamed.rename(path)
            folder = os.open(directory, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError:
            os.close(descriptor)
            unnamed.unlink(missing_ok=True)
            raise
        return cls(path, descriptor)

    @classmethod
    def abandoned(cls, directory: Path) -> Generator[PanicJournal]:
        """Journals whose writers are gone, each locked by us while it is looked at and closed after."""
        for path in sorted(directory.glob(f"*{SUFFIX}")):
            try:
                descriptor = os.open(path, os.O_RDWR)
            except OSError:
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                continue
            journal = cls(path, descriptor)
            try:
                yield journal
            finally:
                journal.close()

    def append(self, payload: bytes) -> int:
        """Write a payload and have it on disk; returns its place, which stays in hand until released or settled.
        Raises OSError when the disk refuses."""
        return self.append_all([payload])[0]

    def append_all(self, payloads: Sequence[bytes]) -> list[int]:
        """The same for several, with one wait for the disk; all of them or none is in hand."""
        with self._writing:
            with self._guard:
                if not self._waiting and self._end > RESTART_BYTES:
                    self._end = 0
                end = self._end
            places = []
            for payload in payloads:
                places.append(end)
                end = self._put(payload, end)
            os.fdatasync(self._descriptor)
            with self._guard:
                self._waiting.update(zip(places, payloads, strict=True))
                self._in_hand.update(places)
                self._end = end
            return places

    def _put(self, payload: bytes, place: int) -> int:
        """Write one record; returns where the next one goes."""
        record = HEADER.pack(MAGIC, len(payload), zlib.crc32(payload), WAITING) + payload
        end = place + len(record) + -len(record) % ALIGNMENT
        if end > JOURNAL_BYTES_MAX:
            raise OSError(errno.EFBIG, "the panic journal is full")
        if end + HEADER.size > self._size:
            os.posix_fallocate(self._descriptor, self._size, max(GROWTH_BYTES, end + HEADER.size - self._size))
            self._size = os.fstat(self._descriptor).st_size
        # The header after this record is cleared with it: what an earlier round left there is not read again.
        os.pwrite(self._descriptor, record + bytes(end - place - len(record) + HEADER.size), place)
        return end

    def settle(self, place: int) -> None:
        """PostgreSQL has it; a second call does nothing."""
        with self._guard:
            self._in_hand.discard(place)
            if self._waiting.pop(place, None) is not None and self._descriptor >= 0:
                os.pwrite(self._descriptor, bytes([SETTLED]), place + MARK_OFFSET)

    def release(self, place: int) -> None:
        """Whoever wrote it is done trying: it is the drain's now."""
        with self._guard:
            self._in_hand.discard(place)

    def left(self) -> list[tuple[int, bytes]]:
        """(place, payload) of what is neither settled nor in hand, oldest first."""
        with self._guard:
            return sorted((place, payload) for place, payload in self._waiting.items() if place not in self._in_hand)

    def count(self) -> int:
        """How many records are not settled."""
        with self._guard:
            return len(self._waiting)

    def waiting(self) -> list[tuple[int, bytes]]:
        """(place, payload) of what is not settled, oldest first."""
        with self._guard:
            return sorted(self._waiting.items())

    def close(self) -> None:
        """Let go of the file, and remove it when nothing in it waits; a second call does nothing."""
        if not self._writing.acquire(timeout=CLOSE_WAIT_S):
            return  # the disk hangs in the middle of a record: the file is let go with the process
        with self._guard:
            if self._descriptor >= 0:
                if not self._waiting:
                    with contextlib.suppress(FileNotFoundError):
                        self.path.unlink()
                os.close(self._descriptor)
                self._descriptor = -1
        self._writing.release()

    def _scan(self) -> None:
        """Find the records; a torn last one (the machine went down while writing) was never answered for."""
        place = 0
        while True:
            header = os.pread(self._descriptor, HEADER.size, place)
            if len(header) < HEADER.size:
                return
            magic, length, checksum, mark = HEADER.unpack(header)
            if magic != MAGIC:
                return
            payload = os.pread(self._descriptor, length, place + HEADER.size)
            if len(payload) < length or zlib.crc32(payload) != checksum:
                return
            if mark == WAITING:
                self._waiting[place] = payload
            size = HEADER.size + length
            place += size + -size % ALIGNMENT
            self._end = place
