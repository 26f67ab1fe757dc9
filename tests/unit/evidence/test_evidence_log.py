"""A case's log rebuilt: record by record what it was, and what differs when it is judged again is said."""

from __future__ import annotations

import struct
import uuid
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.case import Case, CaseDevice, CaseOrder, CasePerson, encode_cases
from core.domain.evidence import Fix
from core.domain.log import CONFIGURATION, PINGS, TICK, Entry
from core.domain.ping import RECORD_BYTES, RECORD_FORMAT
from core.errors import InvalidInput
from core.postgres.case_log import pack_ticks, unpack_ticks
from core.postgres.pings import place_in_log, places_in_log
from geo import evidence_log
from geo.engine import Engine
from geo.evidence_log import Log, Part
from geo.evidence_replay import Kept, again, compare, judge

T0 = 1_790_000_000_000
NAN = float("nan")
ORDER, CASE = uuid.UUID(int=11), uuid.UUID(int=12)
PEOPLE = {"victim": uuid.UUID(int=1), "aggressor": uuid.UUID(int=2)}


def fix(party: str, ms: int, east_m: float, place: tuple[int, int] | None = (0, 0), **more: Any) -> Fix:
    values = {
        "party": party, "device": 1 if party == "victim" else 2, "live_ms": ms, "at_ms": ms, "received_ms": ms,
        "seq": None, "flags": 0b10011, "lat": 43.25, "lon": 76.95 + east_m / 81_150, "accuracy_m": 8.0,
        "speed_mps": None, "heading_deg": None, "altitude_m": None, "battery_pct": None, "place": place,
    }  # fmt: skip
    return Fix(**values | more)


def case() -> dict[str, Any]:
    people = [
        CasePerson(k, PEOPLE[role], role, devices=[CaseDevice(k, uuid.UUID(int=20 + k), kind, 10.0)])
        for k, role, kind in ((1, "victim", "phone"), (2, "aggressor", "bracelet"))
    ]
    order = CaseOrder(1, ORDER, 1, 2, alert_m=500, warning_m=1500)
    return msgspec.to_builtins(Case(5, CASE, uuid.UUID(int=7), 1, people, [order]))


def lived(hours: int = 4) -> tuple[list[Fix], list[tuple[int, int, bool]]]:
    """He is far, comes within 200 m in the third hour for ten minutes, and goes; a tick each four."""
    fixes = []
    for second in range(10, hours * 3_600, 10):
        near = 9_000 < second < 9_600
        fixes.append(fix("victim", T0 + second * 1000, 0.0, (0, second % 5)))
        fixes.append(fix("aggressor", T0 + second * 1000 + 400, 200.0 if near else 6_000.0, (second % 3, 0)))
    return fixes, [(T0 + second * 1000 + 7, 0, False) for second in range(1, hours * 3_600, 4)]


def kept(recorded: list[dict[str, Any]], **more: Any) -> Kept:
    fixes, ticks = lived()
    values: dict[str, Any] = {
        "shard": 3, "case_id": str(CASE), "people": frozenset(map(str, PEOPLE.values())),
        "orders": frozenset([str(ORDER)]), "devices": frozenset(str(uuid.UUID(int=20 + k)) for k in (1, 2)),
        "since_ms": T0 + 2 * 3_600_000, "until_ms": T0 + 4 * 3_600_000, "fixes": fixes, "ticks": ticks,
        "configurations": [(T0, 0, 0, case())], "answers": [], "recorded": recorded,
    }  # fmt: skip
    return Kept(**values | more)


@pytest.fixture(scope="module")
def recorded() -> list[dict[str, Any]]:
    """What the live engine decided, from the very beginning of the log."""
    fixes, ticks = lived()
    parts = [Part(T0, 0, CONFIGURATION, 0, encode_cases([msgspec.convert(case(), Case)])[1:-1])]
    parts += evidence_log.parts_of_fixes(fixes)
    parts += [Part(ms, n, TICK) for ms, n, _ in ticks]
    return [
        msgspec.to_builtins(each)
        for each in Engine(3).process(evidence_log.entries_of(parts))
        if each.evaluated_ms >= T0 + 2 * 3_600_000
    ]


def test_a_window_is_judged_again_to_the_very_ids(recorded: list[dict[str, Any]]) -> None:
    found = judge(kept(recorded))
    assert len(recorded) >= 3
    assert found.result["identical"], found.result
    assert found.result["ticks"] == "recorded"
    assert again(found.log, recorded) == (len(recorded), [])
    log = evidence_log.read(found.log)
    assert evidence_log.write(log) == found.log
    assert not any(name.startswith((b"u", b"c\x00\x00")) for name in log.fields), "nothing that only fills"


def test_a_later_cold_start_is_as_good_once_all_is_forgotten(recorded: list[dict[str, Any]]) -> None:
    assert judge(kept(recorded), [3_600_000]).result["identical"]


def test_what_differs_is_listed(recorded: list[dict[str, Any]]) -> None:
    changed = [{**recorded[0], "distance_m": 1.0}, *recorded[1:-1]]
    found = judge(kept(changed), [3_600_000])
    assert not found.result["identical"]
    assert [each["what"] for each in found.differences] == ["decided otherwise", "decided only now"]
    assert found.differences[0]["differs"]["distance_m"][0] == 1.0
    missing = {**recorded[0], "id": "x", "to_state": "breach", "kind": "zone", "zone_id": "z"}
    assert [each["what"] for each in compare([missing], [])] == ["not decided again"]


def test_fixes_left_out_change_what_is_decided(recorded: list[dict[str, Any]]) -> None:
    """A forger who drops what accuses, or adds it, is found by replaying."""
    fixes, _ = lived()
    honest = [each for each in fixes if each.party == "victim" or each.lon is None or each.lon > 76.96]
    found = judge(kept(recorded, fixes=honest), [3_600_000])
    assert "not decided again" in {each["what"] for each in found.differences}


def test_another_ids_same_words_are_no_difference(recorded: list[dict[str, Any]]) -> None:
    renamed = [{**each, "id": f"other-{number}"} for number, each in enumerate(recorded)]
    assert compare(renamed, recorded) == []


def test_without_ticks_each_second_is_made_and_said(recorded: list[dict[str, Any]]) -> None:
    assert judge(kept(recorded, ticks=[]), [3_600_000]).result["ticks"] == "made"


def test_a_record_stands_where_it_stood() -> None:
    entries = evidence_log.entries_of(evidence_log.parts_of_fixes([fix("victim", T0, 0.0, (3, 2))]))
    (entry,) = entries
    assert entry.id == f"{T0}-3"
    assert entry.payload[: 2 * RECORD_BYTES] == bytes(2 * RECORD_BYTES)
    assert struct.unpack_from(RECORD_FORMAT, entry.payload, 2 * RECORD_BYTES)[0] == 1
    strays = [fix("victim", T0, 0.0, None), fix("aggressor", T0, 0.0, None)]
    assert evidence_log.entries_of(evidence_log.parts_of_fixes(strays)) == [
        Entry(T0, 0, PINGS, b"".join(map(evidence_log.record_of, strays)))
    ]


def test_what_was_heard_stands_beside_its_record() -> None:
    heard = [{"beacon": 2, "rssi_dbm": -60}]
    (entry,) = evidence_log.entries_of(evidence_log.parts_of_fixes([fix("victim", T0, 0.0, (0, 1), heard=heard)]))
    assert entry.extras is not None
    assert msgspec.json.decode(entry.extras) == {"1": {"heard": heard}}


@pytest.mark.parametrize("text", [b"", b"{}", b"[1]", b'{"kind":"p"}', b'{"kind":"?","entry":"1-0"}', b"\xff"])
def test_a_damaged_log_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidInput):
        evidence_log.read(text)


def test_the_log_is_narrowed_to_the_two() -> None:
    third = {"number": 3, "id": str(uuid.UUID(int=3)), "role": "victim"}
    wide = case() | {"people": [*case()["people"], third]}
    other = {**case()["orders"][0], "id": str(uuid.UUID(int=99)), "number": 2}
    wide["orders"] = [*wide["orders"], other]
    narrow = msgspec.json.decode(
        evidence_log.narrowed(wide, {str(each) for each in PEOPLE.values()}, {str(ORDER)}), type=Case
    )
    assert [each.id for each in narrow.people] == list(PEOPLE.values())
    assert [each.id for each in narrow.orders] == [ORDER]


@given(st.lists(st.tuples(st.integers(0, 1 << 44), st.integers(0, 2047), st.booleans()), max_size=20))
def test_ticks_come_back_as_they_were(ticks: list[tuple[int, int, bool]]) -> None:
    assert unpack_ticks(pack_ticks(ticks)) == ticks


@given(st.integers(0, (1 << 32) - 1), st.integers(0, 5_000), st.integers(0, 1 << 21))
def test_a_place_in_the_log_comes_back_or_is_said_to_be_unknown(flags: int, number: int, index: int) -> None:
    import numpy as np

    (word,) = places_in_log(np.array([number]), np.array([index])).tolist()
    found = place_in_log(word | flags)
    assert found == ((number, index) if number <= 2047 and index < (1 << 20) - 1 else None)
    assert (word | flags) & 0xFFFF_FFFF == flags
    assert 0 <= word < 1 << 63


def test_a_log_is_shown_with_its_head() -> None:
    log = Log(1, frozenset(["a"]), {b"m": b"1"}, [Part(T0, 0, TICK, 0, b"paused")])
    assert evidence_log.read(evidence_log.write(log)) == log
    assert replace(log, shard=2) != log
