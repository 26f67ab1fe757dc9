"""The files of a bundle: which there are, what each says, and whose edition gets it.

README.txt verify.py                       every edition
his/        fixes.json track.geojson track.gpx devices.json            every edition, his own among them
common/     incident, orders, rules, decisions as the defence may know them, facts, gaps, finding, replay's result
defence/    her positions in breach, map, distances, report            court and defence
court/      everything else                                            court
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from core.clock import from_ms, rfc3339
from core.domain.evidence import Span
from core.evidence import tracks
from core.evidence.bundle import VERIFIER, Leaf
from core.evidence.defence import GRID_M, MARGIN_M
from core.evidence.verify import canonical
from core.evidence.view import View

ALL: Final = frozenset({"court", "defence", "subject"})
BOTH: Final = frozenset({"court", "defence"})
COURT: Final = frozenset({"court"})
NOT_HIS: Final = "It is not his own data."
SEALED: Final = "It would tell where she is, who she is, or whom she trusts; the court has it."
RULES: Final = (
    "alert_m", "warning_m", "legal_m", "p_enter", "p_approach", "horizon_s", "p_exit", "exit_margin_m", "hold_s",
    "p_unknown", "grace_s", "valid_from_ms", "valid_until_ms", "active", "time_zone",
)  # fmt: skip

Json = dict[str, Any]


class _Shelf:
    """Collects leaves."""

    def __init__(self) -> None:
        self.leaves: dict[str, Leaf] = {}

    def add(self, path: str, content: bytes | str, editions: frozenset[str]) -> None:
        why = "" if editions == ALL else SEALED if editions == COURT else NOT_HIS
        self.leaves[path] = Leaf(content.encode() if isinstance(content, str) else content, editions, why)

    def json(self, path: str, value: Any, editions: frozenset[str]) -> None:
        self.add(path, canonical(value), editions)


def leaves_of(
    court: View, defence: View, documents: Mapping[str, Mapping[str, bytes]], log: bytes | None
) -> dict[str, Leaf]:
    """Path → file of everything.

    `documents`: edition → language → PDF. `log`: the window's log as it is replayed (`geo.evidence_log`), or None.
    """
    shelf = _Shelf()
    shelf.add("README.txt", readme(), ALL)
    shelf.add("verify.py", VERIFIER.read_bytes(), ALL)
    _his(shelf, court)
    _common(shelf, defence)
    _hers(shelf, defence, "defence", BOTH)
    shelf.json("defence/left_out.json", dict(defence.left_out), BOTH)
    _hers(shelf, court, "court", COURT)
    _court(shelf, court)
    if log is not None:
        shelf.add("court/log.ndjson", log, COURT)
    for edition, languages in documents.items():
        for language, pdf in languages.items():
            shelf.add(f"{edition}/report.{language}.pdf", pdf, COURT if edition == "court" else BOTH)
    return shelf.leaves


def notes_of(defence: View) -> dict[str, Json]:
    """What each edition's manifest says of itself."""
    return {
        "court": {"notes": ["Sealed: it holds her positions, identity and contacts. Only for the court."]},
        "defence": {
            "notes": [
                "Her positions are here only while a breach lasted, by what was decided.",
                f"Within {MARGIN_M:g} m of a protected place they are put on a grid, with an accuracy of {GRID_M:g} m.",
                "Her identity, her contacts, undisclosed zones and what concerns them are left to the court.",
            ],
            "left_out": dict(defence.left_out),
        },
        "subject": {"notes": ["The fixes of his own devices, as they came, and nothing else."]},
    }


def _his(shelf: _Shelf, court: View) -> None:
    ids = court.device_ids
    devices = [each for each in court.data["devices"] if each["party"] == "aggressor"]
    shelf.json("his/fixes.json", [fix.as_json(ids) for fix in court.his], ALL)
    shelf.json("his/devices.json", devices, ALL)
    shelf.json("his/track.geojson", tracks.collection(tracks.track(court.his, "aggressor", ids)), ALL)
    shelf.add("his/track.gpx", tracks.gpx(court.his, "aggressor", ids), ALL)


def _common(shelf: _Shelf, defence: View) -> None:
    data = defence.data
    for name in ("incident", "orders", "suspensions", "zones", "timeline", "deliveries", "finding"):
        shelf.json(f"common/{name}.json", data[name], BOTH)
    shelf.json("common/decisions.json", [_moments(each) for each in data["transitions"]], BOTH)
    shelf.json("common/facts.json", list(defence.facts), BOTH)
    shelf.json("common/gaps.json", {party: _spans(spans) for party, spans in defence.gaps.items()}, BOTH)
    shelf.json("common/replay.json", {n: v for n, v in defence.replay.items() if n in REPLAY_TOLD}, BOTH)


REPLAY_TOLD: Final = ("state", "identical", "decisions", "rule_versions", "started_at", "ticks", "configuration")
"""What of a replay's result tells of no place."""


def _hers(shelf: _Shelf, view: View, folder: str, editions: frozenset[str]) -> None:
    ids = view.device_ids
    shelf.json(f"{folder}/her_fixes.json", [fix.as_json(ids) for fix in view.hers], editions)
    shelf.add(f"{folder}/her_track.gpx", tracks.gpx(view.hers, "victim", ids), editions)
    features = [
        *tracks.track(view.his, "aggressor", ids),
        *tracks.track(view.hers, "victim", ids),
        *tracks.radii(view),
        *tracks.zones(view),
    ]
    shelf.json(f"{folder}/map.geojson", tracks.collection(features), editions)
    apart = [
        {"at": _at(each.ms), "distance_m": round(each.distance_m, 1), "sigma_m": round(each.sigma_m, 1)}
        for each in view.apart
    ]
    shelf.json(f"{folder}/distances.json", apart, editions)


def _court(shelf: _Shelf, court: View) -> None:
    data = court.data
    whole = (
        "incident", "orders", "order_versions", "zones", "suspensions", "timeline", "deliveries", "panics", "devices",
        "episode", "false_before", "identities", "audit",
    )  # fmt: skip
    for name in whole:
        shelf.json(f"court/{name}.json", data[name], COURT)
    shelf.json("court/decisions.json", [_moments(each) for each in data["transitions"]], COURT)
    shelf.json("court/configurations.json", data["configurations"], COURT)
    shelf.json("court/rules.json", rules(data), COURT)
    shelf.json("court/replay.json", court.replay, COURT)
    track = tracks.collection(tracks.track(court.hers, "victim", court.device_ids))
    shelf.json("court/her_track.geojson", track, COURT)


def rules(data: Json) -> list[Json]:
    """The values by which the incident's orders were judged, by version of the configuration."""
    wanted = {str(order["id"]) for order in data["orders"]}
    return [
        {"version": version["version"], "entry": version["entry"], "order_id": str(order["id"])}
        | {name: order[name] for name in RULES if name in order}
        for version in data["configurations"]
        for order in version["config"].get("orders", ())
        if str(order["id"]) in wanted
    ]


def _moments(transition: Json) -> Json:
    """A transition with its times readable beside the milliseconds."""
    return {
        **transition,
        "at": _at(int(transition["at_ms"])),
        "evaluated_at": _at(int(transition["evaluated_ms"])),
    }


def _spans(spans: Sequence[Span]) -> list[Json]:
    return [{"since": _at(a), "until": _at(b), "seconds": round((b - a) / 1000)} for a, b in spans]


def _at(moment_ms: int) -> str:
    return rfc3339(from_ms(moment_ms))


def readme() -> str:
    """How to begin, in three languages."""
    return README


README: Final = """\
Qorgan evidence bundle

EN  Read report.en.pdf. To check that nothing was changed: python3 verify.py BUNDLE.zip --public-key KEY.pem
    (take verify.py from this bundle or from Qorgan's source, and the key from who publishes it, never from who gave
    you the bundle). Times in files are UTC. distances.json: great circle between the latest fixes of the two.
RU  Читайте report.ru.pdf. Проверка неизменности: python3 verify.py BUNDLE.zip --public-key KEY.pem
    (ключ берите у того, кто его публикует, а не у того, кто передал пакет). Время в файлах: UTC.
KK  report.kk.pdf құжатын оқыңыз. Өзгермегенін тексеру: python3 verify.py BUNDLE.zip --public-key KEY.pem
    (кілтті пакетті берген адамнан емес, оны жариялаған органнан алыңыз). Файлдардағы уақыт: UTC.
"""
