"""Judging an incident's window again, and saying whether that gives what was decided at the time.

The live engine's state of an hour before an incident is not kept. It is rebuilt: the same rules run over the case's
kept log from a cold start some hours before the window, until the window begins; that state is the snapshot. What a
cold start does not know (a stay or a silence that began before it) is forgotten within its hours or shows as a
difference, so further starts are tried until nothing differs, and what still does is listed, never hidden.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from core.clock import from_ms, rfc3339
from core.domain.evidence import Fix
from core.domain.log import CONFIGURATION, PAST, TICK
from core.domain.transition import RULE_VERSION, Transition
from geo import evidence_log
from geo.engine import Engine
from geo.evidence_log import Fields, Log, Part

COLD_STARTS_MS: Final = (2 * 3_600_000, 12 * 3_600_000, 48 * 3_600_000)
"""How long before the window a rebuilding begins, the shortest first."""
DIFFERENCES_MAX: Final = 100
BATCH_ENTRIES: Final = 2_000
SECOND_MS: Final = 1_000

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a case, from which its window is judged again; plain, so that another process can do it."""

    shard: int
    case_id: str
    people: frozenset[str]
    """Ids of the incident's two people."""
    orders: frozenset[str]
    devices: frozenset[str]
    """Ids of their devices."""
    since_ms: int
    until_ms: int
    fixes: Sequence[Fix]
    """From the earliest cold start on."""
    configurations: Sequence[tuple[int, int, int, Json]]
    """(ms, n, index, configuration), oldest first."""
    ticks: Sequence[tuple[int, int, bool]]
    answers: Sequence[tuple[int, int, bytes]]
    recorded: Sequence[Json]
    """Bodies of the transitions of the window, as stored."""


@dataclass(slots=True)
class Judged:
    """A window judged again."""

    log: bytes
    """The file that a bundle bears: snapshot and window."""
    result: Json
    differences: list[Json] = field(default_factory=list)


def judge(kept: Kept, starts_ms: Sequence[int] = COLD_STARTS_MS) -> Judged:
    """Rebuild the state where the window begins and judge the window by it; the start that differs least."""
    best: Judged | None = None
    for start_ms in starts_ms:
        cold_ms = _cold_ms(kept, start_ms)
        found = _judge_from(kept, cold_ms)
        if best is None or len(found.differences) < len(best.differences):
            best = found
        if not best.differences or cold_ms > kept.since_ms - start_ms:
            break  # nothing better is to be had, or nothing older is kept
    assert best is not None
    return best


def _cold_ms(kept: Kept, start_ms: int) -> int:
    """When a rebuilding begins: so long before the window, but not before time was kept."""
    wanted = kept.since_ms - start_ms
    first = min((ms for ms, _, _ in kept.ticks), default=wanted)
    return min(max(wanted, first), kept.since_ms)


def _judge_from(kept: Kept, cold_ms: int) -> Judged:
    parts = list(_parts(kept, cold_ms))
    fields = evidence_log.own_fields(_state_after(kept.shard, [part for part in parts if part.ms < kept.since_ms]))
    window = [part for part in parts if part.ms >= kept.since_ms]
    log = evidence_log.Log(kept.shard, kept.orders | kept.devices, fields, window)
    differences = compare(kept.recorded, _about(run(log), log.about))
    decided = sorted({str(each.get("rule_version", "")) for each in kept.recorded})
    result = {
        "state": "done",
        "identical": not differences,
        "decisions": len(kept.recorded),
        "started_at": rfc3339(from_ms(cold_ms)),
        "ticks": "recorded" if kept.ticks else "made",
        "configuration": "recorded" if _configured_since(kept, cold_ms) else "partly",
        "rule_versions": {"decided": decided, "replayed": RULE_VERSION},
        "differences": differences[:DIFFERENCES_MAX],
        "differences_total": len(differences),
    }
    return Judged(evidence_log.write(log), result, differences)


def _parts(kept: Kept, cold_ms: int) -> Iterable[Part]:
    """The log from the cold start to the window's end."""
    before = [each for each in kept.configurations if each[0] < cold_ms]
    if not before and not _configured_since(kept, cold_ms):
        before = list(kept.configurations[:1])
    for ms, n, index, config in [
        *((cold_ms, -1, 0, each[3]) for each in before[-1:]),
        *(each for each in kept.configurations if cold_ms <= each[0] < kept.until_ms),
    ]:
        body = evidence_log.narrowed(config, kept.people, kept.orders)
        yield Part(ms, max(0, n), CONFIGURATION, index, body)
    yield from evidence_log.parts_of_fixes(f for f in kept.fixes if cold_ms < f.received_ms < kept.until_ms)
    ticks = kept.ticks or [(ms, 0, False) for ms in range(_next_second(cold_ms), kept.until_ms, SECOND_MS)]
    for ms, n, paused in ticks:
        if cold_ms < ms < kept.until_ms:
            yield Part(ms, n, TICK, 0, evidence_log.PAUSED if paused else b"")
    for index, (ms, n, body) in enumerate(kept.answers):
        if cold_ms < ms < kept.until_ms:
            yield Part(ms, n, PAST, index, body)


def _configured_since(kept: Kept, cold_ms: int) -> bool:
    """Whether what held at a cold start is kept: a version from before it, or the first there was."""
    first = kept.configurations[:1]
    return any(ms < cold_ms or int(config.get("version", 0)) == 1 for ms, _, _, config in first)


def _next_second(ms: int) -> int:
    return (ms // SECOND_MS + 1) * SECOND_MS


def _state_after(shard: int, parts: Iterable[Part]) -> Fields:
    engine = Engine(shard)
    fields: dict[bytes, bytes | None] = {}
    entries = evidence_log.entries_of(parts)
    for start in range(0, len(entries), BATCH_ENTRIES):
        engine.process(entries[start : start + BATCH_ENTRIES])
        fields |= engine.take_changes().state
    fields |= engine.take_changes().state
    return {name: value for name, value in fields.items() if value is not None}


def run(log: Log) -> list[Transition]:
    """What the rules decide over a log from its snapshot on."""
    engine = Engine(log.shard)
    engine.restore(log.fields)
    out: list[Transition] = []
    entries = evidence_log.entries_of(log.parts)
    for start in range(0, len(entries), BATCH_ENTRIES):
        out += engine.process(entries[start : start + BATCH_ENTRIES])
        engine.take_changes()
    return out


def _about(transitions: Iterable[Transition], about: Collection[str]) -> list[Json]:
    """Transitions of these orders, or of these devices where they are of no order, as they are stored."""
    return [
        msgspec.to_builtins(each)
        for each in transitions
        if str(each.device_id if each.order_id is None else each.order_id) in about
    ]


def compare(recorded: Sequence[Json], replayed: Sequence[Json]) -> list[Json]:
    """What differs between what was decided and what is decided now; in order of time.

    Decisions are matched by their ids, else by what they say of what and when: an id that differs alone (another case's
    decision stood before it in the same answer of history) is no difference.
    """
    left = {str(each["id"]): each for each in replayed}
    by_name: dict[tuple[Any, ...], list[str]] = {}
    for one in replayed:
        by_name.setdefault(_name(one), []).append(str(one["id"]))
    out = []
    for one in recorded:
        same = [key for key in by_name.get(_name(one), ()) if key in left]
        key = str(one["id"]) if str(one["id"]) in left else next(iter(same), None)
        if key is None:
            out.append({"what": "not decided again", **_told(one)})
            continue
        other = left.pop(key)
        names = sorted((one.keys() | other.keys()) - {"id", "incident_id"})
        unlike = {n: [one.get(n), other.get(n)] for n in names if one.get(n) != other.get(n)}
        if unlike:
            out.append({"what": "decided otherwise", **_told(one), "differs": unlike})
    out += [{"what": "decided only now", **_told(other)} for other in left.values()]
    return sorted(out, key=lambda each: str(each["evaluated_at"]))


def _name(each: Json) -> tuple[Any, ...]:
    about = each.get("zone_id") or each.get("order_id") or each.get("device_id")
    signal = each.get("detail", {}).get("signal")
    return (each["kind"], str(about), signal, each["from_state"], each["to_state"], each["evaluated_ms"])


def _told(each: Json) -> Json:
    return {
        "id": str(each["id"]),
        "kind": each["kind"],
        "from": each["from_state"],
        "to": each["to_state"],
        "at": rfc3339(from_ms(int(each["at_ms"]))),
        "evaluated_at": rfc3339(from_ms(int(each["evaluated_ms"]))),
    }


def again(log: bytes, recorded: Sequence[Json]) -> tuple[int, list[Json]]:
    """(decisions made now, differences) of a bundle's log; `recorded` as its decisions tell them.

    Raises InvalidInput when the log cannot be read.
    """
    found = evidence_log.read(log)
    now = _about(run(found), found.about)
    return len(now), compare(recorded, now)
