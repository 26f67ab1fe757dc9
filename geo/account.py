"""Verdicts → transitions: every change of state with its reasons, in an order that no cut of the log alters."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from core.domain.case import Case, CaseOrder, CasePerson, CaseZone
from core.domain.transition import Position, Transition, transition_id
from geo import pulse, separation, states
from geo.frame import Floats, to_degrees
from geo.proximity import Verdict
from geo.roster import Ended, Roster
from geo.rows import HEARD, WORD, Rows
from geo.track import LIVE, PLACE, PP, RADIUS_68_SIGMA, Bools, Times

KIND_RANK: Final = {"device": 0, "proximity": 1, "zone": 2}


class Causes(Protocol):
    """Which log entry, and which record in it, stands behind the number of a cause."""

    def __getitem__(self, cause: int) -> tuple[str, int]: ...


@dataclass(slots=True)
class Account:
    """Collects the transitions of a stretch of the log."""

    shard: int
    roster: Roster
    causes: Causes = field(default_factory=list)
    _told: list[tuple[tuple[int, int, int, str, str], Transition]] = field(default_factory=list)

    def close(self) -> list[Transition]:
        """The transitions told since the last call, in the order of their causes."""
        self._told.sort(key=lambda each: each[0])
        out = [transition for _, transition in self._told]
        self._told.clear()
        return out

    def orders(self, verdict: Verdict, now_ms: Sequence[int], causes: Sequence[int]) -> None:
        """Tell of orders whose rings changed; `now_ms` and `causes` are those of what was asked."""
        changed = np.flatnonzero((verdict.on != verdict.on_before).any(axis=1))
        if not changed.size:
            return
        by_victim, by_aggressor = separation.closing(verdict.victim[changed], verdict.aggressor[changed])
        before, after = states.level(verdict.on_before[changed]), states.level(verdict.on[changed])
        for at, k in enumerate(changed.tolist()):
            asked = int(verdict.index[k])
            case, order = self.roster.orders.about[int(verdict.rows[k])]
            distance = float(verdict.distance_m[k])
            by_v, by_a = float(by_victim[at]), float(by_aggressor[at])
            detail: dict[str, Any] = {
                "alert_m": order.alert_m,
                "warning_m": max(order.warning_m, order.alert_m),
                "sigma_m": round(float(verdict.sigma_m[k]), 1),
            }
            ring = 0 if verdict.on[k, 0] else 1
            rose = bool(after[at] > before[at])
            if rose and verdict.uncertain[k, ring]:
                detail["uncertain"] = True
            p_inner = float(verdict.p_inner[k])
            if rose and verdict.passed[k, ring]:  # the figures are those of the moment it happened
                detail["distance_now_m"] = round(distance, 2)
                distance, p_inner = float(verdict.closest_m[k]), float(verdict.p_closest[k])
                detail["closest_m"] = round(distance, 1)
            self._tell(
                case,
                order,
                None,
                states.NAMES[before[at]],
                states.NAMES[after[at]],
                cause=int(causes[asked]),
                at_ms=int(verdict.at_ms[k]),
                now_ms=int(now_ms[asked]),
                parties=self.roster.parties(int(verdict.rows[k])),
                figures={
                    "distance_m": round(distance, 2),
                    "p_within": round(p_inner, 6),
                    "closing_mps": round(by_v + by_a, 2),
                    "time_to_zone_s": _rounded(separation.time_to_zone_s(distance, order.alert_m, by_v + by_a)),
                    "attribution": separation.attribution(by_v, by_a),
                },
                victim=verdict.victim[k],
                aggressor=verdict.aggressor[k],
                detail=detail,
            )

    def zones(self, verdict: Verdict, now_ms: Sequence[int], causes: Sequence[int]) -> None:
        """Tell of zones whose rings changed."""
        changed = np.flatnonzero((verdict.on != verdict.on_before).any(axis=1))
        for k in changed.tolist():
            asked = int(verdict.index[k])
            case, order, zone = self.roster.zones.about[int(verdict.rows[k])]
            before = int(states.level(verdict.on_before[k : k + 1])[0])
            after = int(states.level(verdict.on[k : k + 1])[0])
            detail: dict[str, Any] = {
                "zone_kind": zone.kind,
                "warning_m": zone.warning_m,
                "sigma_m": round(float(verdict.sigma_m[k]), 1),
            }
            if after > before and verdict.uncertain[k, 0 if after == 2 else 1]:
                detail["uncertain"] = True
            if after > before and verdict.passed[k, 0]:
                detail["crossed"] = True
            self._tell(
                case,
                order,
                zone,
                states.NAMES[before],
                states.NAMES[after],
                cause=int(causes[asked]),
                at_ms=int(verdict.at_ms[k]),
                now_ms=int(now_ms[asked]),
                parties=self.roster.parties(int(self.roster.zones.order[int(verdict.rows[k])])),
                figures={
                    "distance_m": round(float(verdict.distance_m[k]), 2),
                    "p_within": round(float(verdict.p_inner[k]), 6),
                },
                victim=None,
                aggressor=verdict.aggressor[k],
                detail=detail,
            )

    def ended(self, ended: Ended, now_ms: int, cause: int, reason: str) -> None:
        """Tell that an order or a zone no longer holds: its state is clear, for a reason that is no distance."""
        self._tell(
            ended.case,
            ended.order,
            ended.zone,
            states.NAMES[ended.level],
            states.NAMES[0],
            cause=cause,
            at_ms=now_ms,
            now_ms=now_ms,
            parties=ended.parties,
            figures={},
            victim=None,
            aggressor=None,
            detail={"reason": reason},
        )

    def device(
        self, row: int, signal: str, change: tuple[str, str], *, cause: int, at_ms: int, now_ms: int, **facts: Any
    ) -> None:
        """Tell of a device's own signal; `facts` with a value other than None are added to the detail."""
        case, person, device = self.roster.devices.about[row]
        entry, index = self.causes[cause]
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
            id=transition_id(self.shard, entry, index, f"{device.id}:{signal}", "device"),
            shard=self.shard,
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

    def _tell(
        self,
        case: Case,
        order: CaseOrder,
        zone: CaseZone | None,
        before: str,
        after: str,
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
        entry, index = self.causes[cause]
        kind = "proximity" if zone is None else "zone"
        subject: uuid.UUID = order.id if zone is None else zone.id
        transition = Transition(
            id=transition_id(self.shard, entry, index, subject, kind),
            shard=self.shard,
            entry=entry,
            kind=kind,
            from_state=before,
            to_state=after,
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


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 1)


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
