"""What a connection is told is durable."""

from __future__ import annotations

import pytest

from api.ingest.ledger import NEVER, Ledger


@pytest.fixture
def ledger() -> Ledger:
    """A new connection's."""
    return Ledger()


def come(ledger: Ledger, *seqs: int | None) -> None:
    """A frame for each `seq`."""
    for seq in seqs:
        ledger.frames += 1
        number = ledger.number_of(seq)
        ledger.count(number, number)


def tell(ledger: Ledger) -> int | None:
    """What is told now."""
    number = ledger.news()
    if number is not None:
        ledger.acked = number
    return number


def flush(ledger: Ledger) -> int | None:
    """A generation is sealed and durable; what is told then."""
    ledger.seal()
    ledger.durable()
    return tell(ledger)


def test_nothing_is_told_before_it_is_durable(ledger: Ledger) -> None:
    come(ledger, 1, 2)
    assert tell(ledger) is None
    ledger.seal()
    assert tell(ledger) is None
    ledger.durable()
    assert tell(ledger) == 2
    assert tell(ledger) is None


def test_what_came_after_the_seal_waits_for_its_own_generation(ledger: Ledger) -> None:
    come(ledger, 1)
    ledger.seal()
    come(ledger, 2)
    ledger.durable()
    assert tell(ledger) == 1
    assert flush(ledger) == 2


def test_without_seq_frames_are_counted(ledger: Ledger) -> None:
    come(ledger, None, None, None)
    assert flush(ledger) == 3


def test_seq_0_is_a_number(ledger: Ledger) -> None:
    come(ledger, 0)
    assert flush(ledger) == 0


def test_once_there_is_a_seq_counted_frames_say_nothing(ledger: Ledger) -> None:
    come(ledger, None, None, None)
    come(ledger, 0)
    come(ledger, None)
    assert flush(ledger) == 0


def test_a_lower_number_on_its_way_holds_the_acknowledgement_below_it(ledger: Ledger) -> None:
    come(ledger, 10)
    ledger.seal()
    come(ledger, 5)
    ledger.durable()
    assert tell(ledger) is None
    assert flush(ledger) == 10


def test_what_is_sent_again_is_told_again(ledger: Ledger) -> None:
    come(ledger, 1, 2, 3)
    assert flush(ledger) == 3
    come(ledger, 2)
    assert flush(ledger) == 3


def test_nothing_from_a_gap_on_is_told_until_it_is_sent_again(ledger: Ledger) -> None:
    come(ledger, 1)
    assert flush(ledger) == 1
    ledger.drop(2)
    come(ledger, 4)
    assert flush(ledger) is None
    come(ledger, 2)
    assert ledger.gap == NEVER
    assert flush(ledger) == 2
    come(ledger, 3, 4)
    assert flush(ledger) == 4


def test_what_was_sealed_before_a_gap_closed_says_nothing_of_what_must_come_again(ledger: Ledger) -> None:
    ledger.drop(ledger.number_of(1))
    come(ledger, 9)
    ledger.seal()
    come(ledger, 1)
    ledger.durable()
    assert tell(ledger) is None
    assert flush(ledger) == 1


def test_a_lost_generation_is_a_gap(ledger: Ledger) -> None:
    come(ledger, 1, 2)
    ledger.seal()
    come(ledger, 3)
    ledger.lost()
    assert flush(ledger) is None
    assert ledger.gap == 1


def test_a_gap_in_counted_frames_is_never_passed(ledger: Ledger) -> None:
    come(ledger, None)
    assert flush(ledger) == 1
    ledger.frames += 1
    ledger.drop(ledger.number_of(None))
    come(ledger, None, None)
    assert flush(ledger) is None


def test_closing_a_gap_forgets_nothing_below_it_that_is_not_durable(ledger: Ledger) -> None:
    come(ledger, 1)
    flush(ledger)
    come(ledger, 2)
    ledger.seal()
    ledger.drop(3)
    come(ledger, 3)  # sent again while 2 is still being appended
    ledger.lost()
    assert flush(ledger) is None
    come(ledger, 2, 3)
    assert flush(ledger) == 3
