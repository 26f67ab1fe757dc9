"""What transitions mean for incidents, and what policies may say."""

from __future__ import annotations

import uuid

import msgspec
import pytest

from core.clock import to_ms, utc_now
from core.domain.alarm import ALARM_STATE, TYPE_OF
from core.domain.incident import FAMILY_OF_TYPE
from core.domain.policy import Policy, read_policy
from core.domain.transition import RULE_VERSION, Transition, decode, encode
from core.errors import InvalidInput
from core.ids import timed_id


def test_every_alarm_has_a_type_and_every_type_a_family() -> None:
    assert ALARM_STATE.keys() == TYPE_OF.keys()
    assert set(TYPE_OF.values()) <= FAMILY_OF_TYPE.keys()


def test_a_timed_id_is_a_version_7_uuid_that_comes_out_the_same_and_sorts_by_time() -> None:
    now_ms = to_ms(utc_now())
    one = timed_id(now_ms, "incident", "a")
    assert (one.version, one.variant) == (7, "specified in RFC 4122")
    assert one == timed_id(now_ms, "incident", "a") != timed_id(now_ms, "incident", "b")
    assert one < timed_id(now_ms + 1, "incident", "a")
    assert one.int >> 80 == now_ms


def test_a_transition_is_written_with_the_version_of_the_rules_even_where_it_is_todays() -> None:
    anyone = uuid.UUID(int=1)
    transition = Transition(
        id=anyone, shard=0, entry="1-0", kind="proximity", from_state="clear", to_state="breach", at_ms=1,
        evaluated_ms=1, agency_id=anyone, case_id=anyone,
    )  # fmt: skip
    assert msgspec.to_builtins(transition)["rule_version"] == RULE_VERSION
    assert decode(encode(transition)) == transition


def test_a_policy_stands_at_its_defaults_where_nothing_is_set() -> None:
    assert read_policy({}) == Policy()
    assert read_policy({"alert_m": 500}).warning_for(500) == 1500


@pytest.mark.parametrize(
    "values", [{"alert": 5}, {"alert_m": 0}, {"p_enter": 2}, {"grace_s": "long"}, {"alert_m": float("nan")}]
)
def test_a_policy_that_cannot_be_right_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        read_policy(values)
