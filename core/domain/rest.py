"""Whether two people were at rest: each stayed within a small box over a span that fixes cover."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final, Protocol

REST_M: Final = 100.0
"""The box of nine tenths of the good fixes has no longer side: a flat and its noise, not a walk."""
BAD_FIX_M: Final = 100.0
"""A fix with a greater accuracy radius says nothing of rest."""
FIXES_LEAST: Final = 3
COVER: Final = timedelta(minutes=10)
"""How far from the beginning and the end of the span the first and last fix may be: who is not seen is not at rest."""
METRES_PER_DEGREE: Final = 111_195.0


class Stay(Protocol):
    """Where one party was."""

    @property
    def role(self) -> str: ...
    @property
    def fixes(self) -> int: ...
    @property
    def first_at(self) -> datetime: ...
    @property
    def last_at(self) -> datetime: ...
    @property
    def south(self) -> float: ...
    @property
    def north(self) -> float: ...
    @property
    def west(self) -> float: ...
    @property
    def east(self) -> float: ...


def is_at_rest(stay: Stay, begins: datetime, ends: datetime) -> bool:
    """Whether one party stayed where it was from `begins` to `ends`, and was seen to."""
    if stay.fixes < FIXES_LEAST or stay.first_at - begins > COVER or ends - stay.last_at > COVER:
        return False
    across = (stay.east - stay.west) * math.cos(math.radians((stay.south + stay.north) / 2))
    return max(stay.north - stay.south, across) * METRES_PER_DEGREE <= REST_M


def both_at_rest(stays: Iterable[Stay], begins: datetime, ends: datetime) -> bool:
    """Whether both the victim and the aggressor were at rest."""
    found = {stay.role: is_at_rest(stay, begins, ends) for stay in stays}
    return found.get("victim", False) and found.get("aggressor", False)
