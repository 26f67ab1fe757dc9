"""A case's log of an incident's window: rebuilt from what history keeps, and written as a bundle bears it.

A line of the file is one JSON object. The first is the engine's state where the window begins; each other is one part
of one entry, in the order of the log:

    {"kind":"snapshot","shard":3,"about":["<ids of orders and devices>"],"fields":{"<field, hex>":"<value, base64>"}}
    {"kind":"p","entry":"<ms>-<n>","index":k,"record":"<64 bytes, base64>","heard":[…]?}
    {"kind":"t","entry":"<ms>-<n>","paused":true?}
    {"kind":"c","entry":"<ms>-<n>","index":k,"case":{…}}        core.domain.case.Case
    {"kind":"h","entry":"<ms>-<n>","part":"<base64>"}           core.domain.past

Only the incident's two people and orders are in it. So that a decision gets the id it had, a record stands at the index
it had in its entry: what stood before it is filled with records of nobody.
"""

from __future__ import annotations

import base64
import itertools
import json
import struct
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from core.domain.case import Case, encode_cases
from core.domain.evidence import Fix
from core.domain.log import CONFIGURATION, PAST, PINGS, TICK, Entry
from core.domain.ping import NO_SEQ, RECORD_BYTES, RECORD_FORMAT
from core.errors import InvalidInput

NOBODY: Final = bytes(RECORD_BYTES)
"""A record of device 0, which there is none of."""
NO_CASE: Final = Case(number=0, id=uuid.UUID(int=0), agency_id=uuid.UUID(int=0), version=1)
SNAPSHOT: Final = "snapshot"
PAUSED: Final = b"paused"

Fields = dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Part:
    """One thing an entry says of the case."""

    ms: int
    n: int
    kind: str
    index: int = 0
    body: bytes = b""
    """A record, b"paused", a case as JSON, or a part of a PAST entry."""
    heard: list[dict[str, Any]] | None = None


def narrowed(config: dict[str, Any], people: Collection[str], orders: Collection[str]) -> bytes:
    """A case's configuration with these people and orders alone, as JSON."""
    kept = {
        **config,
        "people": [each for each in config.get("people", ()) if str(each["id"]) in people],
        "orders": [each for each in config.get("orders", ()) if str(each["id"]) in orders],
    }
    return encode_cases([msgspec.convert(kept, Case, strict=False)])[1:-1]


def parts_of_fixes(fixes: Iterable[Fix]) -> Iterator[Part]:
    """Records of fixes; those whose place in the log was not kept follow each other in their millisecond."""
    strays: dict[int, int] = {}
    for fix in fixes:
        if fix.place is None:
            n, index = 0, strays.get(fix.received_ms, 0)
            strays[fix.received_ms] = index + 1
        else:
            n, index = fix.place
        yield Part(fix.received_ms, n, PINGS, index, record_of(fix), fix.heard)


def record_of(fix: Fix) -> bytes:
    """The 64 bytes that the fix was in the log."""
    nan = float("nan")

    def said(value: float | None) -> float:
        return nan if value is None else value

    return struct.pack(
        RECORD_FORMAT,
        fix.device,
        fix.flags,
        fix.at_ms,
        NO_SEQ if fix.seq is None else fix.seq,
        said(fix.lat),
        said(fix.lon),
        said(fix.accuracy_m),
        said(fix.speed_mps),
        said(fix.heading_deg),
        said(fix.altitude_m),
        said(fix.battery_pct),
        0,
    )


def entries_of(parts: Iterable[Part]) -> list[Entry]:
    """The log that says this, in order."""
    # Of one entry all parts are of one kind, so its kind never decides the order between entries.
    ordered = sorted(parts, key=lambda part: (part.ms, part.n, part.kind, part.index))
    return [
        _entry(ms, n, kind, list(group))
        for (ms, n, kind), group in itertools.groupby(ordered, key=lambda part: (part.ms, part.n, part.kind))
    ]


def _entry(ms: int, n: int, kind: str, parts: Sequence[Part]) -> Entry:
    if kind == TICK:
        return Entry(ms, n, kind, parts[0].body)
    if kind == PAST:
        return Entry(ms, n, kind, b"".join(part.body for part in parts))
    places = {part.index: part for part in parts}
    if kind == CONFIGURATION:
        blank = encode_cases([NO_CASE])[1:-1]
        bodies = [places[index].body if index in places else blank for index in range(max(places) + 1)]
        return Entry(ms, n, kind, b"[" + b",".join(bodies) + b"]")
    extras = {str(index): {"heard": part.heard} for index, part in places.items() if part.heard}
    payload = b"".join(places[index].body if index in places else NOBODY for index in range(max(places) + 1))
    return Entry(ms, n, PINGS, payload, json.dumps(extras).encode() if extras else None)


def own_fields(fields: Fields) -> Fields:
    """A snapshot without what only fills entries."""
    blank = struct.pack("<I", 0)
    return {name: value for name, value in fields.items() if name not in (b"c" + blank, b"u" + blank)}


@dataclass(frozen=True, slots=True)
class Log:
    """A file of the log, read."""

    shard: int
    about: frozenset[str]
    """Ids of the orders, and of the devices, whose decisions it is replayed for."""
    fields: Fields
    """The engine's state where the window begins, as `geo.memory` writes it."""
    parts: list[Part]


def write(log: Log) -> bytes:
    """The file."""
    lines: list[dict[str, Any]] = [
        {
            "kind": SNAPSHOT,
            "shard": log.shard,
            "about": sorted(log.about),
            "fields": {name.hex(): base64.b64encode(value).decode() for name, value in sorted(log.fields.items())},
        }
    ]
    for part in sorted(log.parts, key=lambda part: (part.ms, part.n, part.kind, part.index)):
        line: dict[str, Any] = {"kind": part.kind, "entry": f"{part.ms}-{part.n}"}
        if part.kind == TICK:
            line |= {"paused": True} if part.body else {}
        elif part.kind == CONFIGURATION:
            line |= {"index": part.index, "case": json.loads(part.body)}
        elif part.kind == PAST:
            line |= {"index": part.index, "part": base64.b64encode(part.body).decode()}
        else:
            line |= {"index": part.index, "record": base64.b64encode(part.body).decode()}
            line |= {"heard": part.heard} if part.heard else {}
        lines.append(line)
    return "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines).encode()


def read(data: bytes) -> Log:
    """The log of a file. Raises InvalidInput that names the line at fault."""
    head: Log | None = None
    parts: list[Part] = []
    for number, text in enumerate(data.splitlines(), start=1):
        try:
            line = json.loads(text)
            if line["kind"] == SNAPSHOT:
                fields = {bytes.fromhex(k): base64.b64decode(v, validate=True) for k, v in line["fields"].items()}
                head = Log(int(line["shard"]), frozenset(map(str, line["about"])), fields, parts)
            else:
                parts.append(_part(line))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InvalidInput(f"Line {number} of the log cannot be read.") from None
    if head is None:
        raise InvalidInput("The log has no snapshot.")
    return head


def _part(line: dict[str, Any]) -> Part:
    ms, _, n = line["entry"].partition("-")
    kind, index = line["kind"], int(line.get("index", 0))
    if kind == TICK:
        body = PAUSED if line.get("paused") else b""
    elif kind == CONFIGURATION:
        body = json.dumps(line["case"]).encode()
    elif kind == PAST:
        body = base64.b64decode(line["part"], validate=True)
    elif kind == PINGS:
        body = base64.b64decode(line["record"], validate=True)
    else:
        raise ValueError(kind)
    return Part(int(ms), int(n), kind, index, body, line.get("heard"))
