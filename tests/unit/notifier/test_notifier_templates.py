"""What people are told: complete in three languages, and silent about what must not be told."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from core.domain.incident import SEVERITY_RANK, TYPES
from core.domain.short_message import count_segments
from notifier.templates.render import (
    LANGUAGES,
    PLACEHOLDERS,
    SHORT_MAX_CHARACTERS,
    TEMPLATES,
    Unrenderable,
    language_of,
    render,
)
from notifier.templates.words import cut, read_catalog, words_of

AT = datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)
INCIDENT = "0195a1b2-0000-7000-8000-000000000001"
LINK = "https://qorgan.example.kz/l#" + "x" * 24
ALLOWED_TO = {"victim": {"code"}, "aggressor": set()}
"""Placeholders of what those two read."""
PAIRS = list(product(TEMPLATES, LANGUAGES))


def data(**more: Any) -> dict[str, Any]:
    return {
        "type": "proximity",
        "severity": "critical",
        "incident_id": INCIDENT,
        "distance_m": 4321.0,
        "code": "00000000",
        "why": "unacknowledged",
        "step": 4,
        "waited_s": 120,
        "late_s": 420,
        "eta_at": "2026-03-01T12:30:00Z",
        "callsign": "Алматы, Әуезов ауданының жедел жасағы № 12",
        "agency": "Алматы қаласының Полиция департаменті",
        "holds_s": 7 * 86400,
        "devices": 81000,
        "what": "postgres",
        "link": LINK,
        "seen_link": LINK.replace("/l", "/s"),
        "do_not_call": True,
        "duress": True,
        "presses": 3,
    } | more


def keys_of(group: str) -> list[str]:
    contexts = [message.context or "" for message in read_catalog("en")]
    return [context.removeprefix(f"{group}.") for context in contexts if context.startswith(f"{group}.")]


# complete -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exercise", [False, True])
@pytest.mark.parametrize(("template", "language"), PAIRS)
def test_every_template_renders_for_every_type_and_severity(template: str, language: str, exercise: bool) -> None:
    for kind, severity in product(TYPES, SEVERITY_RANK):
        text = render(template, language, data(type=kind, severity=severity, exercise=exercise), AT)
        for part in (text.subject, text.body, text.short):
            assert part
            assert not set("{}$") & set(part)
            assert "\n\n\n" not in part
        assert "\n" not in text.subject
        assert "\n" not in text.short


@pytest.mark.parametrize("exercise", [False, True])
@pytest.mark.parametrize(("template", "language"), PAIRS)
def test_the_short_form_is_two_text_messages_with_the_longest_facts(
    template: str, language: str, exercise: bool
) -> None:
    words = words_of(language)
    why = max(keys_of("why"), key=lambda key: len(words.text(f"why.{key}")))
    for kind, severity in product(TYPES, SEVERITY_RANK):
        facts = data(type=kind, severity=severity, exercise=exercise, step=12, why=why)
        for more in ({}, {"link": None, "seen_link": None}):
            short = _short(template, language, facts | more)
            assert count_segments(short).count <= 2
            assert "https://" in short or len(short) <= SHORT_MAX_CHARACTERS


def _short(template: str, language: str, facts: dict[str, Any]) -> str:
    try:
        return render(template, language, facts, AT).short
    except Unrenderable:
        assert template == "invitation_contact", "only an invitation is nothing without its link"
        return ""


def test_every_text_is_translated_and_none_is_in_doubt() -> None:
    source = {message.context: message for message in read_catalog("en") if message.id}
    assert all(message.context for message in source.values())
    for language in ("kk", "ru"):
        catalog = read_catalog(language)
        translated = {message.context: message for message in catalog if message.id}
        assert translated.keys() == source.keys(), f"{language}: pybabel update (see docs/words.md)"
        for context, message in translated.items():
            assert message.id == source[context].id, f"{language} {context}: the English has changed"
            assert not message.fuzzy, f"{language} {context} is in doubt"
            forms = [message.string] if isinstance(message.string, str) else list(message.string)
            assert all(forms), f"{language} {context} is not translated"
            assert len(forms) == (catalog.num_plurals if message.pluralizable else 1)
        assert not catalog.obsolete


def test_languages_use_the_same_placeholders() -> None:
    for language in ("kk", "ru"):
        for message in read_catalog(language):
            if not message.id:
                continue
            ids = [message.id] if isinstance(message.id, str) else list(message.id)
            forms = [message.string] if isinstance(message.string, str) else list(message.string)
            used = {tuple(sorted(name for _, name in cut(text) if name is not None)) for text in (*ids, *forms)}
            assert len(used) == 1, f"{language} {message.context}: {used}"


def test_every_template_has_its_forms_and_every_text_is_of_use() -> None:
    contexts = {message.context for message in read_catalog("en") if message.id}
    forms = {f"{template}.{form}" for template in TEMPLATES for form in ("subject", "body", "short")}
    assert forms <= contexts
    rest = contexts - forms - {f"{template}.short_link" for template in TEMPLATES}
    groups = {"mark", "line", "inviter", "duration", "why", "wanted", "what", "severity", "type", "advice"}
    assert {str(context).split(".")[0] for context in rest} == groups
    assert set(keys_of("type")) == set(keys_of("advice")) == set(TYPES)
    assert set(keys_of("severity")) == set(SEVERITY_RANK)
    assert set(keys_of("why")) == set(keys_of("wanted"))


@pytest.mark.parametrize("template", TEMPLATES)
def test_placeholders_are_known_and_names_tell_the_audience(template: str) -> None:
    words = words_of("en")
    for form in ("subject", "body", "short"):
        assert {name for _, name in words.pieces(f"{template}.{form}") if name} <= set(PLACEHOLDERS)
    if template.rsplit("_", 1)[1] in ("dispatcher", "officer", "operator", "victim", "contact", "aggressor"):
        assert template.endswith(TEMPLATES[template])


# silent ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", [name for name, audience in TEMPLATES.items() if audience in ALLOWED_TO])
def test_what_she_and_what_he_reads_bears_no_fact(template: str) -> None:
    for language, form in product(LANGUAGES, ("subject", "body", "short")):
        names = {name for _, name in words_of(language).pieces(f"{template}.{form}") if name is not None}
        assert names <= ALLOWED_TO[TEMPLATES[template]]
    assert not words_of("en").has(f"{template}.short_link")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("template", [name for name, who in TEMPLATES.items() if who in ("victim", "contact")])
def test_her_phone_and_her_contacts_learn_no_type_distance_or_incident(template: str, language: str) -> None:
    texts = {render(template, language, data(type=kind, distance_m=m), AT) for kind in TYPES for m in (None, 12.0)}
    assert len(texts) == 1
    (text,) = texts
    assert INCIDENT not in text.subject + text.body + text.short


@pytest.mark.parametrize("language", LANGUAGES)
def test_he_reads_the_same_whatever_the_cause(language: str) -> None:
    texts = {
        render("warning_aggressor", language, data(type=kind, severity=severity, exercise=exercise, link=link), AT)
        for kind, severity, exercise, link in product(TYPES, SEVERITY_RANK, (False, True), (None, LINK))
    }
    assert len(texts) == 1
    told = "".join((*texts.pop().__getstate__(),)).lower()
    betraying = ("she", "her ", "victim", "near", "distance", "она", "её", "потерпевш", "близк", "расстоян", "жәбірлен",
                 "жақын", "арақашықтық", "qorgan")  # fmt: skip
    assert not [word for word in betraying if word in told]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("template", [name for name, audience in TEMPLATES.items() if audience == "victim"])
@pytest.mark.parametrize("exercise", [False, True])
def test_what_her_locked_screen_shows_is_neutral(template: str, language: str, exercise: bool) -> None:
    text = render(template, language, data(exercise=exercise), AT)
    shown = (text.subject + text.short).lower()
    telling = ("qorgan", "тревог", "полици", "опасн", "дабыл", "қауіп", "alarm", "police", "danger", "12:00", "учени",
               "оқу-жаттығу", "exercise", "браслет", "білезік", "bracelet", "агрессор", "http")  # fmt: skip
    assert not [word for word in telling if word in shown]


@pytest.mark.parametrize("template", ["invitation_contact", "code_contact", "live_link_code_contact"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_who_has_not_consented_learns_neither_of_an_alarm_nor_of_the_police(template: str, language: str) -> None:
    text = render(template, language, data(), AT)
    told = (text.subject + text.body + text.short).lower().replace(LINK, "")
    telling = ("тревог", "полици", "опасн", "насили", "дабыл", "қауіп", "зорлық", "alarm", "police", "danger",
               "violence", "qorgan")  # fmt: skip
    assert not [word for word in telling if word in told.replace("https://qorgan.example.kz", "")]


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_invitation_names_nobody_unless_she_chose_so(language: str) -> None:
    unnamed = render("invitation_contact", language, data(), AT)
    named = render("invitation_contact", language, data(inviter="Айгүл"), AT)
    assert "Айгүл" not in unnamed.body
    assert "Айгүл" in named.body
    assert "Айгүл" not in named.subject + named.short


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
    text = render("panic_contact", language, {"type": "panic", "incident_id": INCIDENT}, AT)
    for phrase in phrases:
        assert phrase.lower() in text.body.lower()
    for facts in ({}, {"link": LINK}):
        short = render("panic_contact", language, facts, AT).short.lower()
        calls = {"ru": "не звоните", "kk": "қоңырау шалмаңыз", "en": "do not call"}
        goes = {"ru": "не приезжайте", "kk": "бармаңыз", "en": "go there"}
        assert calls[language] in short
        assert goes[language] in short


# as its reader writes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("distance_m", "line"),
    [(314.0, "Расстояние: 310 м"), (996.0, "Расстояние: 1,0 км"), (4321.0, "Расстояние: 4,3 км"), (0.0, ": 0 м")],
)
def test_dispatchers_read_the_distance_as_exactly_as_a_fix_can_know_it(distance_m: float, line: str) -> None:
    assert line in render("incident_dispatcher", "ru", data(distance_m=distance_m), AT).body


@pytest.mark.parametrize("distance_m", [None, float("nan"), float("inf"), "far", True])
def test_a_distance_that_is_none_leaves_no_gap(distance_m: Any) -> None:
    body = render("incident_dispatcher", "en", data(distance_m=distance_m, do_not_call=False, duress=False), AT).body
    assert "Distance" not in body
    assert "Time: 1 March 2026, 12:00:05 UTC\nIncident" in body


@pytest.mark.parametrize(
    ("language", "written"),
    [
        ("en", "1 March 2026, 16:30:00 +0500"),
        ("ru", "1 марта 2026 г., 16:30:00 +0500"),
        ("kk", "2026 ж. 1 наурыз, 16:30:00 +0500"),
    ],
)
def test_the_time_told_is_when_it_happened_where_the_reader_is(language: str, written: str) -> None:
    facts = data(occurred_at="2026-03-01T11:30:00.000Z", time_zone="Asia/Almaty")
    assert written in render("incident_dispatcher", language, facts, AT).body


@pytest.mark.parametrize("zone", [None, "", "Nowhere/Else", "../../etc/passwd", 5])
def test_a_time_zone_that_is_none_is_utc(zone: Any) -> None:
    facts = data(occurred_at="2026-03-01T16:30:00.000+05:00", time_zone=zone)
    assert "1 March 2026, 11:30:00 UTC" in render("incident_dispatcher", "en", facts, AT).body


@pytest.mark.parametrize(
    ("seconds", "ru", "kk", "en"),
    [
        (45, "45 секунд", "45 секунд", "45 seconds"),
        (61, "61 секунда", "61 секунд", "61 seconds"),
        (120, "2 минуты", "2 минут", "2 minutes"),
        (300, "5 минут", "5 минут", "5 minutes"),
        (21 * 60, "21 минута", "21 минут", "21 minutes"),
        (2 * 3600, "2 часа", "2 сағат", "2 hours"),
        (86400 * 7, "7 дней", "7 күн", "7 days"),
    ],
)
def test_a_number_takes_its_own_form(seconds: int, ru: str, kk: str, en: str) -> None:
    for language, written in (("ru", ru), ("kk", kk), ("en", en)):
        assert f": {written}\n" in render("escalation_dispatcher", language, data(waited_s=seconds), AT).body


def test_a_link_goes_into_the_text_message_only_when_there_is_room() -> None:
    assert LINK in render("panic_contact", "ru", data(exercise=True), AT).short
    long = "https://" + "a" * 100 + ".kz/s"
    assert "http" not in render("panic_contact", "ru", data(link=long), AT).short
    assert long in render("panic_contact", "ru", data(link=long), AT).body


def test_a_link_takes_the_place_of_no_warning() -> None:
    for language in LANGUAGES:
        text = render("dispatch_officer", language, data(callsign="A-1", link=None, seen_link="https://q.kz/s"), AT)
        assert text.short.endswith("https://q.kz/s")
        assert text.short.startswith(words_of(language).text("mark.duress"))


@pytest.mark.parametrize("link", [None, "/l#abc", "javascript:alert(1)", 5])
def test_what_is_no_link_is_left_out(link: Any) -> None:
    text = render("panic_contact", "en", data(link=link, seen_link=link), AT)
    assert text == render("panic_contact", "en", {}, AT)


def test_no_text_message_has_a_space_that_makes_it_longer() -> None:
    for template, language in PAIRS:
        text = render(template, language, data(distance_m=14_321_000.0, step=1234), AT)
        assert not {"\u00a0", "\u202f"} & set(text.subject + text.body + text.short)


@pytest.mark.parametrize(
    ("facts", "begins", "has"),
    [
        ({"duress": True, "do_not_call": True}, "DURESS. DO NOT CALL. Panic", "DURESS: the cancelling was forced."),
        ({"duress": False, "do_not_call": True}, "DO NOT CALL. Panic", "\nDO NOT CALL the protected person."),
        ({"duress": False, "do_not_call": False}, "Panic", "Times pressed: 3"),
    ],
)
def test_who_is_sent_reads_first_that_nobody_may_call(facts: dict[str, Any], begins: str, has: str) -> None:
    text = render("incident_dispatcher", "en", data(type="panic", **facts), AT)
    assert text.subject.startswith(begins)
    assert text.short.startswith(begins)
    assert has in text.body


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    "template", [name for name, who in TEMPLATES.items() if who in ("victim", "contact", "aggressor")]
)
def test_nobody_beside_her_learns_of_duress(template: str, language: str) -> None:
    with_it, without = (render(template, language, data(duress=on, do_not_call=on), AT) for on in (True, False))
    assert with_it == without


# refused --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lacking", ["type", "severity", "incident_id"])
def test_a_missing_fact_is_refused_by_name(lacking: str) -> None:
    facts = data()
    del facts[lacking]
    with pytest.raises(Unrenderable, match=lacking):
        render("incident_dispatcher", "ru", facts, AT)


@pytest.mark.parametrize(
    ("template", "facts"),
    [
        ("no_such", {}),
        ("incident_dispatcher", {"type": "meteor"}),
        ("incident_dispatcher", {"severity": ["high"]}),
        ("escalation_dispatcher", {"why": "boredom"}),
        ("eta_missed_dispatcher", {"eta_at": "soon"}),
        ("code_contact", {"holds_s": None}),
    ],
)
def test_an_unknown_template_or_a_fact_that_is_none_is_refused(template: str, facts: dict[str, Any]) -> None:
    with pytest.raises(Unrenderable):
        render(template, "ru", data(**facts), AT)


@pytest.mark.parametrize(
    ("tag", "language"), [("kk", "kk"), ("ru-RU", "ru"), ("kk_Cyrl_KZ", "kk"), ("EN", "en"), ("uz", "ru"), ("", "ru")]
)
def test_a_language_tag_finds_the_nearest_language(tag: str, language: str) -> None:
    assert language_of(tag) == language


def test_facts_are_words_and_never_templates_themselves() -> None:
    body = render("incident_dispatcher", "en", data(incident_id="{severity} $at {0.__class__}"), AT).body
    assert "Incident: {severity} $at {0.__class__}" in body


@pytest.mark.parametrize("text", ["{at!r}", "{at:>10}", "{at.tzinfo}", "{0}", "{}"])
def test_a_placeholder_is_a_name_and_nothing_else(text: str) -> None:
    with pytest.raises(ValueError, match="placeholder"):
        cut(text)


def test_the_page_for_translators_names_every_template_and_placeholder() -> None:
    page = (Path(__file__).parents[3] / "docs" / "words.md").read_text("utf-8")
    assert not [name for name in TEMPLATES if f"`{name}`" not in page]
    assert not [name for name in PLACEHOLDERS if f"`{{{name}}}`" not in page]
