"""Whatever comes, is lost, and is sent again: no acknowledgement passes what is not durable."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from api.ingest.ledger import Ledger

STEPS = st.lists(st.sampled_from(["send", "resend", "drop", "seal", "durable", "lost", "tell"]), max_size=60)


@given(STEPS)
def test_everything_at_or_below_an_acknowledgement_is_durable(steps: list[str]) -> None:
    """The peer sends rising numbers, and at times starts again behind the last it was told, as devices do."""
    ledger = Ledger()
    next_seq, told = 0, -1
    filling: set[int] = set()
    sealed: set[int] | None = None
    durable: set[int] = set()
    for step in steps:
        if step in ("send", "drop"):
            number = ledger.number_of(next_seq)
            if step == "send":
                ledger.count(number, number)
                filling.add(number)
            else:
                ledger.drop(number)
            next_seq += 1
        elif step == "resend":
            next_seq = told + 1
        elif step == "seal" and sealed is None:
            ledger.seal()
            sealed, filling = filling, set()
        elif step == "durable" and sealed is not None:
            ledger.durable()
            durable |= sealed
            sealed = None
        elif step == "lost" and sealed is not None:
            ledger.lost()
            sealed = None
        elif step == "tell" and (news := ledger.news()) is not None:
            ledger.acked = told = news
            assert set(range(told + 1)) <= durable, "acknowledged, and not on disk"


@given(STEPS, st.integers(1, 20))
def test_who_sends_again_is_acknowledged_in_the_end(steps: list[str], count: int) -> None:
    """After any history, sending everything again and a flush acknowledges all of it."""
    ledger = Ledger()
    sealed = False
    for seq, step in enumerate(steps):
        if step in ("send", "resend"):
            number = ledger.number_of(seq % count)
            ledger.count(number, number)
        elif step == "drop":
            ledger.drop(ledger.number_of(seq % count))
        elif step == "seal" and not sealed:
            ledger.seal()
            sealed = True
        elif step in ("durable", "lost") and sealed:
            ledger.durable() if step == "durable" else ledger.lost()
            sealed = False
        elif step == "tell" and (news := ledger.news()) is not None:
            ledger.acked = news
    if sealed:
        ledger.durable()
    for seq in range(count + len(steps)):
        number = ledger.number_of(seq)
        ledger.count(number, number)
    ledger.seal()
    ledger.durable()
    assert ledger.news() == count + len(steps) - 1
