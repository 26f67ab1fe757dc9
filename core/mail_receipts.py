"""What became of a letter after the mail server took it: in the few words of a mail provider, or the report that a mail
server sends back (RFC 3464)."""

from __future__ import annotations

import email
import email.policy
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.errors import MessageError
from email.message import Message
from typing import Any, Final

MESSAGE_ID: Final = re.compile(r"<?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})@[^<>\s]+>?", re.IGNORECASE)
"""As notifier.channels.email makes it: the delivery's id at the sender's domain."""
CODE: Final = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
"""An enhanced status (RFC 3463); nothing else of what a mail server writes is kept: it likes to repeat the address."""
CAME_BACK: Final = "the letter came back"
DELIVERED: Final = frozenset({"delivered"})
FAILED: Final = frozenset({"failed", "bounced", "rejected", "dropped"})
ORIGINAL: Final = frozenset({"message/rfc822", "text/rfc822-headers", "message/global", "message/global-headers"})
STATUS: Final = frozenset({"message/delivery-status", "message/global-delivery-status"})


@dataclass(frozen=True, slots=True)
class LetterTold:
    """What is said of a letter; `state` None: something on the way, of no interest."""

    state: str | None
    """delivered | failed"""
    reference: uuid.UUID | None
    detail: str | None


def told_by(fields: Mapping[str, Any]) -> LetterTold:
    """What a genuine message says: `message_id`, `status` and perhaps `code`, or a whole letter in `report`."""
    report = fields.get("report")
    if isinstance(report, str):
        return _of_report(report)
    return _told(str(fields.get("status") or ""), _reference(fields.get("message_id")), str(fields.get("code") or ""))


def _of_report(text: str) -> LetterTold:
    """What a delivery status notification says of the letter it sends back; ours have one recipient each."""
    try:
        parts = list(email.message_from_string(text, policy=email.policy.compat32).walk())
        statuses = [block for part in parts if part.get_content_type() in STATUS for block in _blocks(part)]
        said = next((block for block in statuses if block.get("Action")), None)
        reference = next((found for part in parts for found in _originals(part)), None)
    except (MessageError, ValueError, LookupError):
        return LetterTold(None, None, None)
    if said is None:
        return LetterTold(None, reference, None)
    return _told(str(said["Action"]), reference, str(said.get("Status", "")))


def _blocks(part: Message) -> list[Message]:
    payload = part.get_payload()
    return [block for block in payload if isinstance(block, Message)] if isinstance(payload, list) else []


def _originals(part: Message) -> Iterator[uuid.UUID]:
    """The id of the letter that came back, out of a part that bears it."""
    if part.get_content_type() not in ORIGINAL:
        return
    payload = part.get_payload()
    inner = payload if isinstance(payload, list) else [email.message_from_string(str(payload))]
    for letter in inner:
        found = _reference(letter.get("Message-ID")) if isinstance(letter, Message) else None
        if found is not None:
            yield found


def _told(status: str, reference: uuid.UUID | None, code: str) -> LetterTold:
    word = status.split(";")[0].strip().lower()
    if word in DELIVERED:
        return LetterTold("delivered", reference, None)
    if word not in FAILED:
        return LetterTold(None, reference, None)
    found = CODE.search(code)
    return LetterTold("failed", reference, CAME_BACK + (f", status {found[0]}" if found is not None else ""))


def _reference(value: Any) -> uuid.UUID | None:
    found = MESSAGE_ID.fullmatch(value.strip()) if isinstance(value, str) else None
    return uuid.UUID(found[1]) if found is not None else None
