"""Challenges that need no store until they are answered: signed, short-lived, bound to what they were made for.

Anybody may ask for one, so keeping them would let anybody fill a store. A challenge is
`nonce (16) | valid until (8) | HMAC-SHA256 (32)`; the purpose and whom it is for go into the HMAC. That each is
answered once is seen to where the answer is taken (`core.postgres.sign_in_codes.spend_challenge`).
"""

from __future__ import annotations

import hmac
import secrets
from datetime import datetime, timedelta
from typing import Final

from core.clock import from_ms, to_ms
from core.errors import NotAuthenticated

NONCE_BYTES: Final = 16
BODY_BYTES: Final = NONCE_BYTES + 8
MAC_BYTES: Final = 32
LIFE: Final = timedelta(minutes=5)


def make_challenge(key: bytes, purpose: str, now: datetime, owner: bytes = b"") -> bytes:
    """A challenge that holds for LIFE, 56 bytes; `owner`: whose answer alone it takes, if anybody's."""
    body = secrets.token_bytes(NONCE_BYTES) + to_ms(now + LIFE).to_bytes(8)
    return body + _mac(key, purpose, owner, body)


def check_challenge(key: bytes, challenge: bytes, purpose: str, now: datetime, owner: bytes = b"") -> datetime:
    """Until when a challenge holds; raises NotAuthenticated unless it was made here, for this, and holds."""
    body, mac = challenge[:BODY_BYTES], challenge[BODY_BYTES:]
    if len(mac) != MAC_BYTES or not hmac.compare_digest(mac, _mac(key, purpose, owner, body)):
        raise NotAuthenticated("This is no answer to what was asked; begin again.")
    until = from_ms(int.from_bytes(body[NONCE_BYTES:]))
    if until <= now:
        raise NotAuthenticated("This took too long; begin again.")
    return until


def _mac(key: bytes, purpose: str, owner: bytes, body: bytes) -> bytes:
    return hmac.digest(key, b"\x00".join((b"challenge", purpose.encode(), owner, body)), "sha256")
