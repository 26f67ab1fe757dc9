"""What changed → transitions: every change of state with its reasons, in an order that no cut of the log alters."""

from __future__ import annotations

import bisect
import itertools
import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from core.domain.case import Case, CaseOrder, CasePerson, CaseZone
from core.domain.policy import used_by
from core.domain.transition import Position, Transition, transition_id
from geo import pulse, states
from geo.frame import Floats, to_degrees
from geo.roster import Ended, Roster
from geo.rows import HEARD, WORD, Rows
from geo.track import LIVE, PLACE, PP, RADIUS_68_SIGMA, Bools, Times

KIND_RANK: Final = {"device": 0, "proximity": 1, "zone": 2, "approach": 3, "assurance": 4}


class Causes(Protocol):
    """Which shard, which entry of its log, and which record in it, stand behind the number of a cause."""

    def __getitem__(self, cause: int) -> tuple[int, str, int]: ...


@dataclass(slots=True)
class Account:
    """Collects the transitions of a stretch of the log."""

    roster: Roster
    causes: Causes = field(default_factory=list)
    aside: str = ""
    """Set while a record is taken for something beside its fix (`heard`): its transitions have ids of their own."""
    _told: list[tuple[tuple[int, int, int, str, str], Transition]] = field(default_factory=list)

    def close(self) -> list[Transition]:
        """The transitions told since the last call, in the order of their causes."""
        return self.close_at([])[0]

    def close_at(self, cuts: Sequence[int]) -> list[list[Transition]]:
        """The same, cut where the cause reaches each of the `cuts`: one list more than there are cuts."""
        self._told.sort(key=lambda each: each[0])
        causes = [key[0] for key, _ in self._told]
        out = [transition for _, transition in self._told]
        self._told.clear()
        bounds = [0, *(bisect.bisect_left(causes, cut) for cut in cuts), len(out)]
        return [out[a:b] for a, b in itertools.pairwise(bounds)]

    def ended(self, ended: Ended, now_ms: int, cause: int, reason: str) -> None:
        """Tell that an order or a zone no longer holds: its states are clear, for a reason that is no distance."""
        changes = [("proximity" if ended.zone is None else "zone", states.NAMES[ended.level], states.NAMES[0])]
        if ended.predicted:
            changes.append(("approach", "predicted", "none"))
        if ended.unknown:
            changes.append(("assurance", "unknown", "likely"))
        for kind, before, after in changes:
            if before == after:
                continue
            self.tell(
                kind,
                ended.case,
                ended.order,
                ended.zone,
                (before, after),
                cause=cause,
                at_ms=now_ms,
                now_ms=now_ms,
                parties=ended.parties,
                figures={},
                victim=None,
                aggressor=None,
                detail={"reason": reason, "policy": used_by(ended.order)},
            )

    def device(
        self, row: int, signal: str, change: tuple[str, str], *, cause: int, at_ms: int, now_ms: int, **facts: Any
    ) -> None:
        """Tell of a device's own signal; `facts` with a value other than None are added to the detail."""
        case, person, device = self.roster.devices.about[row]
        shard, entry, index = self.causes[cause]
        retrospective = bool(facts.pop("retrospective", False))
        detail = {
            "signal": signal,
            "party": person.role,
            "person_id": str(person.id),
            "device_kind": device.kind,
            "separation": self._separation(int(self.roster.devices.person[row]), now_ms),
        }
        detail.update((name, value) for name, value in facts.items() if value is not None)
        position = _position(self.roster.devices.fix[row])
        transition = Transition(
            id=transition_id(shard, entry, index, f"{device.id}:{signal}", "device"),
            shard=shard,
            entry=entry,
            kind="device",
            from_state=change[0],
            to_state=change[1],
            at_ms=at_ms,
            evaluated_ms=now_ms,
            agency_id=case.agency_id,
            case_id=case.id,
            device_id=device.id,
            victim_id=person.id if person.role == "victim" else None,
            aggressor_id=person.id if person.role == "aggressor" else None,
            victim_position=position if person.role == "victim" else None,
            aggressor_position=position if person.role == "aggressor" else None,
            retrospective=retrospective,
            detail=detail,
        )
        self._told.append(((cause, case.number, KIND_RANK["device"], f"{device.number:012d}", signal), transition))

    def pulses(
        self,
        changed: NDArray[np.int64],
        rows: Rows,
        held: Times,
        beaten: Times,
        newest: Bools,
        records: NDArray[np.void],
        now_ms: Times,
        cause: NDArray[np.int64],
    ) -> None:
        """Tell of devices whose words changed: indices `changed` into the n records of a round."""
        for k in changed.tolist():
            now, heard = int(now_ms[k]), int(held[k, HEARD])
            battery = float(records["battery_pct"][k])
            for signal, before, after in pulse.changes(int(held[k, WORD]), int(beaten[k, WORD])):
                silence = signal == "silence"
                facts: dict[str, Any] = {"retrospective": not newest[k] and not silence}
                if signal == "battery" and math.isfinite(battery):
                    facts["battery_pct"] = round(battery, 1)
                if silence and heard:
                    facts["silent_s"] = round((now - heard) / 1000, 1)
                at_ms = now if silence else min(int(records["at_ms"][k]), now)
                self.device(
                    int(rows[k]), signal, (before, after), cause=int(cause[k]), at_ms=at_ms, now_ms=now, **facts
                )

    def _separation(self, person: int, now_ms: int) -> str:
        """The worst state of a person's orders; `unknown` when none is on and one of them lacks a fresh fix."""
        orders, people, devices = self.roster.orders, self.roster.people, self.roster.devices
        worst, unknown = 0, False
        link = int(people.link[person])
        while link >= 0:
            row = link >> 1
            if orders.live[row]:
                worst = max(worst, int(states.level(orders.on[row : row + 1])[0]))
                for party in orders.party[row].tolist():
                    best = int(people.best[party])
                    unknown |= best < 0 or bool(now_ms - devices.fix[best, LIVE] > devices.fresh_ms[best])
            link = int(orders.next[row, link & 1])
        return "unknown" if unknown and worst == 0 else states.NAMES[worst]

    def tell(
        self,
        kind: str,
        case: Case,
        order: CaseOrder,
        zone: CaseZone | None,
        change: tuple[str, str],
        *,
        cause: int,
        at_ms: int,
        now_ms: int,
        parties: tuple[CasePerson, CasePerson],
        figures: dict[str, Any],
        victim: Floats | None,
        aggressor: Floats | None,
        detail: dict[str, Any],
    ) -> None:
        """Tell of an order or a zone, from `change[0]` to `change[1]`."""
        shard, entry, index = self.causes[cause]
        subject: uuid.UUID = order.id if zone is None else zone.id
        transition = Transition(
            id=transition_id(shard, entry, index, f"{subject}:{self.aside}" if self.aside else subject, kind),
            shard=shard,
            entry=entry,
            kind=kind,
            from_state=change[0],
            to_state=change[1],
            at_ms=at_ms,
            evaluated_ms=now_ms,
            agency_id=case.agency_id,
            case_id=case.id,
            order_id=order.id,
            zone_id=None if zone is None else zone.id,
            victim_id=parties[0].id,
            aggressor_id=parties[1].id,
            victim_fix_age_s=_age_s(victim, now_ms),
            aggressor_fix_age_s=_age_s(aggressor, now_ms),
            victim_position=_position(victim),
            aggressor_position=_position(aggressor),
            detail=detail,
            **figures,
        )
        key = (cause, case.number, KIND_RANK[kind], f"{order.number:012d}", "" if zone is None else str(zone.id))
        self._told.append((key, transition))


def _age_s(fix: Floats | None, now_ms: int) -> float | None:
    return None if fix is None else round((now_ms - float(fix[LIVE])) / 1000.0, 3)


def _position(fix: Floats | None) -> Position | None:
    if fix is None or not fix[LIVE] > 0:
        return None
    lat, lon = to_degrees(fix[PLACE])
    return Position(
        lat=round(float(lat), 7),
        lon=round(float(lon), 7),
        accuracy_m=round(math.sqrt(float(fix[PP])) * RADIUS_68_SIGMA, 1),
        at_ms=int(fix[LIVE]),
    )
