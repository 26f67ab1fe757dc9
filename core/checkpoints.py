"""Checkpoints of the audit's chain on disk: one file of lines an agency, only appended to, outside the database."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from core.domain.chain import MAX_LINE_BYTES
from core.errors import Misconfigured
from core.settings import Settings

FOLDER: Final = "checkpoints"


def checkpoint_directory(settings: Settings) -> Path:
    """Where checkpoints are kept: as set, else in the data directory."""
    return settings.checkpoint_dir or settings.data_dir / FOLDER


class CheckpointFiles:
    """The files of one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, agency_id: uuid.UUID) -> Path:
        """An agency's file."""
        return self.directory / f"{agency_id}.jsonl"

    def agencies(self) -> list[uuid.UUID]:
        """Whose checkpoints are here."""
        found = []
        for path in sorted(self.directory.glob("*.jsonl")):
            try:
                found.append(uuid.UUID(path.stem))
            except ValueError:
                continue
        return found

    def lines(self, agency_id: uuid.UUID) -> Iterator[str]:
        """An agency's lines from the first; one that was not written whole is left out. Raises OSError."""
        path = self.path(agency_id)
        if not path.exists():
            return
        with path.open("rb") as file:
            while line := file.readline(MAX_LINE_BYTES):
                if line.endswith(b"\n"):
                    yield line[:-1].decode(errors="replace")
                elif len(line) == MAX_LINE_BYTES:
                    yield line.decode(errors="replace")

    def last(self, agency_id: uuid.UUID) -> str | None:
        """An agency's newest whole line. Raises OSError."""
        path = self.path(agency_id)
        if not path.exists():
            return None
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 2 * MAX_LINE_BYTES))
            whole = file.read().split(b"\n")[:-1]
        return whole[-1].decode(errors="replace") if whole else None

    def append(self, agency_id: uuid.UUID, lines: Iterable[str]) -> None:
        """Add lines and have them on disk. Raises Misconfigured when the directory cannot be written."""
        path = self.path(agency_id)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            made = not path.exists()
            with path.open("ab") as file:
                _mend(file.fileno(), path)
                file.write("".join(f"{line}\n" for line in lines).encode())
                file.flush()
                os.fsync(file.fileno())
            if made:
                folder = os.open(self.directory, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
        except OSError as error:
            raise Misconfigured(f"The checkpoints in {self.directory} cannot be written: {error.strerror}.") from error


def _mend(descriptor: int, path: Path) -> None:
    """Cut off a line that was not written whole before the machine stopped."""
    size = os.fstat(descriptor).st_size
    if size == 0:
        return
    with path.open("rb") as file:
        start = max(0, size - MAX_LINE_BYTES)
        file.seek(start)
        tail = file.read()
    if not tail.endswith(b"\n"):
        os.ftruncate(descriptor, start + tail.rfind(b"\n") + 1)
