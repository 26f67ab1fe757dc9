"""The values of a policy: their defaults, bounds and relations, who overrides whom, and the page that explains them."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.schemas.policies import OrderPolicyBody, PolicyBody, PolicyView
from core.domain.case import CaseOrder
from core.domain.policy import (
    BOUNDS,
    OVERRIDES,
    OrderPolicy,
    Policy,
    check_policy,
    read_order_policy,
    read_policy,
    used_by,
    values_of,
)
from core.domain.violation import P_VIOLATION, VIOLATION_OF_REASON
from core.errors import InvalidInput

PAGE = (Path(__file__).parents[2] / "docs/policy.md").read_text()
ROWS = {cells[0].strip("` "): [cell.strip() for cell in cells] for cells in
        (line.strip("|").split("|") for line in PAGE.splitlines() if line.startswith("| `"))}  # fmt: skip


def test_every_value_has_bounds_that_its_default_keeps() -> None:
    assert set(Policy.__struct_fields__) == BOUNDS.keys()
    check_policy(Policy())


def test_what_an_order_overrides_is_named_alike_in_the_policy_in_the_case_and_at_the_api() -> None:
    assert set(OVERRIDES) <= set(Policy.__struct_fields__)
    assert set(OVERRIDES) <= set(CaseOrder.__struct_fields__)
    assert set(OrderPolicyBody.model_fields) == set(OVERRIDES)
    assert set(PolicyBody.model_fields) - {"preset"} == BOUNDS.keys()
    assert BOUNDS.keys() <= PolicyView.model_fields.keys()


def test_the_defaults_of_a_policy_are_those_of_a_case() -> None:
    fields = {field.name: field.default for field in msgspec.structs.fields(CaseOrder)}
    for name in (*OVERRIDES, "grace_s"):
        assert fields[name] == getattr(Policy(), name), name


@pytest.mark.parametrize("name", BOUNDS)
def test_every_value_is_explained_to_a_dispatcher_with_its_default_and_bounds(name: str) -> None:
    default, (least, most) = getattr(Policy(), name), BOUNDS[name]
    _, unit, told_default, bounds, _ = ROWS[name]
    assert told_default == ("alert + max(alert, 1000)" if default is None else f"{default:g}")
    assert bounds == f"{least:g} – {most:.0f}" if most > 1 else f"{least:g} – {most:g}"
    units = {"m": "metres", "s": "seconds", "count": "times", "deg": "degrees"}
    assert unit == units.get(name.rsplit("_", 1)[-1], "probability")
    section = re.search(rf"### `{name}`: .+?(?=\n##)", PAGE, re.DOTALL)
    assert section, f"docs/policy.md has no section on {name}"
    assert "*Too low" in section[0], "say what goes wrong"
    assert "oo high:*" in section[0], "say what goes wrong"


def test_every_reason_of_a_finding_is_explained() -> None:
    told = {
        reason: verdict for verdict, reason in re.findall(r"^\| `(true|false|null)` \| `(\w+)` \|", PAGE, re.MULTILINE)
    }
    assert told == {reason: msgspec.json.encode(verdict).decode() for reason, verdict in VIOLATION_OF_REASON.items()}
    assert f"probability of at least {P_VIOLATION}" in PAGE


@pytest.mark.parametrize("name", BOUNDS)
def test_a_value_out_of_its_bounds_is_refused_by_name_and_value(name: str) -> None:
    least, most = BOUNDS[name]
    for value in (least - 0.5, most * 1.5, float("nan"), float("inf")):
        with pytest.raises(InvalidInput, match=rf"^{name} is {value:g}; it has to be between {least:g} and {most:g}\."):
            read_policy({name: value})
    if name in OVERRIDES:
        with pytest.raises(InvalidInput, match=f"^{name} is"):
            read_order_policy({name: most * 1.5})
    else:
        with pytest.raises(InvalidInput, match=f"unknown field `{name}`"):
            read_order_policy({name: least})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"alert_m": 800, "warning_m": 700}, "warning_m is 700 and alert_m is 800"),
        ({"p_exit": 0.3}, "p_exit is 0.3 and p_enter_high_risk is 0.3"),
        ({"p_exit": 0.2, "p_enter": 0.1}, "p_exit is 0.2 and p_enter is 0.1"),
    ],
)
def test_values_that_contradict_each_other_are_refused(values: dict[str, float], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        read_policy(values)


@given(st.floats(10, 100_000), st.one_of(st.none(), st.floats(10, 200_000)), st.floats(0, 100_000))
def test_an_orders_radii_are_never_below_its_legal_distance(
    alert_m: float, warning_m: float | None, legal_m: float
) -> None:
    policy = Policy(alert_m=alert_m, warning_m=warning_m)
    alert = policy.alert_for(legal_m)
    assert legal_m <= alert <= policy.warning_for(alert)


@given(st.data())
def test_an_orders_own_value_wins_over_its_agencys(data: st.DataObject) -> None:
    own = {
        name: data.draw(st.one_of(st.none(), st.floats(0.06 if name == "p_enter" else least, min(most, 9e9))), name)
        for name in OVERRIDES
        for least, most in [BOUNDS[name] if name != "p_exit" else (0.001, 0.049)]
    }
    risk_level = data.draw(st.sampled_from(["standard", "high", "extreme"]))
    policy = Policy(p_enter=0.6, p_enter_high_risk=0.4, p_exit=0.04, hold_s=90.0, horizon_s=200.0)
    values = values_of(policy, OrderPolicy(**own), risk_level)
    for name in OVERRIDES:
        agencys = policy.p_enter_high_risk if name == "p_enter" and risk_level != "standard" else getattr(policy, name)
        assert values[name] == (own[name] if own[name] is not None else agencys), name


def test_an_override_that_contradicts_its_agency_is_refused() -> None:
    override = read_order_policy({"p_exit": 0.35})
    assert values_of(Policy(), override, "standard")["p_exit"] == 0.35
    with pytest.raises(InvalidInput, match=r"p_exit is 0\.35 and p_enter is 0\.3"):
        values_of(Policy(), override, "high")


def test_a_transition_tells_every_value_its_order_is_judged_by() -> None:
    told = used_by(CaseOrder(1, uuid.UUID(int=1), 1, 2, 500.0, 1500.0, legal_m=100.0, hold_s=90.0))
    assert told == {
        "alert_m": 500.0, "warning_m": 1500.0, "legal_m": 100.0, "p_enter": 0.5, "p_exit": 0.05,
        "exit_margin_m": 100.0, "hold_s": 90.0, "horizon_s": 300.0, "p_approach": 0.85, "p_unknown": 0.3,
        "grace_s": 300.0,
    }  # fmt: skip
