"""A claimed delivery on its way out: in its agency's time, with links that open, or with none."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from core.postgres.deliveries import Claimed
from notifier.outgoing import message_of

AT = datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)


def claimed(template: str, data: dict[str, Any], **more: Any) -> Claimed:
    values: dict[str, Any] = {
        "id": uuid.UUID(int=1), "agency_id": uuid.UUID(int=2), "incident_id": None, "audience": "contact",
        "recipient": "contact:1", "channel": "sms", "address": "+77010000000", "secret": None, "language": "ru",
        "template": template, "data": data, "priority": 0, "attempt": 1, "due_at": AT, "created_at": AT,
    }  # fmt: skip
    return Claimed(**values | more)


@pytest.mark.parametrize(("zone", "written"), [("Asia/Almaty", "17:00:05 +0500"), (None, "12:00:05 UTC")])
def test_times_are_its_agency_s(zone: str | None, written: str) -> None:
    body = message_of(claimed("panic_contact", {}, time_zone=zone), AT, None).body
    assert f"1 марта 2026 г., {written}" in body


def test_a_zone_of_the_delivery_s_own_goes_first() -> None:
    facts = {"time_zone": "Europe/Berlin"}
    assert "13:00:05 +0100" in message_of(claimed("panic_contact", facts, time_zone="Asia/Almaty"), AT, None).body


def test_a_link_needs_a_public_address() -> None:
    facts = {"link": "/l#token", "seen_token": "seen"}
    with_it = message_of(claimed("panic_contact", facts), AT, "https://qorgan.example.kz/")
    assert "https://qorgan.example.kz/l#token" in with_it.short
    assert "https://qorgan.example.kz/seen/seen" in with_it.body
    assert "/l#token" not in message_of(claimed("panic_contact", facts), AT, None).body
