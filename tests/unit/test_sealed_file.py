"""A sealed file is read whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from core.sealed_file import SealedFile, TooBig, Unreadable

KEY = bytes(range(32))


def file_at(path: Path, purpose: str = "test", key: bytes = KEY, bytes_max: int = 10_000) -> SealedFile:
    return SealedFile(path / "known" / "file.sealed", key, purpose, bytes_max=bytes_max)


def test_what_was_written_is_read_and_nobody_else_may_look(tmp_path: Path) -> None:
    file = file_at(tmp_path)
    frames = [b"her sister", b"", b"the desk"]
    size = file.write(frames)
    assert list(file_at(tmp_path).read()) == frames
    assert file.path.stat().st_size == size
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert b"sister" not in file.path.read_bytes()
    assert list(file.path.parent.iterdir()) == [file.path], "no draft stays behind"


def test_nothing_at_all_is_something_too(tmp_path: Path) -> None:
    file = file_at(tmp_path)
    with pytest.raises(FileNotFoundError):
        list(file.read())
    file.write([])
    assert list(file.read()) == [b""]


@pytest.mark.parametrize("change", ["cut", "changed", "swapped", "longer", "other"])
def test_a_file_that_was_touched_is_none(tmp_path: Path, change: str) -> None:
    file = file_at(tmp_path)
    file.write([b"a" * 20, b"b" * 20, b"c" * 20])
    whole = file.path.read_bytes()
    head, frame = whole[:4], (len(whole) - 4) // 3
    first, second, third = (whole[4 + n * frame : 4 + (n + 1) * frame] for n in range(3))
    file.path.write_bytes(
        {
            "cut": head + first + second,
            "changed": whole[:-1] + bytes([whole[-1] ^ 1]),
            "swapped": head + second + first + third,
            "longer": whole + first,
            "other": b"nothing sealed",
        }[change]
    )
    with pytest.raises(Unreadable):
        list(file.read())


def test_another_key_or_purpose_opens_nothing(tmp_path: Path) -> None:
    file_at(tmp_path).write([b"a"])
    for other in (file_at(tmp_path, key=bytes(32)), file_at(tmp_path, purpose="else")):
        with pytest.raises(Unreadable):
            list(other.read())


def test_beyond_its_bound_the_old_file_stays(tmp_path: Path) -> None:
    file = file_at(tmp_path, bytes_max=1_000)
    file.write([b"old"])
    with pytest.raises(TooBig):
        file.write(os.urandom(600) for _ in range(3))
    assert list(file.read()) == [b"old"]
    assert list(file.path.parent.iterdir()) == [file.path]
