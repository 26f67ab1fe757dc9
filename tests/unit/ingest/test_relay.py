"""What a gateway's one interval may tell, whose devices it bears being what it is."""

from __future__ import annotations

import json
import uuid

from api.ingest.registry import DeviceIdentity
from api.ingest.relay import GATEWAY_INTERVAL_S, Relay


def device(number: int, role: str) -> DeviceIdentity:
    return DeviceIdentity(
        number, uuid.UUID(int=number), "phone", role, uuid.UUID(int=9), uuid.UUID(int=8), (0,), 60.0, "active"
    )


def told(relay: Relay) -> tuple[float, dict[str, float]]:
    _, now = relay.take()
    answer = json.loads(b'{"ack":1' + now + b"[]}")
    return answer["interval_s"], answer["devices"]


def test_a_gateway_of_her_devices_alone_is_told_the_least() -> None:
    relay = Relay()
    assert relay.note(device(1, "victim"), 1.0)
    assert told(relay) == (1.0, {str(uuid.UUID(int=1)): 1.0})


def test_a_gateway_that_bears_his_device_too_betrays_nothing_of_hers_by_the_one_number() -> None:
    relay = Relay()
    relay.note(device(2, "aggressor"), 60.0)
    relay.note(device(1, "victim"), 1.0)
    assert told(relay) == (GATEWAY_INTERVAL_S, {str(uuid.UUID(int=1)): 1.0})
    relay.note(device(2, "aggressor"), 5.0)
    assert told(relay) == (5.0, {str(uuid.UUID(int=2)): 5.0})
