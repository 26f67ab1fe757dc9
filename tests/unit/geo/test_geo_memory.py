"""A device's record in the state: fewer bytes, the same values; and states written before it are read."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from geo.engine import Engine
from geo.memory import DEVICE_BYTES
from geo.rows import ALARM_AT, PULSE_WIDTH, SERVICE
from geo.track import CONFLICT_S, EXACT, PLACE, SUSPECT, WIDTH


def _state(world: Any) -> dict[bytes, bytes]:
    return {field: value for field, value in world.engine.take_changes().state.items() if value is not None}


def _restored(state: dict[bytes, bytes]) -> Engine:
    engine = Engine(0)
    engine.restore(state)
    return engine


def test_a_device_comes_back_as_it_was_whatever_its_columns_hold(world: Any) -> None:
    world.configure()
    world.both(1, 2000)
    devices = world.engine._roster.devices
    random = np.random.default_rng(1)
    rows = np.flatnonzero(devices.number >= 0)
    for row in rows.tolist():
        devices.fix[row, PLACE] = random.uniform(-6.4e6, 6.4e6, 3)
        devices.fix[row, PLACE.stop : EXACT] = random.integers(-(2**47), 2**47, EXACT - PLACE.stop)
        devices.fix[row, EXACT:] = random.uniform(1.0, 9.0, WIDTH - EXACT).astype(np.float32)
        devices.pulse[row] = random.integers(0, 2**27, PULSE_WIDTH)
        devices.pulse[row, SERVICE] = -5
    devices.pulse[rows[0], ALARM_AT] = 0
    devices.fix[rows[0], SUSPECT] = devices.fix[rows[0], CONFLICT_S] = 0.0
    devices.dirty[rows] = True
    restored = _restored(_state(world))._roster.devices
    for row in rows.tolist():
        [other] = np.flatnonzero(restored.number == devices.number[row])
        assert np.array_equal(restored.fix[other], devices.fix[row])
        assert np.array_equal(restored.pulse[other], devices.pulse[row])


def test_what_most_devices_never_have_takes_no_room(world: Any) -> None:
    world.configure()
    world.both(1, 2000)
    records = [value for field, value in _state(world).items() if field.startswith(b"d")]
    assert records
    assert all(len(value) <= DEVICE_BYTES - 26 for value in records), "no suspect, no conflict, no alarm"


def test_a_state_from_before_is_read_and_devices_it_cannot_tell_begin_anew(world: Any) -> None:
    world.configure()
    world.both(1, 2000)
    state = _state(world)
    encode = msgspec.msgpack.Encoder(uuid_format="bytes").encode
    for field in state:
        if field.startswith(b"c"):
            number = int.from_bytes(field[1:], "little")
            state[field] = encode(world.engine._roster.cases[number].case)
        elif field.startswith(b"d"):
            state[field] = bytes(189)
    restored = _restored(state)
    assert restored.case_versions() == world.engine.case_versions()
    assert not restored._roster.devices.fix.any()
