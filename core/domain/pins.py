"""A person's PIN and duress PIN: what they may be, and what a try of one means.

Both end a panic on her phone. The one asks a dispatcher to close it; the other says that she is forced, and nothing
that her phone is told, ever, differs between them. The third wrong try in a row is taken for duress: who guesses has
her phone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from core.errors import InvalidInput

SHAPE: Final = re.compile(r"[0-9]{4,8}")
WRONG_MAX: Final = 3
"""The wrong try that is taken for duress."""
FORGET_WRONG: Final = timedelta(hours=24)
"""After how long without another one wrong tries no longer count."""


class Verdict(StrEnum):
    """What a try of a PIN was."""

    RIGHT = "right"
    DURESS = "duress"
    WRONG = "wrong"
    UNVERIFIED = "unverified"
    """It could not be checked: there is no PIN, or nobody can read it now."""


@dataclass(frozen=True, slots=True)
class Hashes:
    """A person's two hashes, as argon2 writes them."""

    pin: str
    duress: str


@dataclass(frozen=True, slots=True)
class Match:
    """Which of a person's two PINs a try equals; both are always compared."""

    pin: bool
    duress: bool


@dataclass(frozen=True, slots=True)
class Tries:
    """Wrong tries in a row, and when the last of them was."""

    count: int = 0
    last_at: datetime | None = None

    def at(self, now: datetime) -> int:
        """How many count now."""
        return 0 if self.last_at is None or now - self.last_at >= FORGET_WRONG else self.count


def check(pin: str, duress_pin: str) -> None:
    """Raise InvalidInput `pin_invalid` unless both are 4 to 8 digits and differ."""
    if SHAPE.fullmatch(pin) is None or SHAPE.fullmatch(duress_pin) is None:
        raise InvalidInput("A PIN is four to eight digits.", code="pin_invalid")
    if pin == duress_pin:
        raise InvalidInput("The PIN and the duress PIN must differ.", code="pin_invalid")


def weigh(match: Match | None, tries: Tries, now: datetime, *, forced: bool = False) -> tuple[Verdict, Tries]:
    """What a try was, and the wrong tries counted after it. `match` None: it could not be checked.

    `forced`: these PINs were set by who gave the duress PIN, and both of them are duress.
    """
    if match is None:
        return Verdict.UNVERIFIED, tries
    if match.pin or match.duress:
        return (Verdict.DURESS if match.duress or forced else Verdict.RIGHT), Tries()
    count = tries.at(now) + 1
    return (Verdict.DURESS, Tries()) if count >= WRONG_MAX else (Verdict.WRONG, Tries(count, now))
