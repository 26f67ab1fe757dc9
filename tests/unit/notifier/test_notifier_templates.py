"""What people are told: complete in three languages, and silent about what must not be told."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest

from core.domain.incident import SEVERITY_RANK, TYPES
from notifier.templates.render import (
    LANGUAGES,
    SHORT_MAX_CHARACTERS,
    TEMPLATES,
    Unrenderable,
    catalogue,
    language_of,
    render,
)

AT = datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)
INCIDENT = "0195a1b2-0000-7000-8000-000000000001"


def data(**more: Any) -> dict[str, Any]:
    return {
        "type": "proximity",
        "severity": "critical",
        "incident_id": INCIDENT,
        "distance_m": 4321.0,
        "code": "00000000",
    } | more


@pytest.mark.parametrize("exercise", [False, True])
@pytest.mark.parametrize(("template", "language"), list(product(TEMPLATES, LANGUAGES)))
def test_every_template_renders_for_every_type_and_severity(template: str, language: str, exercise: bool) -> None:
    for kind, severity in product(TYPES, SEVERITY_RANK):
        text = render(template, language, data(type=kind, severity=severity, exercise=exercise), AT)
        for part in (text.subject, text.body, text.short):
            assert part
            assert "$" not in part
        assert "\n" not in text.subject
        assert "\n" not in text.short
        assert len(text.short) <= SHORT_MAX_CHARACTERS


def test_every_language_has_the_same_keys() -> None:
    def shape(value: Any) -> Any:
        return {key: shape(inner) for key, inner in value.items()} if isinstance(value, dict) else None

    shapes = [shape(catalogue(language)) for language in LANGUAGES]
    assert shapes[0] == shapes[1] == shapes[2]
    assert set(shapes[0]["type"]) == set(TYPES)
    assert set(shapes[0]["severity"]) == set(SEVERITY_RANK)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("template", ["incident_victim", "panic_contact", "device_prompt", "erasure_code"])
def test_her_phone_and_her_contacts_learn_no_type_distance_or_incident(template: str, language: str) -> None:
    texts = {render(template, language, data(type=kind, distance_m=m), AT) for kind in TYPES for m in (None, 12.0)}
    assert len(texts) == 1
    (text,) = texts
    assert INCIDENT not in text.subject + text.body + text.short


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_title_on_her_locked_screen_is_neutral(language: str) -> None:
    text = render("incident_victim", language, data(), AT)
    telling = ("Qorgan", "тревог", "полици", "опасн", "дабыл", "қауіп", "alarm", "police", "danger", "12:00")
    assert not any(word.lower() in (text.subject + text.short).lower() for word in telling)


@pytest.mark.parametrize(
    ("language", "phrases"),
    [
        ("ru", ["Не звоните", "не пишите", "Не приезжайте", "Полиция уже знает"]),
        ("kk", ["қоңырау шалмаңыз", "хабарлама жазбаңыз", "бармаңыз", "Полиция бұл туралы біледі"]),
        ("en", ["Do not call or message", "Do not go", "police already know"]),
    ],
)
def test_contacts_are_told_neither_to_call_nor_to_come_and_that_the_police_know(
    language: str, phrases: list[str]
) -> None:
    body = render("panic_contact", language, {"type": "panic", "incident_id": INCIDENT}, AT).body
    for phrase in phrases:
        assert phrase.lower() in body.lower()


@pytest.mark.parametrize(
    ("distance_m", "line"),
    [(314.0, "Расстояние: 310 м"), (996.0, "Расстояние: 1,0 км"), (4321.0, "Расстояние: 4,3 км"), (0.0, ": 0 м")],
)
def test_dispatchers_read_the_distance_as_exactly_as_a_fix_can_know_it(distance_m: float, line: str) -> None:
    assert line in render("incident_dispatcher", "ru", data(distance_m=distance_m), AT).body


@pytest.mark.parametrize("distance_m", [None, float("nan"), float("inf"), "far", True])
def test_a_distance_that_is_none_leaves_no_gap(distance_m: Any) -> None:
    body = render("incident_dispatcher", "en", data(distance_m=distance_m), AT).body
    assert "Distance" not in body
    assert "Time: 2026-03-01 12:00:05 UTC\nIncident" in body


def test_the_time_told_is_when_it_happened_in_utc() -> None:
    body = render("incident_dispatcher", "en", data(occurred_at="2026-03-01T16:30:00.000+05:00"), AT).body
    assert "2026-03-01 11:30:00 UTC" in body


@pytest.mark.parametrize("lacking", ["type", "severity", "incident_id"])
def test_a_missing_fact_is_refused_by_name(lacking: str) -> None:
    facts = data()
    del facts[lacking]
    with pytest.raises(Unrenderable, match=lacking):
        render("incident_dispatcher", "ru", facts, AT)


@pytest.mark.parametrize(
    ("template", "facts"),
    [("no_such", {}), ("incident_dispatcher", {"type": "meteor"}), ("incident_dispatcher", {"severity": ["high"]})],
)
def test_an_unknown_template_type_or_severity_is_refused(template: str, facts: dict[str, Any]) -> None:
    with pytest.raises(Unrenderable):
        render(template, "ru", data(**facts), AT)


@pytest.mark.parametrize(
    ("tag", "language"), [("kk", "kk"), ("ru-RU", "ru"), ("kk_Cyrl_KZ", "kk"), ("EN", "en"), ("uz", "ru"), ("", "ru")]
)
def test_a_language_tag_finds_the_nearest_language(tag: str, language: str) -> None:
    assert language_of(tag) == language


def test_facts_are_words_and_never_templates_themselves() -> None:
    body = render("incident_dispatcher", "en", data(incident_id="$severity ${at} $$"), AT).body
    assert "Incident: $severity ${at} $$" in body
