"""A webhook's signing secret while it is replaced: the new one, then the earlier one with the moment it ends.

`whsec_NEW whsec_OLD@1780000000`: until then every message bears a signature of each, so that a receiver may change over
at any moment in between. Each message queued keeps the secrets it was queued with, and the moment with them.
"""

from __future__ import annotations

import base64
import secrets
from datetime import datetime
from typing import Final

PREFIX: Final = "whsec_"
KEY_BYTES: Final = 32


def new_secret() -> str:
    """A signing secret as Standard Webhooks writes it."""
    return PREFIX + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def rotated(earlier: str | None, new: str, now: datetime, ends_at: datetime) -> str:
    """`new` beside the secret in force until now, which ends at `ends_at`; whatever else was still ending ends."""
    in_force = secrets_in_force(earlier or "", now)
    if not in_force or ends_at <= now:
        return new
    return f"{new} {in_force[0]}@{int(ends_at.timestamp())}"


def secrets_in_force(written: str, now: datetime) -> list[str]:
    """The secrets to sign with now, the newest first."""
    found = []
    for one in written.split():
        secret, _, until = one.partition("@")
        if not until or (until.isdigit() and int(until[:12]) > now.timestamp()):
            found.append(secret)
    return found
