"""A view told in one language: every sentence and every cell of the report. What is not in the view cannot be told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from core.clock import to_ms
from core.domain.evidence import Apart, within
from core.domain.violation import P_VIOLATION
from core.evidence import files, pictures, tracks
from core.evidence.verify import sha256
from core.evidence.view import View
from core.evidence.wording import Wording

DECISIONS_MAX: Final = 60
"""Rows of a table in the report; its files have all."""
ROWS_MAX: Final = 40
RULES_SHOWN: Final = (
    "alert_m", "warning_m", "legal_m", "p_enter", "p_exit", "exit_margin_m", "hold_s", "p_approach", "grace_s",
)  # fmt: skip

Json = dict[str, Any]


class Teller(Wording):
    """Tells a view in one language."""

    def __init__(self, view: View, language: str) -> None:
        orders = view.data["orders"]
        self.view = view
        self.order: Json = orders[0] if orders else {}
        super().__init__(language, self.order.get("time_zone") or view.data["agency"]["time_zone"])
        self.made = datetime.fromisoformat(view.data["made_at"])
        self.until_ms = min(view.window.until_ms, max(to_ms(self.made), view.window.since_ms + 60_000))

    def content(self, bundle_id: str, public_key: bytes) -> Json:
        """Everything that the template shows."""
        w, view = self.words, self.view
        zone = f"{self.zone}, {pictures.offset(pictures.in_zone(view.window.since_ms, self.zone))}"
        return {
            "language": w["language"],
            "none": w["fact"]["nothing"],
            "title": w["title"]["report"],
            "agency": view.data["agency"]["name"],
            "edition": w["edition"][view.edition],
            "made": f"{self.moment(view.data['made_at'], seconds=False)} ({zone})",
            "incident_id": view.data["incident"]["id"],
            "bundle_id": bundle_id,
            "headings": w["title"],
            "what": self.what(),
            "when": self.when(zone),
            "sure": self.sure(),
            "unknown": self.unknown(),
            "check": {
                "how": w["check"]["how"],
                "values": [[w["check"]["bundle"], bundle_id], [w["check"]["key"], sha256(public_key).hex()]],
            },
            "legend": self.legend(),
            "decisions": self.decisions(),
            "rules": self.rules(),
            "timeline": self.timeline(),
            "deliveries": self.deliveries(),
            "devices": self.devices(),
            "gaps": self.gaps(),
            "replay": self.replayed(),
            "differences": self.differences(),
            "identities": self.identities(),
            "left_out": [[w["left_out"][name], str(count)] for name, count in view.left_out.items() if count],
        }

    @property
    def nearest(self) -> Apart | None:
        """The moment of the least distance while he was inside, by the raw fixes."""
        inside = [each for each in self.view.apart if within(each.ms, self.view.breaches)]
        return min(inside, key=lambda each: each.distance_m, default=None)

    def what(self) -> list[str]:
        """What happened, in sentences."""
        w, incident = self.words["what"], self.view.data["incident"]
        alert = self.metres(self.order.get("alert_m"))
        when = self.moment(incident["occurred_at"])
        kind = incident["type"] if incident["type"] in w else "other"
        entered = [each for each in self.view.stays if each.state == "breach"]
        if kind == "proximity" and entered:
            when = self.moment(entered[0].from_ms)
        out = [w[kind].format(when=when, alert=alert, type=incident["type"])]
        if entered and kind in ("proximity", "approach"):
            ends = [each.to_ms for each in self.view.stays if each.state == "breach"]
            if ends[-1] < self.view.window.until_ms:
                inside_ms = sum(each.to_ms - each.from_ms for each in entered)
                out.append(w["proximity_until"].format(until=self.moment(ends[-1]), length=self.length(inside_ms)))
            else:
                out.append(w["proximity_open"])
        if (near := self.nearest) is not None:
            told = {"distance": self.metres(near.distance_m), "sigma": self.metres(2 * near.sigma_m)}
            out.append(w["nearest"].format(at=self.clock(near.ms), **told))
        if entries := tracks.entries(self.view):
            who = self.words["attribution"].get(
                str(entries[0].get("attribution")), self.words["attribution"]["unknown"]
            )
            out.append(w["moved"].format(who=who))
        if self.order:
            out.append(
                w["order"].format(
                    reference=self.order.get("reference") or "–",
                    issuer=self.order.get("issuer") or "–",
                    legal=self.metres(self.order.get("legal_m") or None),
                    served=self.moment(self.order.get("served_at"), seconds=False),
                )
            )
        return out

    def when(self, zone: str) -> list[list[str]]:
        """The moments that matter, in order."""
        names, incident = self.words["moment_name"], self.view.data["incident"]
        found: list[tuple[int, str]] = []
        for each in self.view.data["transitions"]:
            if each["kind"] == "approach" and each["to_state"] == "predicted":
                found.append((int(each["at_ms"]), names["predicted"]))
            elif each["kind"] == "proximity" and each["to_state"] == "breach":
                found.append((int(each["at_ms"]), names["entered"]))
            elif each["kind"] == "proximity" and each["from_state"] == "breach":
                found.append((int(each["at_ms"]), names["left"]))
        if (near := self.nearest) is not None:
            found.append((near.ms, names["nearest"]))
        found += [
            (to_ms(datetime.fromisoformat(incident[f"{name}_at"])), names[name])
            for name in ("opened", "acknowledged", "dispatched", "resolved")
            if incident.get(f"{name}_at")
        ]
        rows = [[self.clock(ms), name] for ms, name in sorted(found)[:14]]
        day = self.moment(found[0][0], seconds=False).rpartition(",")[0] if found else ""
        return [[day, zone], *rows]

    def sure(self) -> list[str]:
        """How sure it is, in sentences."""
        w, view = self.words["sure"], self.view
        alert, out = self.metres(self.order.get("alert_m")), []
        if entries := tracks.entries(view):
            first = entries[0]
            told = {"alert": alert, "p": self.likelihood(first.get("p_within"))}
            known = first.get("distance_m") is not None
            out.append(
                w["entry"].format(**told, distance=self.metres(first["distance_m"]))
                if known
                else w["entry_blurred"].format(**told)
            )
        finding = view.data.get("finding") or {}
        if finding.get("reason") == "proved":
            at = self.clock(to_ms(datetime.fromisoformat(finding["p_legal_at"])))
            told = {"p": self.likelihood(finding["p_legal"]), "least": self.likelihood(P_VIOLATION)}
            out.append(w["legal_proved"].format(legal=self.metres(finding["legal_m"]), at=at, **told))
        elif finding.get("reason") and finding["reason"] != "not_proximity":
            out.append(w["legal_not"].format(why=self.why(finding)))
        if entries:
            out.append(w["alert_only"])
        middle = {party: _median(view, party) for party in ("hers", "his")}
        if all(value is not None for value in middle.values()):
            out.append(w["accuracy"].format(**{party: self.metres(value) for party, value in middle.items()}))
        out += self.replayed()[:1]
        versions = sorted({str(each["rule_version"]) for each in view.data["transitions"]})
        out.append(w["version"].format(version=", ".join(versions) or "–"))
        return out

    def why(self, finding: Mapping[str, Any]) -> str:
        """Why no violation is shown."""
        told = {"p": self.likelihood(finding.get("p_legal")), "least": self.likelihood(P_VIOLATION)}
        return str(self.words["why"].get(finding["reason"], finding["reason"]).format(**told))

    def unknown(self) -> list[str]:
        """What was not known and what speaks for him, in sentences."""
        return [self.fact(each) for each in self.view.facts] or [self.words["fact"]["nothing"]]

    def fact(self, fact: Json) -> str:
        """One fact as a sentence."""
        told = dict(fact)
        for name in ("at", "since", "until", "served_at"):
            if told.get(name):
                told[name] = self.moment(told[name])
        if "party" in told:
            told["party"] = self.words["party"][told["party"]]
        for name in ("alert_m", "legal_m", "radius_m"):
            if name in told:
                told[name] = self.number(float(told[name]))
        if "exception" in told:
            told["exception"] = _flat(told["exception"])
        if fact["code"] == "no_violation":
            told["why"] = self.why(fact)
        if fact["code"] == "found_false":
            told["cause"] = fact.get("cause") or "–"
        return str(self.words["fact"][fact["code"]].format(**told))

    def legend(self) -> list[list[str]]:
        """What the map's lines mean."""
        w = self.words
        out = [["line", pictures.HIS, w["party"]["aggressor"]], ["line", pictures.HERS, w["party"]["victim"]]]
        radii = {each["properties"]["radius"]: each["properties"]["metres"] for each in tracks.radii(self.view)}
        strokes = {"alert_m": "dash", "legal_m": "dots"}
        out += [
            [strokes[name], pictures.STATE["breach"], f"{w['radius'][name]}, {self.metres(metres)}"]
            for name, metres in radii.items()
        ]
        return out + ([["zone", "", w["legend_zone"]]] if self.view.data["zones"] else [])

    def decisions(self) -> Json:
        """What was decided."""
        w, rows = self.words, []
        for each in self.view.data["transitions"][:DECISIONS_MAX]:
            metres = each.get("distance_m")
            most = each.get("distance_at_most_m")
            far = "≤ " + self.metres(most) if most is not None else "" if metres is None else self.metres(metres)
            name = w["kind"].get(each["kind"], each["kind"])
            if each["kind"] == "device":
                name = f"{name}: {each.get('detail', {}).get('signal', '')}"
            who = w["party_short"].get(str(each.get("attribution")), "")
            rows.append(
                [
                    self.clock(int(each["at_ms"])),
                    name,
                    f"{self.word(each['from_state'])} → {self.word(each['to_state'])}",
                    far,
                    "" if each.get("p_within") is None else self.likelihood(each["p_within"]),
                    who if each.get("attribution") != "both" else w["attribution"]["both"],
                    str(each["rule_version"]),
                ]
            )
        c = w["column"]
        head = [c["at"], c["what"], f"{c['from']} → {c['to']}", c["distance"], c["p"], c["who"], c["version"]]
        return {"head": head, "rows": rows}

    def rules(self) -> Json:
        """The values of the order, by version of its configuration where the edition knows them."""
        known = files.rules(self.view.data) if "configurations" in self.view.data else []
        policy = [each.get("detail", {}).get("policy") for each in self.view.data["transitions"]]
        values = known[-3:] or [each for each in policy if each][:1]
        names = [name for name in RULES_SHOWN if any(name in each for each in values)]
        rows = [[self.number(float(each[name]), 2) if name in each else "" for name in names] for each in values]
        return {"head": names, "rows": rows}

    def timeline(self) -> Json:
        """What was done, by whom it is not said."""
        c = self.words["column"]
        rows = [
            [self.moment(each["at"]), self.line(each), self.change(each["data"] or {})]
            for each in self.view.data["timeline"][:ROWS_MAX]
        ]
        return {"head": [c["at"], c["what"], c["state"]], "rows": rows}

    def line(self, line: Json) -> str:
        """What a line of the timeline is about."""
        kind = str(line["kind"])
        return str(self.words["line"].get(kind) or self.words["kind"].get(kind) or kind)

    def change(self, data: Json) -> str:
        """What a line says of a state: before and after, or how it ended."""
        if "from" in data and "to" in data:
            return f"{self.word(data['from'])} → {self.word(data['to'])}"
        return ", ".join(
            self.word(data[name]) for name in ("audience", "channel", "state", "outcome") if data.get(name)
        )

    def deliveries(self) -> Json:
        """Who was told, and whether it arrived."""
        c = self.words["column"]
        rows = [
            [
                self.word(each["audience"]),
                str(each["channel"]),
                self.word(each["state"]),
                self.moment(each["sent_at"]) if each.get("sent_at") else "",
                str(each.get("attempts", "")),
            ]
            for each in self.view.data["deliveries"][:ROWS_MAX]
        ]
        return {"head": [c["audience"], c["channel"], c["state"], c["sent"], c["tries"]], "rows": rows}

    def devices(self) -> Json:
        """The devices of both."""
        c = self.words["column"]
        rows = [
            [
                self.word(each["kind"]),
                self.words["party"][each["party"]],
                self.number(float(each["expected_interval_s"])),
                "" if each.get("clock_offset_s") is None else self.number(float(each["clock_offset_s"]), 1),
            ]
            for each in self.view.data["devices"]
        ]
        return {"head": [c["kind"], c["party"], c["interval"], c["clock"]], "rows": rows}

    def gaps(self) -> Json:
        """Stretches without a position."""
        c = self.words["column"]
        rows = [
            [self.words["party"][party], self.moment(a), self.moment(b), self.length(b - a)]
            for party, spans in self.view.gaps.items()
            for a, b in spans[:ROWS_MAX]
        ]
        return {"head": [c["party"], c["since"], c["until"], c["length"]], "rows": rows}

    def replayed(self) -> list[str]:
        """What judging the window again showed."""
        w, found = self.words["sure"], self.view.replay
        if found.get("state") != "done":
            why = self.words["replay_why"].get(str(found.get("state")), str(found.get("state")))
            return [w["replay_none"].format(why=why)]
        if found["identical"]:
            return [w["replay_same"].format(n=found["decisions"])]
        return [w["replay_other"].format(n=found.get("differences_total", "–"), all=found["decisions"])]

    def differences(self) -> Json:
        """What differs when it is judged again; places and figures stand in the file."""
        c = self.words["column"]
        rows = [
            [
                self.moment(each["at"]),
                f"{each['kind']}: {self.word(each['from'])} → {self.word(each['to'])}",
                each["what"],
            ]
            for each in self.view.replay.get("differences", ())[:ROWS_MAX]
        ]
        return {"head": [c["at"], c["what"], c["state"]], "rows": rows}

    def identities(self) -> list[list[str]]:
        """Who the two are; only in the court's edition."""
        return [
            [
                self.words["party"][party],
                _flat({n: v for n, v in person.items() if n != "person_id"}) or person["person_id"],
            ]
            for party, person in self.view.data["identities"].items()
            if person
        ]


def _median(view: View, party: str) -> float | None:
    fixes = view.hers if party == "hers" else view.his
    radii = sorted(fix.radius_m for fix in fixes if fix.lat is not None and within(fix.live_ms, view.breaches))
    return radii[len(radii) // 2] if radii else None


def _flat(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {_flat(each)}" for name, each in value.items() if each not in (None, "", [], {}))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_flat(each) for each in value)
    return str(value)
