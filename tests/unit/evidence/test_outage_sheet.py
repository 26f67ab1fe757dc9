"""The outage sheet: the riskiest first, in three languages, and nothing of a sealed case."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.domain.outage_sheet import PAIRS_MAX, SheetPair, by_district, riskiest
from core.evidence.outage_sheet import Sheet, as_pdf, as_text
from core.evidence.outage_words import WORDS

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def pair(order_id: str, **values: Any) -> SheetPair:
    """A pair last known far apart, a minute ago."""
    known: dict[str, Any] = {
        "reference": f"O-{order_id}", "district": "Алатау", "risk": "standard", "state": "clear",
        "distance_m": 50_000.0,
        "known_at": NOW - timedelta(minutes=1), "alert_m": 500.0, "her_seen_at": NOW, "his_seen_at": None,
        "her": "Айгерім", "him": "Марат", "reach": "sms · +7701 · 09:00-17:00",
    }  # fmt: skip
    return SheetPair(order_id=order_id, **(known | values))


def test_who_is_inside_comes_first_then_who_can_be_there_by_now_then_by_risk() -> None:
    found = riskiest(
        [
            pair("far"),
            pair("never", distance_m=None, known_at=None),
            pair("far and extreme", risk="extreme"),
            pair("warned", state="warning", distance_m=900.0),
            pair("there by now", distance_m=2_000.0, known_at=NOW - timedelta(minutes=30)),
            pair("inside", state="breach", distance_m=100.0),
        ],
        NOW,
    )
    assert [one.order_id for one in found] == ["inside", "warned", "there by now", "far and extreme", "far", "never"]
    assert len(riskiest([pair(str(n)) for n in range(PAIRS_MAX + 5)], NOW)) == PAIRS_MAX


def test_districts_stand_in_the_order_of_their_riskiest() -> None:
    found = by_district([pair("1", district="B"), pair("2", district="A"), pair("3", district="B")])
    assert [(name, [one.order_id for one in pairs]) for name, pairs in found] == [("B", ["1", "3"]), ("A", ["2"])]


@pytest.mark.parametrize("language", sorted(WORDS))
def test_it_is_printed_in_three_languages_without_a_sealed_case_s_names(language: str) -> None:
    assert WORDS[language].keys() == WORDS["en"].keys()
    pairs = [pair("1", state="breach", distance_m=120.0), pair("2", her="Secret", him="Secret", sealed=True)]
    sheet = Sheet(
        uuid.uuid4(), "Алматы", "Asia/Almaty", NOW, pairs, 7, [("Серік", "supervisor", "+7702")], [("A-1", "available")]
    )
    text = as_text(sheet, language)
    assert "Айгерім" in text
    assert "sms · +7701 · 09:00-17:00" in text
    assert "Secret" not in text.replace(WORDS["en"]["secret"], "")
    assert WORDS[language]["sealed"] in text
    assert "+7702" in text
    assert "{" not in text
    assert as_pdf(sheet, language).startswith(b"%PDF")
