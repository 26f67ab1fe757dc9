"""Of two alike devices of one person, the one that moves is with her, however sure the one at home is of its place."""

from __future__ import annotations

import uuid
from typing import Any

from core.domain.case import CaseDevice, CasePerson
from core.domain.ping import FLAG_PRIMARY, NO, SHIFT_MOVING, SHIFT_SOURCE, YES, Source
from core.domain.transition import Transition

GPS = FLAG_PRIMARY | Source.GPS << SHIFT_SOURCE
STILL, MOVES = GPS | NO << SHIFT_MOVING, GPS | YES << SHIFT_MOVING
AT_HOME, CARRIED, HIS = 11, 13, 12


def her_walk_to_him(world: Any) -> list[Transition]:
    """Her phone lies at home; she walks with her unit, 2 km and then 30 m from him, and stays for ten minutes."""
    devices = [(AT_HOME, "phone"), (CARRIED, "victim_unit")]
    people = [
        CasePerson(number=1, id=uuid.UUID(int=1), role="victim", devices=[
            CaseDevice(number=number, id=uuid.UUID(int=number), kind=kind, interval_s=60.0) for number, kind in devices
        ]),
        CasePerson(number=2, id=uuid.UUID(int=2), role="aggressor", devices=[
            CaseDevice(number=HIS, id=uuid.UUID(int=HIS), kind="bracelet", interval_s=60.0)
        ]),
    ]  # fmt: skip
    world.configure(people=people)
    found = []
    for second in range(0, 3_600, 20):
        walked_m = min(max(second - 900, 0) * 1.3, 2_000.0)
        walks = 0.0 < walked_m < 2_000.0
        found += world.ping(second, AT_HOME, 0.0, speed_mps=0.0, flags=STILL, accuracy_m=6.0)
        found += world.ping(second + 1, HIS, 2_030.0, speed_mps=0.0, flags=STILL)
        found += world.ping(second + 2, CARRIED, walked_m, speed_mps=1.3 if walks else 0.0, accuracy_m=25.0,
                            flags=MOVES if walks else STILL)  # fmt: skip
    return found


def test_the_device_that_left_speaks_for_her_and_goes_on_doing_so_when_she_stands(world: Any) -> None:
    rings = [each.to_state for each in her_walk_to_him(world) if each.kind == "proximity"]
    assert rings == ["warning", "breach"]
