"""Verdicts, predictions and assurances → transitions, with the figures a dispatcher and a court ask for."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from core.clock import from_ms, rfc3339
from core.domain.case import CaseOrder
from core.domain.policy import used_by
from geo import assurance as assuring
from geo import separation, states
from geo.account import Account
from geo.fix_filter import is_at_rest
from geo.frame import Floats
from geo.proximity import Assurance, Prediction, Verdict
from geo.pulse import BATTERY_MASK
from geo.rows import WORD
from geo.run import Index
from geo.track import LIVE, PLACE, SERVICE_MS, Times
from geo.view import View

PREDICTED: Final = ("none", "predicted")


def orders(account: Account, verdict: Verdict, now_ms: Times, causes: Index) -> None:
    """Tell of orders whose rings changed; `now_ms` and `causes` are those of what was asked."""
    changed = np.flatnonzero((verdict.on != verdict.on_before).any(axis=1))
    if not changed.size:
        return
    apart, distance = _apart(verdict.victim[changed], verdict.aggressor[changed])
    by_victim, by_aggressor = separation.closing(verdict.victim[changed], verdict.aggressor[changed], apart, distance)
    before, after = states.level(verdict.on_before[changed]), states.level(verdict.on[changed])
    table = account.roster.orders
    for at, k in enumerate(changed.tolist()):
        asked, row = int(verdict.index[k]), int(verdict.rows[k])
        order = table.about[row][1]
        metres = float(verdict.distance_m[k])
        detail = _grounds(order, float(verdict.sigma_m[k]))
        ring = 0 if verdict.on[k, 0] else 1
        rose = bool(after[at] > before[at])
        if rose and verdict.uncertain[k, ring]:
            detail["uncertain"] = True
        if rose and verdict.heard is not None and verdict.heard[k] and ring == 0:
            detail["heard"] = True
        p_inner = float(verdict.p_inner[k])
        if rose and verdict.passed[k, ring]:  # the figures are those of the moment it happened
            detail["distance_now_m"] = round(metres, 2)
            metres, p_inner = float(verdict.closest_m[k]), float(verdict.p_closest[k])
            detail["closest_m"] = round(metres, 1)
        if 2 in (before[at], after[at]):
            detail["p_legal"] = round(float(table.p_legal[row]), 6)
            detail["p_legal_at"] = rfc3339(from_ms(int(table.p_legal_ms[row])))
        _tell(
            account,
            "proximity",
            row,
            (states.NAMES[before[at]], states.NAMES[after[at]]),
            cause=int(causes[asked]),
            at_ms=int(verdict.at_ms[k]),
            now_ms=int(now_ms[asked]),
            metres=metres,
            p_inner=p_inner,
            closing=(float(by_victim[at]), float(by_aggressor[at])),
            victim=verdict.victim[k],
            aggressor=verdict.aggressor[k],
            detail=detail,
        )


def approach(account: Account, prediction: Prediction, now_ms: Times, causes: Index) -> None:
    """Tell of orders whose prediction changed."""
    changed = np.flatnonzero(prediction.after != prediction.before)
    if not changed.size:
        return
    view = prediction.view.take(changed)
    by_victim, by_aggressor = separation.closing(view.victim, view.aggressor, view.apart, view.distance_m)
    table = account.roster.orders
    p_inner = separation.p_within(table.limits[view.rows, 0], view.distance_m, view.sigma_m)
    for at, k in enumerate(changed.tolist()):
        asked, row = int(view.index[at]), int(view.rows[at])
        detail = _grounds(table.about[row][1], float(view.sigma_m[at]))
        if prediction.after[k]:
            detail["p_approach"] = round(float(prediction.p[k]), 6)
            detail["ahead_s"] = round(float(prediction.eta_s[k]), 1)
        else:
            detail["outcome"] = "entered" if prediction.entered[k] else "turned_away"
        _tell(
            account,
            "approach",
            row,
            (PREDICTED[int(prediction.before[k])], PREDICTED[int(prediction.after[k])]),
            cause=int(causes[asked]),
            at_ms=int(view.now_ms[at]),
            now_ms=int(now_ms[asked]),
            metres=float(view.distance_m[at]),
            p_inner=float(p_inner[at]),
            closing=(float(by_victim[at]), float(by_aggressor[at])),
            victim=view.victim[at],
            aggressor=view.aggressor[at],
            detail=detail,
        )


def assurance(account: Account, assured: Assurance, now_ms: Times, causes: Index) -> None:
    """Tell of orders whose assurance changed with a fix: known again, guaranteed, or blurred by poor fixes.

    That it is known for the first time is no news.
    """
    news = (assured.before != assuring.NOT_YET) | (assured.after == assuring.UNKNOWN)
    changed = np.flatnonzero((assured.after != assured.before) & news)
    if not changed.size:
        return
    view = assured.view.take(changed)
    p_inner = separation.p_within(account.roster.orders.limits[view.rows, 0], view.distance_m, view.sigma_m)
    for at, k in enumerate(changed.tolist()):
        before, after = int(assured.before[k]), int(assured.after[k])
        asked, row = int(view.index[at]), int(view.rows[at])
        detail = _grounds(account.roster.orders.about[row][1], float(view.sigma_m[at]))
        detail["lower_bound_m"] = round(float(assured.bound_m[k]), 1)
        if after == assuring.UNKNOWN:
            detail["reason"] = "poor_fixes"
        _tell(
            account,
            "assurance",
            row,
            (assuring.NAMES[before], assuring.NAMES[after]),
            cause=int(causes[asked]),
            at_ms=int(view.now_ms[at]),
            now_ms=int(now_ms[asked]),
            metres=float(view.distance_m[at]),
            p_inner=float(p_inner[at]),
            closing=(0.0, 0.0),
            victim=view.victim[at],
            aggressor=view.aggressor[at],
            detail=detail,
        )


def silence(account: Account, view: View, before: NDArray[np.int8], service_ms: int) -> None:
    """Tell of orders whose separation is unknown because somebody is silent, naming who; the cause is a tick."""
    table, devices = account.roster.orders, account.roster.devices
    good = devices.fresh_ms.take(view.best)
    p_inner = separation.p_within(table.limits[view.rows, 0], view.distance_m, view.sigma_m)
    by_victim, by_aggressor = separation.closing(view.victim, view.aggressor, view.apart, view.distance_m)
    for k, row in enumerate(view.rows.tolist()):
        hers = service_ms - float(view.victim[k, SERVICE_MS]) >= good[k, 0]
        his = service_ms - float(view.aggressor[k, SERVICE_MS]) >= good[k, 1]
        detail = _grounds(table.about[row][1], float(view.sigma_m[k]))
        detail["reason"] = "silence"
        detail["silent"] = "both" if hers and his else "victim" if hers else "aggressor"
        if not his and bool(is_at_rest(view.aggressor[k : k + 1])[0]):
            detail["seen"] = "at_rest"
        charge = [int(devices.pulse[own, WORD]) & BATTERY_MASK for own in view.best[k].tolist()]
        if (not hers or charge[0]) and (not his or charge[1]):
            detail["battery"] = "low"  # the silence was announced
        _tell(
            account,
            "assurance",
            row,
            (assuring.NAMES[int(before[k])], assuring.NAMES[assuring.UNKNOWN]),
            cause=0,
            at_ms=int(view.now_ms[k]),
            now_ms=int(view.now_ms[k]),
            metres=float(view.distance_m[k]),
            p_inner=float(p_inner[k]),
            closing=(float(by_victim[k]), float(by_aggressor[k])),
            victim=view.victim[k],
            aggressor=view.aggressor[k],
            detail=detail,
        )


def zones(account: Account, verdict: Verdict, now_ms: Times, causes: Index) -> None:
    """Tell of zones whose rings changed."""
    changed = np.flatnonzero((verdict.on != verdict.on_before).any(axis=1))
    roster = account.roster
    for k in changed.tolist():
        asked, row = int(verdict.index[k]), int(verdict.rows[k])
        case, order, zone = roster.zones.about[row]
        before = int(states.level(verdict.on_before[k : k + 1])[0])
        after = int(states.level(verdict.on[k : k + 1])[0])
        detail: dict[str, Any] = {
            "zone_kind": zone.kind,
            "zone_warning_m": zone.warning_m,
            "sigma_m": round(float(verdict.sigma_m[k]), 1),
            "policy": used_by(order),
        }
        ring = 0 if after == 2 else 1
        metres, p_inner = float(verdict.distance_m[k]), float(verdict.p_inner[k])
        if after > before and verdict.uncertain[k, ring]:
            detail["uncertain"] = True
        if after > before and verdict.passed[k, ring]:
            detail["crossed"] = True
            detail["distance_now_m"] = round(metres, 2)
            metres, p_inner = float(verdict.closest_m[k]), float(verdict.p_closest[k])
            detail["closest_m"] = round(metres, 1)
        account.tell(
            "zone",
            case,
            order,
            zone,
            (states.NAMES[before], states.NAMES[after]),
            cause=int(causes[asked]),
            at_ms=int(verdict.at_ms[k]),
            now_ms=int(now_ms[asked]),
            parties=roster.parties(int(roster.zones.order[row])),
            figures={"distance_m": round(metres, 2), "p_within": round(p_inner, 6)},
            victim=None,
            aggressor=verdict.aggressor[k],
            detail=detail,
        )


def _tell(
    account: Account,
    kind: str,
    row: int,
    change: tuple[str, str],
    *,
    cause: int,
    at_ms: int,
    now_ms: int,
    metres: float,
    p_inner: float,
    closing: tuple[float, float],
    victim: Floats,
    aggressor: Floats,
    detail: dict[str, Any],
) -> None:
    """Tell of an order; without a fix of both there is no distance."""
    case, order = account.roster.orders.about[row]
    total = closing[0] + closing[1]
    figures: dict[str, Any] = {
        "assurance": assuring.NAMES[int(account.roster.orders.assured[row])],
        "distance_m": round(metres, 2),
        "p_within": round(p_inner, 6),
        "closing_mps": round(total, 2),
        "time_to_zone_s": _rounded(separation.time_to_zone_s(metres, order.alert_m, total)),
        "attribution": separation.attribution(*closing),
    }
    if not (victim[LIVE] > 0 and aggressor[LIVE] > 0):
        figures = {}
    account.tell(
        kind,
        case,
        order,
        None,
        change,
        cause=cause,
        at_ms=at_ms,
        now_ms=now_ms,
        parties=account.roster.parties(row),
        figures=figures,
        victim=victim,
        aggressor=aggressor,
        detail=detail,
    )


def _grounds(order: CaseOrder, sigma_m: float) -> dict[str, Any]:
    """What every decision about an order rests on."""
    return {
        "alert_m": order.alert_m,
        "warning_m": max(order.warning_m, order.alert_m),
        "sigma_m": round(sigma_m, 1),
        "policy": used_by(order),
    }


def _apart(victim: Floats, aggressor: Floats) -> tuple[Floats, Floats]:
    apart = aggressor[:, PLACE] - victim[:, PLACE]
    return apart, np.sqrt(np.einsum("ij,ij->i", apart, apart))


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 1)
