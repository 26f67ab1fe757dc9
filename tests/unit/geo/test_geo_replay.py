"""Replay: files in, the contract's lines out, and clear words about a bad file."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from core.clock import rfc3339
from core.domain.policy import BOUNDS
from core.errors import InvalidInput
from geo.replay import replay
from geo.replay_files import judged_by, read_orders, read_policy

BEGIN = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
ORDER: dict[str, Any] = {"order_id": "order-A", "victim_id": "Aigerim", "aggressor_id": "him", "alert_m": 500}


def moment(second: float) -> str:
    return rfc3339(BEGIN + timedelta(seconds=second))


def ping(second: float, person: str, east_m: float | None, **more: Any) -> dict[str, Any]:
    line: dict[str, Any] = {"person_id": person, "at": moment(second), "received_at": moment(second)}
    if east_m is not None:
        line |= {"lat": 43.25, "lon": 76.95 + east_m / 81_150, "accuracy_m": 8, "speed_mps": 1.4}
    return line | more


class Files:
    def __init__(self, folder: Path) -> None:
        self.orders, self.pings, self.policy = folder / "orders.json", folder / "pings.ndjson", folder / "policy.json"

    def run(self, orders: Any, pings: list[Any], policy: Any = None) -> list[dict[str, Any]]:
        self.orders.write_text(orders if isinstance(orders, str) else json.dumps(orders))
        self.pings.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in pings))
        if policy is not None:
            self.policy.write_text(json.dumps(policy))
        return list(replay(self.orders, self.pings, None if policy is None else self.policy))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_an_approach_comes_out_in_the_contracts_lines(files: Files) -> None:
    lines = files.run([ORDER], [ping(0, "Aigerim", 0), ping(1, "him", 1000), ping(30, "him", 300)])
    assert [(line["kind"], line["from"], line["to"]) for line in lines] == [
        ("proximity", "clear", "warning"),
        ("proximity", "warning", "breach"),
        ("assurance", "guaranteed", "likely"),
    ]
    breach = lines[1]
    assert set(breach) == {
        "order_id", "kind", "from", "to", "at", "evaluated_at", "distance_m", "p_within", "closing_mps",
        "time_to_zone_s", "attribution", "fix_age_s", "detail", "rule_version",
    }  # fmt: skip
    assert breach["order_id"] == "order-A"
    assert breach["kind"] == "proximity"
    assert breach["at"] == breach["evaluated_at"] == moment(30)
    assert breach["distance_m"] == pytest.approx(300, rel=0.01)
    assert breach["fix_age_s"] == {"victim": 30.0, "aggressor": 0.0}
    assert breach["detail"]["victim_id"] == "Aigerim"
    json.dumps(lines)


def test_the_same_files_give_the_same_lines(files: Files) -> None:
    pings = [ping(k, "him" if k % 2 else "Aigerim", 900 - 20 * k if k % 2 else 0) for k in range(40)]
    assert files.run([ORDER], pings) == files.run([ORDER], pings)


def test_deadlines_between_two_lines_fire_at_their_time_and_a_long_gap_is_no_outage(files: Files) -> None:
    week = 7 * 86_400
    lines = files.run([ORDER], [ping(0, "him", 9000), ping(10, "Aigerim", 0), ping(week, "him", 9000)])
    devices = [line for line in lines if line["kind"] == "device"]
    assert [(line["to"], line["detail"]["person_id"], line["evaluated_at"]) for line in devices] == [
        ("late", "him", moment(120)),
        ("late", "Aigerim", moment(130)),
        ("reporting", "him", moment(week)),
    ]
    [unknown] = [line for line in lines if line["kind"] == "assurance"]
    assert (unknown["to"], unknown["detail"]["silent"], unknown["evaluated_at"]) == ("unknown", "both", moment(420))
    assert lines[0]["order_id"] is None


def test_validity_and_zones_are_kept(files: Files) -> None:
    square = [[76.94, 43.24], [76.96, 43.24], [76.96, 43.26], [76.94, 43.26], [76.94, 43.24]]
    zone = {"type": "Feature", "id": "school", "properties": {"kind": "exclusion", "warning_m": 100},
            "geometry": {"type": "Polygon", "coordinates": [square]}}  # fmt: skip
    order = ORDER | {"zones": [zone], "valid_from": moment(20), "valid_until": moment(60)}
    lines = files.run([order], [ping(0, "him", 0), ping(15, "him", 1), ping(90, "him", 2)])
    assert [(line["kind"], line["to"], line["evaluated_at"]) for line in lines] == [
        ("zone", "breach", moment(20)),
        ("zone", "clear", moment(60)),
    ]
    assert lines[0]["detail"]["zone_id"] == "school"
    assert lines[1]["detail"]["reason"] == "validity_ended"


def test_a_policy_sets_values(files: Files) -> None:
    pings = [ping(0, "Aigerim", 0), ping(1, "him", 530, accuracy_m=150)]
    assert files.run([ORDER], pings)[-1]["to"] == "warning"
    assert files.run([ORDER], pings, {"p_enter": 0.2})[-1]["to"] == "breach"


def test_an_orders_own_values_come_before_the_policys_and_risk_takes_its_own_probability(files: Files) -> None:
    pings = [ping(0, "Aigerim", 0), ping(1, "him", 530, accuracy_m=150)]
    lenient = {"p_enter": 0.9, "p_enter_high_risk": 0.2, "alert_m": 500}
    unnamed = {name: value for name, value in ORDER.items() if name != "alert_m"}
    for order, seen in (
        (unnamed, "warning"),
        (unnamed | {"policy": {"p_enter": 0.2}}, "breach"),
        (unnamed | {"risk_level": "high"}, "breach"),
        (unnamed | {"risk_level": "extreme", "policy": {"p_enter": 0.9}}, "warning"),
        (unnamed | {"legal_m": 900}, "breach"),
    ):
        assert files.run([order], pings, lenient)[-1]["to"] == seen, order


def test_a_file_is_judged_by_the_same_values_as_a_compiled_case(files: Files) -> None:
    own = {"hold_s": 30.0, "p_exit": 0.01}
    order = {**ORDER, "alert_m": None, "legal_m": 700.0, "risk_level": "high", "policy": own}
    policy = {"alert_m": 400.0, "p_enter_high_risk": 0.25, "horizon_s": 600, "p_approach": 0.6, "p_unknown": 0.1}
    files.orders.write_text(json.dumps([order]))
    files.policy.write_text(json.dumps(policy))
    (read,), set_by_file = read_orders(files.orders), read_policy(files.policy)
    assert judged_by(read, set_by_file, files.orders) == {
        "alert_m": 700.0, "warning_m": 1700.0, "legal_m": 700.0, "grace_s": 300.0, "p_enter": 0.25, "p_exit": 0.01,
        "exit_margin_m": 100.0, "hold_s": 30.0, "horizon_s": 600.0, "p_approach": 0.6, "p_unknown": 0.1,
    }  # fmt: skip


def test_a_line_tells_every_value_it_was_judged_by(files: Files) -> None:
    order = ORDER | {"legal_m": 200, "policy": {"hold_s": 30}}
    [line] = files.run([order], [ping(0, "Aigerim", 0), ping(1, "him", 100)], {"grace_s": 60, "p_approach": 0.6})
    assert line["detail"]["policy"] == {
        "alert_m": 500, "warning_m": 1500, "legal_m": 200, "p_enter": 0.5, "p_exit": 0.05, "exit_margin_m": 100,
        "hold_s": 30, "horizon_s": 300, "p_approach": 0.6, "p_unknown": 0.3, "grace_s": 60,
    }  # fmt: skip


def test_a_policy_file_has_the_names_and_bounds_of_an_agencys_policy(files: Files) -> None:
    for name, (least, most) in BOUNDS.items():
        for value in (least - 0.001, most * 1.001):
            files.policy.write_text(json.dumps({name: value}))
            with pytest.raises(InvalidInput, match=f"policy.json: {name} is .* between {least:g} and {most:g}"):
                read_policy(files.policy)
    files.policy.write_text(json.dumps({name: least for name, (least, _) in BOUNDS.items()} | {"p_exit": 0.01}))
    assert read_policy(files.policy).hold_s == 0


def test_one_aggressor_of_two_and_one_victim_of_two_are_kept_apart(files: Files) -> None:
    orders = [ORDER, {**ORDER, "order_id": "B", "victim_id": "Dana"}, {**ORDER, "order_id": "C", "aggressor_id": "ex"}]
    pings = [ping(0, "Aigerim", 0), ping(1, "Dana", 9000), ping(2, "ex", 100), ping(3, "him", 9100), ping(4, "who", 0)]
    assert [(line["order_id"], line["to"]) for line in files.run(orders, pings)] == [("C", "breach"), ("B", "breach")]


def test_ids_may_be_numbers_and_a_person_may_have_devices(files: Files) -> None:
    orders = [{"order_id": 1, "victim_id": 2, "aggressor_id": 3, "alert_m": 500}]
    pings = [ping(0, "2", 0, person_id=2), ping(1, "3", 100, device_id="b-1"), ping(2, "3", 100, device_id="b-2",
             strap="open")]  # fmt: skip
    lines = files.run(orders, pings)
    assert lines[0]["order_id"] == "1"
    assert (lines[1]["kind"], lines[1]["detail"]["device_id"], lines[1]["detail"]["signal"]) == (
        "device",
        "b-2",
        "strap",
    )


@pytest.mark.parametrize(
    ("orders", "words"),
    [
        ("{", "not JSON"),
        ([], "no order"),
        ([{"order_id": "A"}], "victim_id"),
        ([ORDER, ORDER], "'order-A' is there twice"),
        ([ORDER | {"aggressor_id": "Aigerim"}], "the same person"),
        ([ORDER | {"alert_m": -5}], "alert_m is -5"),
        ([ORDER | {"valid_from": "2026-03-02"}], "valid_from"),
        ([ORDER | {"valid_from": "2026-03-02T00:00:00"}], "has no offset"),
        ([ORDER | {"valid_from": moment(9), "valid_until": moment(3)}], "valid_until is not after"),
        ([ORDER | {"legal_m": 600}], "order 'order-A': alert_m is 500 and legal_m is 600"),
        ([ORDER | {"warning_m": 400}], "warning_m is 400 and alert_m is 500"),
        ([ORDER | {"risk_level": "some"}], "risk_level is 'some'.*standard, high, extreme"),
        ([ORDER | {"policy": {"p_exit": 0.9}}], "order 'order-A': p_exit is 0.9; it has to be between 0.001 and 0.5"),
        ([ORDER | {"policy": {"p_exit": 0.5}}], "p_exit is 0.5 and p_enter is 0.5"),
        ([ORDER | {"policy": {"alert_m": 400}}], "unknown field `alert_m`"),
        ([ORDER | {"zones": [{"type": "Point"}]}], "not a GeoJSON Feature"),
        ([ORDER | {"zones": [{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": []}}]}], "zone 1 of"),
    ],
)  # fmt: skip
def test_a_bad_orders_file_is_refused(files: Files, orders: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        files.run(orders, [ping(0, "him", 0)])
    assert str(files.orders) in caught.value.detail


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{oops", "not JSON"),
        ('{"person_id": "him"}', "at"),
        (ping(1, "him", 0, lat=91), "lat is 91"),
        (ping(1, "him", 0, lon=None), "lat and lon come together"),
        (ping(1, "him", 0, source="stars"), "source is 'stars'.*one of cell, gps, wifi"),
        (ping(1, "him", 0, at="yesterday"), "at"),
        (ping(-1, "him", 0), "before that of the line above"),
        (ping(1, "him", 0, lat="NaN"), "lat"),
    ],
)
def test_a_bad_line_of_pings_is_refused_by_number(files: Files, line: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        files.run([ORDER], [ping(0, "him", 0), line])
    assert f"{files.pings}, line 2" in caught.value.detail


def test_a_policy_with_a_name_nobody_knows_is_refused(files: Files) -> None:
    with pytest.raises(InvalidInput, match="p_entre"):
        files.run([ORDER], [ping(0, "him", 0)], {"p_entre": 0.4})
    with pytest.raises(InvalidInput, match="p_enter is 2"):
        files.run([ORDER], [ping(0, "him", 0)], {"p_enter": 2})
    with pytest.raises(InvalidInput, match=r"p_exit is 0\.4 and p_enter_high_risk is 0\.3"):
        files.run([ORDER], [ping(0, "him", 0)], {"p_exit": 0.4})
    with pytest.raises(InvalidInput, match="interval_s is 0"):
        files.run([ORDER], [ping(0, "him", 0)], {"interval_s": 0})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"none\.json cannot be read"):
        list(replay(tmp_path / "none.json", tmp_path / "pings", None))


def test_no_pings_are_no_lines(files: Files) -> None:
    assert files.run([ORDER], []) == []
    assert files.run([ORDER], ["", "  "]) == []


def visit(first: int, last: int, received: float) -> list[dict[str, Any]]:
    """His pings of a visit to her door at second 1,500, each minute, uploaded together at `received`."""
    return [
        ping(second, "him", abs(second - 1_500) * 5, received_at=moment(received)) for second in range(first, last, 60)
    ]


def test_a_late_upload_that_shows_a_visit_is_told_as_past_with_its_time(files: Files) -> None:
    hers = [ping(second, "Aigerim", 0) for second in range(0, 3_600, 60)]
    lines = files.run([ORDER], [*hers, *visit(0, 3_600, 3_600)])
    (told,) = [line for line in lines if line["kind"] == "proximity"]
    assert (told["from"], told["to"], told["detail"]["retrospective"]) == ("clear", "breach", True)
    assert moment(1_390) <= told["at"] <= moment(1_410)
    assert moment(1_590) <= told["detail"]["until"] <= moment(1_610)
    assert told["evaluated_at"] == moment(3_600)
    json.dumps(lines)


def test_a_backlog_that_comes_one_by_one_tells_the_visit_once_too(files: Files) -> None:
    hers = [ping(second, "Aigerim", 0) for second in range(0, 3_600, 60)]
    one_by_one = [line | {"received_at": moment(3_600 + k)} for k, line in enumerate(visit(0, 3_600, 3_600))]
    told = [line for line in files.run([ORDER], [*hers, *one_by_one]) if line["to"] == "breach"]
    assert [moment(1_380) <= line["at"] <= moment(1_450) for line in told] == [True]


def test_a_bracelet_heard_by_her_phone_is_near(files: Files) -> None:
    heard = {"heard": [{"beacon": "him", "rssi_dbm": -60}, {"beacon": "a stranger"}]}
    lines = files.run([ORDER], [ping(0, "Aigerim", 0), ping(20, "him", 9_000), ping(60, "Aigerim", 0, **heard)])
    assert [line["to"] for line in lines if line["kind"] == "proximity"] == ["breach"]
