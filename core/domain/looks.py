"""What is unusual about who looks at whom: far more people than her peers, or people she has nothing to do with."""

from __future__ import annotations

import statistics
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

FAR_MORE: Final = 3.0
"""Times as many people as the median of those in her role."""
FEW_PEOPLE: Final = 10
"""As many anybody may look at unasked."""


@dataclass(frozen=True, slots=True)
class Reader:
    """What one user looked at in a span."""

    user_id: uuid.UUID
    role: str
    looks: int
    """Rows of the audit that bear people."""
    people: int
    """Different people in them."""
    outside: tuple[uuid.UUID, ...]
    """People she opened one by one with no open incident, and of whom she changed nothing."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A reader beside her peers, and why somebody should ask her."""

    reader: Reader
    peer_median: float | None
    """Median of people looked at by the others in her role; None: she is the only one."""
    reasons: tuple[str, ...]
    """far_more_than_peers, outside_her_cases; none: nothing unusual."""


def judge_readers(readers: Sequence[Reader]) -> list[Judged]:
    """Each reader beside the others of her role, the unusual first, then who looked at most."""
    judged = []
    for reader in readers:
        peers = [one.people for one in readers if one.role == reader.role and one.user_id != reader.user_id]
        median = statistics.median(peers) if peers else None
        reasons = []
        if median is not None and reader.people > max(FEW_PEOPLE, FAR_MORE * median):
            reasons.append("far_more_than_peers")
        if reader.outside:
            reasons.append("outside_her_cases")
        judged.append(Judged(reader, median, tuple(reasons)))
    return sorted(judged, key=lambda one: (-len(one.reasons), -one.reader.people, str(one.reader.user_id)))
