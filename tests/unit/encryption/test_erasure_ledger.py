"""The erasure ledger is added to, never changed; a changed, missing or foreign line is found."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

from core.erasure_ledger import Erasure, ErasureLedger
from core.errors import Misconfigured
from core.signing import KeyRing, Signer, new_signer

AT = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


def some(count: int) -> list[Erasure]:
    return [Erasure(uuid.uuid4(), uuid.uuid4(), AT, "request") for _ in range(count)]


@pytest.fixture
def signer() -> Signer:
    return new_signer()


@pytest.fixture
def ledger(tmp_path: Path, signer: Signer) -> ErasureLedger:
    return ErasureLedger(tmp_path / "apart" / "erasures.jsonl", signer, KeyRing([signer.public_key_bytes]))


def test_there_is_no_line_before_the_first_erasure(ledger: ErasureLedger) -> None:
    assert ledger.read() == []
    assert not ledger.path.exists()


def test_lines_are_read_as_they_were_added_and_only_their_owner_may_read_them(ledger: ErasureLedger) -> None:
    first, second = some(3), some(2)
    ledger.append(first)
    ledger.append(second)
    assert ledger.read() == [*first, *second]
    assert ledger.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("line", [0, 1, 2])
def test_a_line_that_was_changed_left_out_or_moved_is_found(ledger: ErasureLedger, line: int) -> None:
    ledger.append(some(4))
    lines = ledger.path.read_bytes().splitlines(keepends=True)
    changed = lines[line].replace(b'"request"', b'"retired"')
    for forged in (
        [*lines[:line], changed, *lines[line + 1 :]],
        [*lines[:line], *lines[line + 1 :]],
        [*lines[:line], lines[line + 1], lines[line], *lines[line + 2 :]],
        [*lines[:line], lines[line], *lines[line:]],
    ):
        ledger.path.write_bytes(b"".join(forged))
        with pytest.raises(Misconfigured, match="was changed"):
            ledger.read()
        with pytest.raises(Misconfigured, match="was changed"):
            ledger.append(some(1))


def test_a_line_that_a_stranger_signed_is_found(ledger: ErasureLedger) -> None:
    stranger = new_signer()
    ErasureLedger(ledger.path, stranger, KeyRing([stranger.public_key_bytes])).append(some(1))
    with pytest.raises(Misconfigured, match="Line 1"):
        ledger.read()


def test_lines_of_an_earlier_key_stay_good(ledger: ErasureLedger, signer: Signer) -> None:
    ledger.append(some(2))
    later = new_signer()
    renewed = ErasureLedger(ledger.path, later, KeyRing([later.public_key_bytes, signer.public_key_bytes]))
    renewed.append(some(1))
    assert len(renewed.read()) == 3


def test_a_last_line_torn_by_a_crash_is_left_out_and_written_over(ledger: ErasureLedger) -> None:
    kept = some(2)
    ledger.append(kept)
    with ledger.path.open("ab") as file:
        file.write(b'{"person_id":"0195')
    assert ledger.read() == kept
    more = some(1)
    ledger.append(more)
    assert ledger.read() == [*kept, *more]
