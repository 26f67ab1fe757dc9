"""What mail servers say of letters: of theirs only the state, our id and a status number are read."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.mail_receipts import CAME_BACK, LetterTold, told_by

ID = uuid.UUID("0195a1b2-0000-7000-8000-000000000001")
OURS = f"<{ID}@q.kz>"
NOTHING = LetterTold(None, None, None)
REPORT = """From: MAILER-DAEMON@mail.example.org
To: qorgan@example.org
Subject: Undelivered Mail Returned to Sender
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="B"

--B
Content-Type: text/plain

<sister@example.org>: user unknown
--B
Content-Type: message/delivery-status

Reporting-MTA: dns; mail.example.org

Final-Recipient: rfc822; sister@example.org
Action: {action}
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 <sister@example.org> unknown

--B
Content-Type: {kind}

Message-ID: <0195a1b2-0000-7000-8000-000000000001@qorgan.example.org>
Subject: Alarm

--B--
"""


@pytest.mark.parametrize("kind", ["message/rfc822", "text/rfc822-headers"])
@pytest.mark.parametrize(("action", "state"), [("failed", "failed"), ("delivered", "delivered"), ("delayed", None)])
def test_a_mail_servers_report(kind: str, action: str, state: str | None) -> None:
    told = told_by({"report": REPORT.format(kind=kind, action=action)})
    assert (told.state, told.reference) == (state, ID)
    assert told.detail == ("the letter came back, status 5.1.1" if state == "failed" else None)


def test_a_reports_lines_may_end_as_mail_does() -> None:
    report = REPORT.format(kind="message/rfc822", action="Failed").replace("\n", "\r\n")
    assert told_by({"report": report}) == LetterTold("failed", ID, "the letter came back, status 5.1.1")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"message_id": OURS, "status": "Bounced", "code": "5.7.1"}, ("failed", CAME_BACK + ", status 5.7.1")),
        ({"message_id": f"{ID}@q.kz", "status": "rejected", "code": "<sister@example.org>"}, ("failed", CAME_BACK)),
        ({"message_id": OURS, "status": "delivered"}, ("delivered", None)),
        ({"message_id": OURS, "status": "opened"}, (None, None)),
    ],
)  # fmt: skip
def test_a_providers_words(fields: dict[str, Any], told: tuple[str | None, str | None]) -> None:
    assert told_by(fields) == LetterTold(told[0], ID, told[1])


@pytest.mark.parametrize("fields", [{}, {"status": 5}, {"report": ""}, {"report": "no mail"}, {"report": 7}])
def test_what_is_none_says_nothing(fields: dict[str, Any]) -> None:
    assert told_by(fields) == NOTHING


def test_a_letter_of_somebody_elses_has_no_id_of_ours() -> None:
    assert told_by({"message_id": "<CAF=x@mail.example.org>", "status": "bounced"}).reference is None


@given(st.text(max_size=300))
def test_no_letter_is_too_odd(text: str) -> None:
    for report in (text, REPORT.format(kind="message/rfc822", action=text), text + REPORT):
        told = told_by({"report": report})
        assert told.detail in (None, "the letter came back", "the letter came back, status 5.1.1")
