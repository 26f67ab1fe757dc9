"""The tables of the fold: which transition raises which incident, how severe it is, and what its way back says."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from api.live.provisional import provisional_transition
from core.domain.alarm import (
    RECENT_MS,
    Alarm,
    Surroundings,
    alarm_of,
    is_past,
    is_prompt,
    past_severity,
)
from core.domain.incident import TYPE_RANK, escalated_type
from core.domain.transition import Transition

DEVICE, ORDER = uuid.UUID(int=1), uuid.UUID(int=2)


def told(kind: str, from_state: str, to_state: str, **values: Any) -> Transition:
    """A transition of an order, or, for the name of a signal, of a device."""
    detail = values.pop("detail", {})
    if kind not in {"proximity", "zone", "approach", "assurance"}:
        kind, detail = "device", {"signal": kind, **detail}
    return Transition(
        id=uuid.UUID(int=9), shard=0, entry="1-0", kind=kind, from_state=from_state, to_state=to_state, at_ms=1,
        evaluated_ms=1, agency_id=uuid.UUID(int=3), case_id=uuid.UUID(int=4),
        order_id=None if kind == "device" else ORDER, device_id=DEVICE if kind == "device" else None,
        detail=detail, **values,
    )  # fmt: skip


def alarm(item: Transition, *separations: str, by_victim: bool = False, case_in_trouble: bool = False) -> Alarm:
    """The alarm, which must be one."""
    found = alarm_of(item, Surroundings(frozenset(separations), by_victim, case_in_trouble))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("kind", "before", "after", "family", "type_", "severity"),
    [
        ("proximity", "warning", "breach", "proximity", "proximity", "critical"),
        ("zone", "clear", "breach", "zone", "zone", "critical"),
        ("approach", "none", "predicted", "proximity", "approach", "high"),
        ("assurance", "likely", "unknown", "silence", "separation_unknown", "high"),
        ("strap", "closed", "open", "tamper", "tamper", "high"),
        ("casing", "closed", "open", "tamper", "tamper", "high"),
        ("mock", "no", "yes", "tamper", "tamper", "high"),
        ("jamming", "no", "yes", "tamper", "jamming", "high"),
        ("jump", "no", "yes", "tamper", "jump", "low"),
        ("frozen", "no", "yes", "tamper", "frozen", "low"),
        ("silence", "late", "silent", "silence", "silence", "medium"),
        ("silence", "reporting", "silent", "silence", "silence", "medium"),
        ("battery", "ok", "low", "silence", "battery", "low"),
        ("battery", "low", "critical", "silence", "battery", "low"),
    ],
)
def test_what_each_alarm_is(kind: str, before: str, after: str, family: str, type_: str, severity: str) -> None:
    found = alarm(told(kind, before, after))
    assert (found.family, found.type, found.severity, found.raised, found.opens) == (
        family,
        type_,
        severity,
        True,
        True,
    )


@pytest.mark.parametrize("separation", ["warning", "breach", "unknown"])
@pytest.mark.parametrize(("kind", "severity"), [("strap", "critical"), ("jamming", "critical"), ("jump", "low")])
def test_tampering_near_her_or_unseen_is_critical_a_jump_never_is(kind: str, severity: str, separation: str) -> None:
    assert alarm(told(kind, "no", "open" if kind == "strap" else "yes"), separation).severity == severity


@pytest.mark.parametrize(
    ("by_victim", "trouble", "severity"),
    [(True, True, "high"), (True, False, "medium"), (False, True, "medium"), (False, False, "medium")],
)
def test_a_silence_is_urgent_when_it_is_hers_and_something_is_going_on(
    by_victim: bool, trouble: bool, severity: str
) -> None:
    found = alarm(told("silence", "late", "silent"), by_victim=by_victim, case_in_trouble=trouble)
    assert found.severity == severity


@pytest.mark.parametrize(
    ("kind", "before", "after", "says"),
    [
        ("proximity", "breach", "warning", "eased"),
        ("zone", "breach", "clear", "eased"),
        ("assurance", "unknown", "guaranteed", "eased"),
        ("assurance", "unknown", "likely", "eased"),
        ("silence", "silent", "reporting", "eased"),
        ("battery", "low", "ok", "eased"),
        ("strap", "open", "closed", "stays_open"),
        ("casing", "open", "closed", "stays_open"),
        ("mock", "yes", "no", "stays_open"),
        ("jamming", "yes", "no", "stays_open"),
        ("jump", "yes", "no", "eased"),
    ],
)
def test_what_the_way_back_says(kind: str, before: str, after: str, says: str) -> None:
    found = alarm(told(kind, before, after))
    assert (found.raised, found.way_back) == (False, says)


@pytest.mark.parametrize("separation", ["warning", "breach"])
@pytest.mark.parametrize(("outcome", "says"), [("entered", "entered"), ("turned_away", "eased")])
def test_an_approach_that_ended_inside_eases_nothing_whichever_is_told_first(
    outcome: str, says: str, separation: str
) -> None:
    assert alarm(told("approach", "predicted", "none", detail={"outcome": outcome}), separation).way_back == says


@pytest.mark.parametrize(("before", "after"), [("reporting", "late"), ("late", "reporting")])
def test_late_is_a_prompt_and_no_alarm(before: str, after: str) -> None:
    item = told("silence", before, after)
    assert alarm_of(item, Surroundings()) is None
    assert is_prompt(item) is (after == "late")


def test_a_warning_opens_nothing_but_tells_a_breach_that_it_eased() -> None:
    assert alarm(told("proximity", "clear", "warning")).raised is False


def test_only_a_separation_can_be_past() -> None:
    assert is_past(told("proximity", "clear", "breach", retrospective=True))
    assert not is_past(told("strap", "closed", "open", retrospective=True))
    assert not is_past(told("proximity", "clear", "breach"))


def test_the_past_is_critical_only_while_it_may_go_on() -> None:
    assert past_severity(0, RECENT_MS - 1) == "critical"
    assert past_severity(0, RECENT_MS) == "high"


def test_within_a_family_a_type_never_falls_back() -> None:
    for kind in TYPE_RANK:
        for other in TYPE_RANK:
            assert TYPE_RANK[escalated_type(kind, other)] >= TYPE_RANK[kind]


def test_while_nobody_can_say_what_goes_on_a_flat_battery_explains_nothing() -> None:
    item = told("assurance", "likely", "unknown", detail={"silent": "victim", "battery": "low"})
    assert alarm(item).severity == "low"
    shown = provisional_transition(item)
    assert shown is not None
    assert shown["severity"] == "high"
