"""Trusted contacts: invited, shown to hold an address, consenting, active, and at any time no more.

    entered ──invite──► invited ──code──► verified ──consent──► active
                           │  └─time─► lapsed                     │
                           └──────────► refused ◄─────────────────┤ by himself
                                        revoked ◄─────────────────┘ by her, or for her

Only `active` is told of anything. `refused` and `revoked` are for good: she may ask again only anew.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

TOKEN_BYTES: Final = 18
"""144 random bits: 24 letters, which leaves room in a text message."""
PATH: Final = "/contact#"
"""What stands before the token: behind `#` it is sent to no server, and stands in no log of one."""
LIFE: Final = timedelta(days=7)
"""From an invitation until it lapses unanswered."""
CODE_DIGITS: Final = 6
CODE_TRIES: Final = 5
CODE_LIFE: Final = timedelta(minutes=10)
CODE_PAUSE: Final = timedelta(minutes=1)
"""Between two codes to one address."""
CODES_MAX: Final = 5
"""Codes to one address that an invitation may ask for: it cannot be made to flood a stranger."""
CONTACTS_MAX: Final = 10
"""Contacts a person has from her own device."""
MAY_SEE: Final = ("position", "time", "status")
"""What she may let a contact see while a panic of hers is open: where she is, since when, and whether police have seen
it."""
CODED_CHANNELS: Final = ("email", "sms")
"""Channels over which a person can be asked and can answer."""
SHOWN_AT_END: Final = 2
"""Digits of a number that tell its owner which it is."""


def new_token() -> str:
    """An invitation's token; only its digest is kept."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def new_code() -> str:
    """A code that shows that an address is his who types it."""
    return f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}d}"


def code_digest(token: str, way: int, code: str) -> bytes:
    """What is kept of a code. The token is part of it and is kept nowhere: six digits alone could be tried out."""
    digits = "".join(letter for letter in code if letter.isdigit())
    return hashlib.sha256(f"{token}:{way}:{digits}".encode()).digest()


def state_of(contact: Mapping[str, Any], invitation: Mapping[str, Any] | None, now: datetime) -> str:
    """Where a contact stands; `invitation`: his last one (`refused_at`, `verified_at`, `expires_at`)."""
    if contact["revoked_at"] is not None:
        return "refused" if invitation is not None and invitation["refused_at"] is not None else "revoked"
    if contact["verified_at"] is not None and contact["consented_at"] is not None:
        return "active"
    if invitation is None or invitation["ended_at"] is not None:
        return "entered"
    if now >= invitation["expires_at"]:
        return "lapsed"
    return "verified" if invitation["verified_at"] is not None else "invited"


def answers(contact: Mapping[str, Any], invitation: Mapping[str, Any], now: datetime) -> bool:
    """Whether an invitation's page says anything: not when it was taken back, has lapsed, or he is linked to him."""
    if contact["revoked_at"] is not None or contact["linked_to_aggressor"] or invitation["ended_at"] is not None:
        return False
    return invitation["consented_at"] is not None or bool(now < invitation["expires_at"])


def masked(channel: str, address: str) -> str:
    """An address as its owner knows it again and nobody else learns it."""
    if channel == "email":
        name, _, host = address.partition("@")
        return f"{name[:1]}•••@{host[:1]}•••{host[host.rfind('.') :] if '.' in host else ''}"
    digits = "".join(letter for letter in address if letter.isdigit())
    return f"•••{digits[-SHOWN_AT_END:]}" if len(digits) > SHOWN_AT_END * 2 else "•••"
