"""One edition's view of an incident: what its files and its report are written from.

`of_court` takes everything that was gathered; `core.evidence.defence` makes the other view out of it. Whatever the
report shows, it shows of a view, so that no edition can tell in a picture what it leaves out of its files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from core.domain import evidence
from core.domain.evidence import Apart, Fix, Span, Stay, Window

INTERVAL_S: Final = 60.0
"""A device's interval where none is known."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class View:
    """What one edition knows."""

    edition: str
    window: Window
    data: Json
    """As `core.postgres.evidence.gather` tells it, redacted where the edition is."""
    his: Sequence[Fix]
    hers: Sequence[Fix]
    stays: Sequence[Stay]
    gaps: Mapping[str, Sequence[Span]]
    """Party → stretches without a position."""
    apart: Sequence[Apart]
    facts: Sequence[Json]
    """What speaks for caution or for him: `core.evidence.facts`."""
    replay: Json
    """What judging the window again showed."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """What of the court's edition is not here → how many."""

    @property
    def device_ids(self) -> dict[int, str]:
        """Number → id of every device."""
        return {int(each["number"]): str(each["id"]) for each in self.data["devices"]}

    @property
    def breaches(self) -> list[Span]:
        """When he was within the alert radius, by what was decided."""
        return [(each.from_ms, each.to_ms) for each in self.stays if each.state == "breach"]


def of_court(data: Json, fixes: Sequence[Fix], window: Window, replay: Json) -> View:
    """Everything. `data` as `core.postgres.evidence.gather` tells it."""
    from core.evidence.facts import facts_of

    since, until = window.since_ms, window.until_ms
    inside = [fix for fix in fixes if since <= fix.live_ms < until]
    stays = evidence.stays(data["transitions"], window)
    ended = datetime.fromisoformat(data["made_at"]) if "made_at" in data else window.until
    known = Window(window.since, min(window.until, max(ended, window.since)), window.cut)
    gaps = {party: evidence.gaps(inside, party, known, _interval_s(data, party)) for party in ("victim", "aggressor")}
    return View(
        edition="court",
        window=window,
        data=data,
        his=[fix for fix in inside if fix.party == "aggressor"],
        hers=[fix for fix in inside if fix.party == "victim"],
        stays=stays,
        gaps=gaps,
        apart=evidence.distances(inside),
        facts=facts_of(data, inside, stays, gaps),
        replay=replay,
    )


def _interval_s(data: Json, party: str) -> float:
    intervals = [float(each["expected_interval_s"]) for each in data["devices"] if each["party"] == party]
    return min(intervals, default=INTERVAL_S)
