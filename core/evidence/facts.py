"""What speaks for caution or for him, said as plainly as what speaks against him.

Each fact is `{"code", …figures}`; the report has a sentence for each code in each language. Facts are looked for the
same way whatever the outcome, and one that is not there is not mentioned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from core.clock import from_ms, rfc3339, to_ms
from core.domain.evidence import Fix, Span, Stay, within
from core.domain.violation import P_VIOLATION

POOR_M: Final = 100.0
"""A fix less exact than this is poor."""
POOR_SHARE: Final = 0.2
SKEW_MS: Final = 5_000
"""A device's clock may be ahead of ours by so much without being said to be wrong."""
LATE_MS: Final = 60_000
"""A fix that took longer to arrive is said to be late."""
OLD_S: Final = 60.0
"""A decision that used an older fix says so."""
DOUBTS: Final = ("mock", "jump", "frozen", "jamming")

Json = dict[str, Any]


def facts_of(data: Json, fixes: Sequence[Fix], stays: Sequence[Stay], gaps: Mapping[str, Sequence[Span]]) -> list[Json]:
    """Every such fact of an incident, in a fixed order."""
    breaches = [(each.from_ms, each.to_ms) for each in stays if each.state == "breach"]
    return [
        *_of_the_order(data),
        *_of_the_decisions(data),
        *_of_the_fixes(fixes, breaches),
        *_of_silence(gaps, breaches),
        *_of_outcomes(data),
    ]


def _of_the_order(data: Json) -> list[Json]:
    out: list[Json] = []
    happened = data["incident"]["occurred_at"]
    for order in data["orders"]:
        served = order.get("served_at")
        if served is None:
            out.append({"code": "not_served"})
        elif _moment(served) > _moment(happened):
            out.append({"code": "served_later", "served_at": served})
        if order.get("cohabiting"):
            out.append({"code": "cohabiting"})
        out += [{"code": "exception", "exception": each} for each in order.get("exceptions") or []]
        if float(order["alert_m"]) > float(order.get("legal_m") or 0):
            out.append({"code": "alert_wider", "alert_m": order["alert_m"], "legal_m": order.get("legal_m") or 0})
    for each in data["suspensions"]:
        if each.get("confirmed_at") is not None:
            until = min(each["ends_at"], each.get("ended_at") or each["ends_at"], key=_moment)
            out.append({"code": "suspended", "since": each["starts_at"], "until": until})
    return out


def _of_the_decisions(data: Json) -> list[Json]:
    out: list[Json] = []
    entries = [
        each
        for each in data["transitions"]
        if each["kind"] in ("proximity", "approach") and each["to_state"] in ("breach", "predicted")
    ]
    for who, code in (("victim", "she_moved"), ("both", "both_moved")):
        moved = [each for each in entries if each.get("attribution") == who]
        if moved:
            out.append({"code": code, "count": len(moved), "at": _at(moved[0])})
    if unsure := [each for each in entries if each.get("detail", {}).get("uncertain")]:
        out.append({"code": "uncertain", "count": len(unsure), "at": _at(unsure[0])})
    ages = [max(each.get("victim_fix_age_s") or 0, each.get("aggressor_fix_age_s") or 0) for each in entries]
    if ages and max(ages) > OLD_S:
        out.append({"code": "old_fix", "age_s": round(max(ages))})
    signals = [(_signal(each), each) for each in data["transitions"] if each["to_state"] == "yes"]
    said = {signal: [each for name, each in signals if name == signal] for signal in DOUBTS}
    out += [{"code": f"doubt_{name}", "count": len(each), "at": _at(each[0])} for name, each in said.items() if each]
    if late := [each for each in data["transitions"] if each.get("retrospective")]:
        out.append({"code": "hindsight", "count": len(late)})
    finding = data.get("finding") or {}
    if finding.get("reason") not in (None, "proved", "not_proximity"):
        told = {"reason": finding["reason"], "p_legal": finding.get("p_legal"), "p_least": P_VIOLATION}
        out.append({"code": "no_violation", **told})
    return out


def _of_the_fixes(fixes: Sequence[Fix], breaches: Sequence[Span]) -> list[Json]:
    out: list[Json] = []
    for party in ("victim", "aggressor"):
        own = [fix for fix in fixes if fix.party == party and fix.lat is not None]
        poor = [fix for fix in own if fix.radius_m > POOR_M]
        if own and len(poor) / len(own) >= POOR_SHARE:
            share = round(100 * len(poor) / len(own))
            out.append({"code": "poor_fixes", "party": party, "share_pct": share, "radius_m": POOR_M})
        during = [fix.radius_m for fix in own if within(fix.live_ms, breaches)]
        if during and max(during) > POOR_M:
            out.append({"code": "poor_in_breach", "party": party, "worst_m": round(max(during))})
        ahead = [fix.at_ms - fix.received_ms for fix in own if fix.at_ms - fix.received_ms > SKEW_MS]
        if ahead:
            out.append({"code": "clock_ahead", "party": party, "count": len(ahead), "most_s": round(max(ahead) / 1000)})
        late = [fix.received_ms - fix.live_ms for fix in own if fix.received_ms - fix.live_ms > LATE_MS]
        if late:
            out.append({"code": "came_late", "party": party, "count": len(late), "most_s": round(max(late) / 1000)})
    return out


def _of_silence(gaps: Mapping[str, Sequence[Span]], breaches: Sequence[Span]) -> list[Json]:
    out: list[Json] = []
    for party, spans in gaps.items():
        if during := [(a, b) for a, b in spans if any(a < until and b > since for since, until in breaches)]:
            longest = max(during, key=lambda span: span[1] - span[0])
            told = {"since": rfc3339(from_ms(longest[0])), "until": rfc3339(from_ms(longest[1]))}
            out.append({"code": "silent_in_breach", "party": party, "count": len(during), **told})
    return out


def _of_outcomes(data: Json) -> list[Json]:
    out: list[Json] = []
    incident = data["incident"]
    if incident.get("outcome") in ("false_alarm", "technical"):
        cause = incident.get("false_alarm_cause")
        out.append({"code": "found_false", "outcome": incident["outcome"], "cause": cause})
    if incident.get("exercise"):
        out.append({"code": "exercise"})
    if data["false_before"]:
        out.append({"code": "false_before", "count": len(data["false_before"])})
    return out


def _at(transition: Json) -> str:
    return rfc3339(from_ms(int(transition["at_ms"])))


def _signal(transition: Json) -> str | None:
    signal: str | None = transition.get("detail", {}).get("signal") if transition["kind"] == "device" else None
    return signal


def _moment(text: str) -> int:
    return to_ms(datetime.fromisoformat(text))
