"""Turns a template's name, a language and facts into words. Fails on whatever is missing; never sends a gap."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from core.clock import rfc3339
from core.domain.short_message import count_segments
from notifier.templates.facts import PLACEHOLDERS, Facts, Unrenderable, fill, is_link
from notifier.templates.words import DEFAULT_LANGUAGE, LANGUAGES, Pieces, Words, language_of, words_of

__all__ = [
    "DEFAULT_LANGUAGE",
    "LANGUAGES",
    "PLACEHOLDERS",
    "SHORT_MAX_CHARACTERS",
    "TEMPLATES",
    "Text",
    "Unrenderable",
    "language_of",
    "render",
    "warm_up",
]  # fmt: skip

TEMPLATES: Final[Mapping[str, str]] = {
    "incident_dispatcher": "dispatcher",
    "panic_again_dispatcher": "dispatcher",
    "cancel_asked_dispatcher": "dispatcher",
    "duress_dispatcher": "dispatcher",
    "escalation_dispatcher": "dispatcher",
    "escalation_supervisor": "dispatcher",
    "neighbour_dispatcher": "dispatcher",
    "eta_missed_dispatcher": "dispatcher",
    "welfare_check_dispatcher": "dispatcher",
    "outage_dispatcher": "dispatcher",
    "outage_over_dispatcher": "dispatcher",
    "dispatch_officer": "officer",
    "asked_officer": "officer",
    "outage_operator": "operator",
    "outage_over_operator": "operator",
    "incident_victim": "victim",
    "untracked_victim": "victim",
    "outage_over_victim": "victim",
    "device_prompt": "victim",
    "drill_device": "victim",
    "erasure_code": "victim",
    "panic_contact": "contact",
    "panic_all_clear_contact": "contact",
    "drill_contact": "contact",
    "invitation_contact": "contact",
    "code_contact": "contact",
    "live_link_code_contact": "contact",
    "warning_aggressor": "aggressor",
}
"""Every template and who reads it."""
FORMS: Final = ("subject", "body", "short")
SHORT_MAX_SEGMENTS: Final = 2
SHORT_MAX_CHARACTERS: Final = 134
"""Two text messages of 67 characters beyond the Latin alphabet."""
MARKS: Final = {"dispatcher": "loud", "officer": "loud", "operator": "loud", "contact": "loud", "victim": "quiet"}
"""How an exercise is marked: for her by a word that tells nothing on a locked screen."""
DRILL: Final = "drill_"
"""Templates that say themselves that they are a test."""
WARNED: Final = frozenset({"dispatcher", "officer"})
"""Who is told in the first words not to call her; never her contacts, nor anybody who could be beside her."""
DURESS: Final = "duress_dispatcher"
"""The template that says so itself."""
BLANK_LINES: Final = re.compile(r"\n{3,}")


@dataclass(frozen=True, slots=True)
class Text:
    """What is told: a subject line, a body, and a short form."""

    subject: str
    body: str
    short: str


def render(template: str, language: str, data: Mapping[str, Any], created_at: datetime) -> Text:
    """The text of `template` from those facts of `data` that it uses; docs/words.md lists them.

    Times are written in the IANA zone `time_zone` of the data, else in UTC. `short` is two text messages at most; where
    the template has a form with a link and there is one that fits, it is that. Raises Unrenderable when a fact is
    missing that may not be.
    """
    if template not in TEMPLATES:
        raise Unrenderable(f"there is no template {template!r:.60}")
    words = words_of(language_of(language))
    facts = Facts(words, data, created_at)
    mark = _mark(words, template, data)
    warning = _warning(words, template, data)
    subject, body, short = (
        _written(words.pieces(f"{template}.{form}"), facts, mark)
        if form == "body"
        else _written(words.pieces(f"{template}.{form}"), facts.briefly(), mark + warning)
        for form in FORMS
    )
    return Text(subject, body, _with_link(words, template, facts, mark + warning) or short)


def warm_up() -> None:
    """Write one message in each language: what is loaded for the first takes a tenth of a second."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    facts = {
        "type": "panic", "severity": "critical", "incident_id": "", "occurred_at": rfc3339(now), "do_not_call": True,
    }  # fmt: skip
    for language in LANGUAGES:
        render("incident_dispatcher", language, facts, now)


def _with_link(words: Words, template: str, facts: Facts, mark: str) -> str | None:
    """The short form with a link, when there is such a form, a link, and the room for it."""
    key = f"{template}.short_link"
    if not words.has(key) or not (is_link(facts.data.get("link")) or is_link(facts.data.get("seen_link"))):
        return None
    text = _written(words.pieces(key), facts.briefly(), mark)
    return text if count_segments(text).count <= SHORT_MAX_SEGMENTS else None


def _mark(words: Words, template: str, data: Mapping[str, Any]) -> str:
    """What stands before every form of an exercise."""
    loudness = MARKS.get(TEMPLATES[template])
    if not data.get("exercise") or loudness is None or template.startswith(DRILL):
        return ""
    return words.text(f"mark.{loudness}")


def _warning(words: Words, template: str, data: Mapping[str, Any]) -> str:
    """What stands before the subject and the short form when nobody may call her; the body has a line of its own."""
    if TEMPLATES[template] not in WARNED or template == DURESS:
        return ""
    name = next((name for name in ("duress", "do_not_call") if data.get(name)), None)
    return words.text(f"mark.{name}") if name else ""


def _written(pieces: Pieces, facts: Facts, mark: str) -> str:
    """The words; a line that is one placeholder and has nothing to say is left out."""
    values = {name: facts.value(name) for _, name in pieces if name is not None}
    lines = []
    for line in _lines(pieces):
        text = fill(line, values)
        if text or not any(name is not None for _, name in line):
            lines.append(text)
    return mark + BLANK_LINES.sub("\n\n", "\n".join(lines)).strip()


def _lines(pieces: Pieces) -> list[Pieces]:
    """A text's pieces, line by line."""
    lines: list[list[tuple[str, str | None]]] = [[]]
    for before, name in pieces:
        *whole, rest = before.split("\n")
        for part in whole:
            lines[-1].append((part, None))
            lines.append([])
        lines[-1].append((rest, name))
    return [tuple(line) for line in lines]
