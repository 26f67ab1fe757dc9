"""The panic journal holds what was written, through death and torn writes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from api import panic_journal
from api.panic_journal import PanicJournal


def reopened(journal: PanicJournal) -> list[bytes]:
    """What waits in the journal as another process finds it after this one died."""
    os.close(journal._descriptor)
    return [payload for found in PanicJournal.abandoned(journal.path.parent) for _, payload in found.waiting()]


def test_what_was_appended_is_found_after_death_and_what_was_settled_is_not(tmp_path: Path) -> None:
    journal = PanicJournal.create(tmp_path)
    places = [journal.append(f"panic {n}".encode()) for n in range(5)]
    journal.settle(places[1])
    journal.settle(places[1])
    assert reopened(journal) == [b"panic 0", b"panic 2", b"panic 3", b"panic 4"]


def test_a_torn_last_record_is_left_out(tmp_path: Path) -> None:
    journal = PanicJournal.create(tmp_path)
    journal.append(b"whole")
    torn = journal.append(b"torn")
    os.pwrite(journal._descriptor, b"X", torn + panic_journal.HEADER.size)
    assert reopened(journal) == [b"whole"]


def test_once_all_is_settled_writing_starts_at_the_front_and_old_records_stay_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(panic_journal, "RESTART_BYTES", 100)
    journal = PanicJournal.create(tmp_path)
    for _ in range(10):
        journal.settle(journal.append(b"x" * 40))
    journal.append(b"x" * 40)
    assert reopened(journal) == [b"x" * 40]


def test_it_grows_beyond_what_was_preallocated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panic_journal, "PREALLOCATED_BYTES", 100)
    monkeypatch.setattr(panic_journal, "GROWTH_BYTES", 50)
    journal = PanicJournal.create(tmp_path)
    for n in range(30):
        journal.append(bytes([n]) * 33)
    assert reopened(journal) == [bytes([n]) * 33 for n in range(30)]


def test_a_full_journal_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panic_journal, "JOURNAL_BYTES_MAX", 64)
    journal = PanicJournal.create(tmp_path)
    journal.append(b"x")
    with pytest.raises(OSError, match="full"):
        journal.append(b"x" * 64)
    journal.close()


def test_a_living_writer_s_journal_is_nobody_else_s(tmp_path: Path) -> None:
    journal = PanicJournal.create(tmp_path)
    journal.append(b"mine")
    assert list(PanicJournal.abandoned(tmp_path)) == []
    journal.close()
    journal.close()


def test_a_journal_with_nothing_waiting_is_removed_when_closed(tmp_path: Path) -> None:
    journal = PanicJournal.create(tmp_path)
    journal.settle(journal.append(b"x"))
    journal.close()
    assert list(tmp_path.iterdir()) == []


def test_what_is_in_hand_is_left_to_nobody_until_it_is_released(tmp_path: Path) -> None:
    journal = PanicJournal.create(tmp_path)
    first, second = journal.append(b"first"), journal.append(b"second")
    assert journal.left() == []
    journal.release(second)
    journal.settle(first)
    assert journal.left() == journal.waiting() == [(second, b"second")]
    journal.close()
