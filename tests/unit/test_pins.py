"""What a try of a PIN means, whatever was tried before; and how a panic appears to whoever holds her phone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.live.own_view import panic_json
from core.clock import rfc3339
from core.domain.panic import CANCELLED, appearance, is_quiet, read_pin
from core.domain.pins import FORGET_WRONG, WRONG_MAX, Match, Tries, Verdict, check, weigh
from core.errors import InvalidInput
from core.ids import new_id

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
RIGHT, DURESS, WRONG = Match(True, False), Match(False, True), Match(False, False)
tries = st.lists(st.sampled_from([RIGHT, DURESS, WRONG, None]), max_size=12)


@given(tries)
def test_three_wrong_tries_in_a_row_are_duress_and_fewer_are_not(matches: list[Match | None]) -> None:
    kept, in_a_row = Tries(), 0
    for match in matches:
        verdict, kept = weigh(match, kept, NOW)
        if match is None:
            assert verdict is Verdict.UNVERIFIED
        elif match == RIGHT:
            in_a_row = 0
            assert verdict is Verdict.RIGHT
        elif match == DURESS:
            in_a_row = 0
            assert verdict is Verdict.DURESS
        else:
            in_a_row += 1
            assert verdict is (Verdict.DURESS if in_a_row == WRONG_MAX else Verdict.WRONG)
            in_a_row %= WRONG_MAX


@given(tries)
def test_pins_set_by_who_forced_her_never_end_anything(matches: list[Match | None]) -> None:
    kept = Tries()
    for match in matches:
        verdict, kept = weigh(match, kept, NOW, forced=True)
        assert verdict is not Verdict.RIGHT


def test_wrong_tries_of_yesterday_do_not_count() -> None:
    _, kept = weigh(WRONG, Tries(), NOW)
    _, kept = weigh(WRONG, kept, NOW)
    assert weigh(WRONG, kept, NOW + FORGET_WRONG) == (Verdict.WRONG, Tries(1, NOW + FORGET_WRONG))
    assert weigh(WRONG, kept, NOW + FORGET_WRONG - timedelta(seconds=1))[0] is Verdict.DURESS


@pytest.mark.parametrize(
    ("pin", "duress_pin"),
    [("123", "4567"), ("123456789", "4567"), ("12a4", "4567"), ("1234", "1234"), ("", ""), ("١٢٣٤", "4567")],
)
def test_a_pin_is_four_to_eight_digits_and_the_other_is_another(pin: str, duress_pin: str) -> None:
    with pytest.raises(InvalidInput) as error:
        check(pin, duress_pin)
    assert error.value.code == "pin_invalid"
    assert not pin or pin not in error.value.detail


@pytest.mark.parametrize(
    ("raw", "pin"),
    [
        (b'{"pin": "1234"}', "1234"), (b'{"pin": 1234}', "1234"), (b'{"pin": true}', ""), (b"nonsense", ""),
        (b"", ""), (b'{"pin": ["1"]}', ""), (b'{"pin": "' + b"1" * 100 + b'"}', "1" * 32),
    ],
)  # fmt: skip
def test_a_pin_is_read_of_whatever_was_sent(raw: bytes, pin: str) -> None:
    assert read_pin(raw) == pin


details = st.fixed_dictionaries(
    {}, optional={"duress": st.just(True), "cancel_unverified": st.just(True), "cancel_asked_at": st.just("t")}
)


@given(st.sampled_from(["open", "acknowledged", "dispatched", "resolved"]), details)
def test_a_panic_appears_cancelled_alike_whatever_the_pin_was(state: str, detail: dict[str, Any]) -> None:
    assert appearance(state, detail) == (CANCELLED if "cancel_asked_at" in detail else state)
    assert is_quiet(detail) == bool(detail.keys() & {"duress", "cancel_unverified"})


moments = st.none() | st.integers(-60, 60).map(lambda s: NOW + timedelta(seconds=s))
deliveries = st.lists(
    st.fixed_dictionaries(
        {
            "audience": st.sampled_from(["dispatcher", "contact", "victim"]), "channel": st.just("sms"),
            "state": st.sampled_from(["queued", "sent", "delivered", "seen", "acknowledged", "cancelled", "dead"]),
            "created_at": moments.filter(bool), "seen_at": st.just(NOW), "sent_at": moments,
        }
    ),
    max_size=6,
)  # fmt: skip


@given(moments, moments, moments, deliveries, deliveries)
def test_what_is_done_after_a_cancelling_never_reaches_her_device(
    acknowledged: Any, dispatched: Any, resolved: Any, told: list[Any], later: list[Any]
) -> None:
    def after(moment: Any) -> bool:
        return moment is None or moment > NOW

    row = {
        "id": new_id(), "incident_id": new_id(), "received_at": NOW - timedelta(seconds=60), "cancel_asked_at": NOW,
        "shown_from": None, "incident_state": "open", "acknowledged_at": None, "dispatched_at": None,
        "resolved_at": None,
    }  # fmt: skip
    quiet = [one for one in told if not after(one["sent_at"]) and one["created_at"] <= NOW]
    # Afterwards what was sent may be seen, what was queued is cancelled, and more is queued.
    busy = [{**one, "state": "seen"} if one["state"] == "delivered" else one for one in told]
    busy += [one for one in later if after(one["sent_at"])]
    done = {
        "acknowledged_at": acknowledged if after(acknowledged) else None,
        "dispatched_at": dispatched if after(dispatched) else None,
        "resolved_at": resolved if after(resolved) else None, "incident_state": "resolved",
    }  # fmt: skip
    shown = panic_json({**row, **done}, busy)
    assert shown == panic_json(row, quiet)
    assert shown["state"] == CANCELLED


def test_a_message_that_somebody_acts_on_was_seen_when_it_was_and_not_when_he_acted() -> None:
    row = {
        "id": new_id(), "incident_id": new_id(), "received_at": NOW, "cancel_asked_at": None, "shown_from": None,
        "incident_state": "open", "acknowledged_at": None, "dispatched_at": None, "resolved_at": None,
    }  # fmt: skip
    entry = {"audience": "contact", "channel": "sms", "state": "sent", "created_at": NOW, "sent_at": NOW}
    seen_at = NOW + timedelta(seconds=20)
    for state, seen in (("sent", None), ("seen", seen_at), ("acknowledged", seen_at)):
        shown = panic_json(row, [{**entry, "state": state, "seen_at": seen}])
        assert shown["seen_at"] == (None if seen is None else rfc3339(seen))
        assert shown["told"][0]["state"] == state
        assert shown["acknowledged_at"] is None, "of the incident it says nothing"
