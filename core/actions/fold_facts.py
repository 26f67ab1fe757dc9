"""What the fold knows while it judges a batch: orders, wearers, separations, what is open, who is silent.

Read once for a batch and kept current while it is judged, so that each transition is seen in the light of everything
before it, also of what came in the same batch.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from core.actions.notices import TOLD_TO_HER
from core.actions.unit_of_work import Unit
from core.domain.alarm import (
    DANGEROUS,
    SEPARATION_KINDS,
    Alarm,
    Surroundings,
    alarm_of,
    is_past,
    signal_of,
)  # fmt: skip
from core.domain.incident import SEVERITY_RANK, Severity
from core.domain.probing import Probing
from core.domain.transition import Transition
from core.postgres import incidents as store
from core.postgres import separations, silences
from core.postgres import transitions as records
from core.postgres.incidents import Row

TROUBLE: Final = frozenset({"proximity", "zone", "tamper", "panic"})
"""Families whose open incident makes a victim's silence urgent."""
NEAR_STATES: Final = frozenset({"warning", "breach", "predicted"})
CLOSING_MPS: Final = 0.5
"""Speed from which somebody unseen was coming."""
P_UNKNOWN: Final = 0.2
"""Probability of being inside, unseen, that is danger, where the transition does not name its policy's."""
TAMPER_TYPES: Final = frozenset({"tamper", "jamming"})


@dataclass(frozen=True, slots=True)
class Judgement:
    """An alarm a transition raises or eases, with what was so at that moment."""

    item: Transition
    alarm: Alarm
    zones_inside: tuple[str, ...] = ()
    near: bool = True
    """Whether danger was near: then no outage hides it."""
    own: bool = True
    """False: the transition is another's; it only makes this incident more severe."""


@dataclass
class Facts:
    """What the database says about the cases of a batch."""

    orders: dict[uuid.UUID, records.OrderParties]
    wearers: dict[uuid.UUID, tuple[uuid.UUID | None, str]]
    recent: dict[uuid.UUID, list[Row]]
    """By case: incidents touched within the gap of an episode, the latest first."""
    standing: dict[uuid.UUID, dict[uuid.UUID, Row]]
    """By case: incidents that are not resolved."""
    states: dict[separations.Key, str]
    silent_victims: dict[uuid.UUID, set[uuid.UUID]]
    troubled: set[uuid.UUID] = field(default_factory=set)
    tampered: dict[uuid.UUID, dict[str, set[str]]] = field(default_factory=dict)
    """By case and subject: signals of tampering that are on, of incidents that are open."""
    probing: dict[uuid.UUID, Probing] = field(default_factory=dict)
    """By order: that its edge is being tested."""

    def judge(self, item: Transition) -> list[Judgement]:
        """What a transition means: its own alarm first, then what it makes of others."""
        if is_past(item):
            return []
        key = separations.key_of(item)
        if key is not None and item.kind in SEPARATION_KINDS:
            self.states[key] = item.to_state
        person, role = self.wearer(item)
        around = Surroundings(self._separations(item, person), role == "victim", item.case_id in self.troubled)
        alarm = alarm_of(item, around)
        found = [] if alarm is None else [Judgement(item, alarm, self._zones_inside(item), self._is_near(item, alarm))]
        self._note_silence(item, role)
        if alarm is not None:
            self._note_tamper(item, alarm)
            if alarm.raised and alarm.family in TROUBLE:
                self.troubled.add(item.case_id)
        if item.kind in {"proximity", "assurance"} and item.to_state in DANGEROUS:
            found += [Judgement(item, worse, own=False) for worse in self._tampers_worse(item)]
        if alarm is not None and alarm.raised and alarm.family in TROUBLE:  # also where a panic began the trouble
            found += [Judgement(item, worse, own=False) for worse in self._silences_worse(item)]
        elif alarm is not None and alarm.raised and alarm.type == "silence" and role == "aggressor":
            # that her battery was flat explains nothing any more
            found += [Judgement(item, worse, own=False) for worse in self._unknowns_worse(item)]
        return found

    def wearer(self, item: Transition) -> tuple[uuid.UUID | None, str]:
        """Who carries the transition's device and in which role; (None, "other") when it has none."""
        if item.device_id is None:
            return None, "other"
        person, role = self.wearers.get(item.device_id, (None, "other"))
        return person or item.victim_id or item.aggressor_id, role

    def orders_of(self, item: Transition, person: uuid.UUID | None) -> list[records.OrderParties]:
        """The orders of the transition's case that it concerns."""
        if item.order_id is not None:
            return [self.orders[item.order_id]] if item.order_id in self.orders else []
        return [
            order
            for order in self.orders.values()
            if order.case_id == item.case_id and person in {order.victim_id, order.aggressor_id}
        ]

    def episode(self, item: Transition, fallback: uuid.UUID) -> uuid.UUID:
        """The episode of the case's latest incident, if recent; else a new one."""
        for row in self.recent.get(item.case_id, ()):
            found: uuid.UUID = row["episode_id"]
            return found
        return fallback

    def joined(self, row: Row) -> None:
        """An incident of a case is about to be opened: what comes after it joins its episode."""
        self.recent.setdefault(row["case_id"], []).insert(0, row)

    def stood(self, row: Row) -> None:
        """An incident that is not resolved was met, or opened."""
        self.standing.setdefault(row["case_id"], {})[row["id"]] = row

    def stands(self, row: Row) -> bool:
        """Whether an incident of the same subject and family was open when the facts were read."""
        key = (row["subject"], row["family"])
        return any(
            (other["subject"], other["family"]) == key for other in self.standing.get(row["case_id"], {}).values()
        )

    def pages(self, row: Row) -> tuple[bool, bool]:
        """Of a new incident: whether routes hear of it, and whether the protected person does.

        Not when its episode has an open incident as severe that they heard of; what was is no word of what is.
        """
        others = [
            other
            for other in self.standing.get(row["case_id"], {}).values()
            if other["id"] != row["id"]
            and other["episode_id"] == row["episode_id"]
            and (row["retrospective"] or not other["retrospective"])
            and SEVERITY_RANK[other["severity"]] >= SEVERITY_RANK[row["severity"]]
        ]
        return not others, not any(other["type"] in TOLD_TO_HER for other in others)

    def _separations(self, item: Transition, person: uuid.UUID | None) -> frozenset[str]:
        return frozenset(
            state
            for order in self.orders_of(item, person)
            for kind in ("proximity", "assurance")
            if (state := self.states.get((order.id, kind, separations.NO_ZONE))) is not None
        )

    def _zones_inside(self, item: Transition) -> tuple[str, ...]:
        if item.kind != "zone":
            return ()
        return tuple(
            sorted(
                str(zone)
                for (order, kind, zone), state in self.states.items()
                if order == item.order_id and kind == "zone" and state == "breach"
            )
        )

    def _is_near(self, item: Transition, alarm: Alarm) -> bool:
        if alarm.type == "silence":
            return SEVERITY_RANK[alarm.severity] > SEVERITY_RANK[Severity.MEDIUM]
        if item.kind != "assurance" or item.order_id is None:
            return True
        around = {self.states.get((item.order_id, kind, separations.NO_ZONE)) for kind in ("proximity", "approach")}
        policy = item.detail.get("policy", {})
        warning_m, p_unknown = item.detail.get("warning_m", 0.0), policy.get("p_unknown", P_UNKNOWN)
        return bool(
            around & NEAR_STATES
            or item.case_id in self.troubled
            or (item.closing_mps is not None and item.closing_mps >= CLOSING_MPS)
            or (item.distance_m is not None and item.distance_m <= warning_m)
            or (item.p_within is not None and item.p_within >= p_unknown)
        )

    def _note_silence(self, item: Transition, role: str) -> None:
        if role == "victim" and item.device_id is not None and signal_of(item) == "silence":
            silent = self.silent_victims.setdefault(item.case_id, set())
            if item.to_state == "silent":
                silent.add(item.device_id)
            else:
                silent.discard(item.device_id)

    def _note_tamper(self, item: Transition, alarm: Alarm) -> None:
        if alarm.type in TAMPER_TYPES:
            signals = self.tampered.setdefault(item.case_id, {}).setdefault(alarm.subject, set())
            if alarm.raised:
                signals.add(signal_of(item))
            else:
                signals.discard(signal_of(item))

    def _silences_worse(self, item: Transition) -> list[Alarm]:
        """Her silence, and a separation nobody knows, are urgent once something is going on."""
        hers = [
            Alarm(f"device:{device}", "silence", "silence", Severity.HIGH, True, opens=False)
            for device in sorted(self.silent_victims.get(item.case_id, ()))
            if device != item.device_id
        ]
        return hers + self._unknowns_worse(item)

    def _unknowns_worse(self, item: Transition) -> list[Alarm]:
        return [
            Alarm(row["subject"], "silence", "separation_unknown", Severity.HIGH, True, opens=False)
            for row in self.standing.get(item.case_id, {}).values()
            if row["type"] == "separation_unknown"
            and self.states.get((row["order_id"], "assurance", separations.NO_ZONE)) == "unknown"
        ]

    def _tampers_worse(self, item: Transition) -> list[Alarm]:
        """What was opened or jammed while he was far is critical now that he is near, or nobody knows."""
        parties = {person for order in self.orders_of(item, None) for person in (order.victim_id, order.aggressor_id)}
        found = []
        for subject, signals in sorted(self.tampered.get(item.case_id, {}).items()):
            device_id = uuid.UUID(subject.removeprefix("device:"))
            if (
                signals & {"strap", "casing", "mock", "jamming"}
                and self.wearers.get(device_id, (None, ""))[0] in parties
            ):
                # the least of the family's types, so that only the severity rises
                found.append(Alarm(subject, "tamper", "frozen", Severity.CRITICAL, True, opens=False))
        return found


async def gather(unit: Unit, items: Sequence[Transition]) -> Facts:
    """Read what the batch has to be judged by; about half a dozen statements, however long it is."""
    connection = unit.connection
    case_ids = sorted({item.case_id for item in items})
    found = await store.recent_of_cases(connection, case_ids, unit.now - store.EPISODE_GAP)
    rows = [row for of_case in found.values() for row in of_case]
    standing = [row for row in rows if row["state"] != "resolved"]
    device_ids = sorted(
        {item.device_id for item in items if item.device_id is not None}
        | {row["device_id"] for row in standing if row["device_id"] is not None}
    )
    facts = Facts(
        orders=await records.orders_of_cases(connection, case_ids),
        wearers=await records.wearers(connection, device_ids) if device_ids else {},
        recent={
            case_id: [row for row in of_case if row["updated_at"] >= unit.now - store.EPISODE_GAP]
            for case_id, of_case in found.items()
        },
        standing={},
        states=await separations.of_cases(connection, case_ids),
        silent_victims=await silences.victims_silent(connection, case_ids),
    )
    for row in standing:
        facts.standing.setdefault(row["case_id"], {})[row["id"]] = row
        if row["family"] in TROUBLE:
            facts.troubled.add(row["case_id"])
        if row["family"] == "tamper":
            facts.tampered.setdefault(row["case_id"], {})[row["subject"]] = set(row["signals_on"] or ())
    return facts
