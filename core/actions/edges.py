"""The edge of what he must keep out of: who tests where it is, and what may be said to him when he nears it.

Whoever comes near from several sides and turns back is looking for her. That is a notice on the feed, a line in the
case's open incidents, one task for the caseworker, and a word on his next approach. Nothing of it is sent to him, and
a warning that an order wants said to him waits, and holds within a radius, as `core.domain.jitter` draws them.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Final

from core.actions.fold_facts import Facts
from core.actions.tasks import tell_probing
from core.actions.unit_of_work import Unit
from core.clock import from_ms
from core.domain.jitter import may_warn, release_of
from core.domain.policy import read_policy
from core.domain.probing import WINDOW, Probing, probing_of, turns_of
from core.domain.transition import Transition
from core.ids import derived_id
from core.postgres import edges as store
from core.postgres import incidents
from core.postgres.edges import EdgeOrder
from core.postgres.incidents import Line

NOTICE: Final = "notice.probing"


async def read_probing(unit: Unit, items: Sequence[Transition]) -> dict[uuid.UUID, Probing]:
    """Of orders that somebody nears or leaves: by whom the edge is being tested."""
    order_ids = sorted({item.order_id for item in items if item.order_id is not None and _concerns(item)})
    if not order_ids:
        return {}
    orders = await store.orders(unit.connection, order_ids)
    newest_ms = max(item.evaluated_ms for item in items)
    history = await store.recent(unit.connection, order_ids, from_ms(newest_ms) - 2 * WINDOW)
    found = {}
    for order_id, order in orders.items():
        policy = read_policy(order.policy)
        turns = turns_of(history.get(order_id, ()))
        probing = probing_of(turns, newest_ms, policy.probing_count, policy.probing_spread_deg)
        if probing is not None:
            found[order_id] = probing
    await _decide_warnings(unit, items, orders)
    return found


async def tell(unit: Unit, facts: Facts, items: Sequence[Transition], found: Mapping[uuid.UUID, Probing]) -> None:
    """Tell of edges that were just tested once more: he turned back, and it was not the first time."""
    lines: list[Line] = []
    for item in items:
        if item.order_id is None or not _turns_back(item) or (probing := found.get(item.order_id)) is None:
            continue
        said = probing.told()
        if not await tell_probing(unit, item.agency_id, item.case_id, item.order_id, item.id, said):
            continue
        about = {
            "case_id": str(item.case_id), "order_id": str(item.order_id), "victim_id": str(item.victim_id),
            "aggressor_id": str(item.aggressor_id),
        }  # fmt: skip
        unit.emit(item.agency_id, NOTICE, {**about, **said})
        lines += [
            (derived_id("timeline", "probing", item.id, one), one, from_ms(item.evaluated_ms), "probing", None, said)
            for one in facts.standing.get(item.case_id, ())
        ]
    if lines:
        await incidents.add_lines(unit.connection, lines)


async def _decide_warnings(unit: Unit, items: Sequence[Transition], orders: Mapping[uuid.UUID, EdgeOrder]) -> None:
    """What may be said to who just came near, if his order wants it said; nothing to who turned back."""
    decided = []
    left = []
    for item in items:
        order = orders.get(item.order_id) if item.order_id is not None else None
        if order is None or item.kind != "proximity" or not may_warn(warn_aggressor=order.warn_aggressor):
            continue
        if (item.from_state, item.to_state) == ("clear", "warning"):
            release = release_of(order.id, item.at_ms, order.alert_m, order.warning_m)
            at_ms = max(release.at_ms, item.evaluated_ms)
            moments = from_ms(item.evaluated_ms), from_ms(at_ms)
            decided.append((derived_id("warning", item.id), order, *moments, release.radius_m))
        elif item.to_state == "clear":
            left.append(order.id)
    if decided:
        await store.add_warnings(unit.connection, decided)
    if left:
        await store.end_warnings(unit.connection, left, unit.now)


def _concerns(item: Transition) -> bool:
    return item.kind in {"proximity", "approach"} and not item.retrospective


def _turns_back(item: Transition) -> bool:
    """Whether he goes: out of the warning ring, or out of an approach."""
    if not _concerns(item):
        return False
    if item.kind == "proximity":
        return (item.from_state, item.to_state) == ("warning", "clear")
    return item.to_state == "none" and item.detail.get("outcome") != "entered"
