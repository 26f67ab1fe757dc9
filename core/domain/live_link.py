"""Live links: how a trusted contact sees where a protected person is, while her panic is open and for no longer.

A link is a random token of `TOKEN_BYTES`; only its digest is kept. It shows a place while all of this is so: it was
not taken back and has not run out, the panic *appears* open (core.domain.panic.appearance), and its contact is still
one who may see where she is. Whatever of it is not so, the answer is one and the same: `ENDED`.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from core.domain.panic import appearance

TOKEN_BYTES: Final = 24
"""192 random bits: 32 letters, which a text message still holds."""
BROWSER_BYTES: Final = 24
PATH: Final = "/l#"
"""What stands before the token: behind `#` it is sent to no server, and stands in no log of one."""
LIFE: Final = timedelta(hours=12)
"""Longest that a link shows anything, however long a panic stays open."""
NOTED_EVERY: Final = timedelta(minutes=10)
"""How often it is written down again that a link is still being watched."""
SAME_OPENING: Final = timedelta(seconds=10)
"""A page loaded again within this is the same opening."""
CODE_DIGITS: Final = 6
CODE_TRIES: Final = 5
CODE_LIFE: Final = timedelta(minutes=10)
CODE_PAUSE: Final = timedelta(minutes=1)
"""Between two codes for one link."""
CODES_MAX: Final = 5
"""Codes one link may ask for."""
REFRESH_S: Final = 5
"""How often the page asks again."""
MAY_SEE: Final = "position"
"""What of `contact.may_see` lets a contact have a link."""

ENDED: Final[dict[str, Any]] = {
    "state": "ended",
    "language": None,
    "started_at": None,
    "seen_by_police_at": None,
    "position": None,
    "refresh_s": 60,
}
"""What every link says that shows nothing: unknown, taken back, run out, cancelled, ended."""
ELSEWHERE: Final[dict[str, Any]] = {**ENDED, "state": "elsewhere"}
"""What a link says to a browser other than the one that it belongs to."""


def new_token() -> str:
    """A link's token."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def new_browser() -> str:
    """What a browser is known by, in a cookie that no script reads."""
    return base64.urlsafe_b64encode(secrets.token_bytes(BROWSER_BYTES)).decode().rstrip("=")


def new_code() -> str:
    """A code that lets a second browser in."""
    return f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}d}"


def may_have(contact: Mapping[str, Any]) -> bool:
    """Whether a contact may see where she is."""
    return (
        MAY_SEE in contact["may_see"]
        and contact["verified_at"] is not None
        and contact["consented_at"] is not None
        and contact["revoked_at"] is None
        and not contact["linked_to_aggressor"]
    )


def shows(link: Mapping[str, Any], now: datetime) -> bool:
    """Whether a link shows a place; `link`: its row with its contact's and its incident's (`state`, `detail`)."""
    if link["link_revoked_at"] is not None or now >= link["expires_at"] or not may_have(link):
        return False
    return appearance(link["state"], link["detail"]) not in {"cancelled", "resolved"}


def latest(places: Sequence[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """The newest of some places as the page is given it; None where none is known."""
    known = [place for place in places if place is not None and place.get("lat") is not None and place.get("at")]
    if not known:
        return None
    newest = max(known, key=lambda place: str(place["at"]))
    return {name: newest.get(name) for name in ("lat", "lon", "accuracy_m", "at")}
