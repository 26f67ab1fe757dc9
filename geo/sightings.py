"""Bracelets heard by radio: proof of nearness where satellites see nothing.

A beacon is only ever the bracelet's; a victim's unit listens. Who heard which beacon stands beside the ping.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from geo.roster import Roster
from geo.run import Run

FRESH_MS: Final = 120_000
"""What was heard longer ago says nothing about now."""

_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


def read(run: Run) -> dict[int, list[int]]:
    """Record of the run → numbers of the devices it heard; what cannot be read is nothing."""
    heard: dict[int, list[int]] = {}
    for start, extras in run.extras():
        try:
            beside = _decode(extras)
        except (msgspec.DecodeError, ValueError):
            continue
        for index, found in beside.items():
            sightings = found.get("heard") if isinstance(found, dict) else None
            if not isinstance(sightings, list):
                continue
            numbers = [each["beacon"] for each in sightings
                       if isinstance(each, dict) and isinstance(each.get("beacon"), int)]  # fmt: skip
            if index.isdecimal() and numbers:
                heard[start + int(index)] = numbers
    return heard


def orders_of(roster: Roster, device_row: int, beacons: list[int]) -> list[int]:
    """Rows of the orders in which the device's wearer is protected from a wearer of one of the beacons."""
    person = int(roster.devices.person[device_row])
    found = []
    link = int(roster.people.link[person])
    while link >= 0:
        row, side = link >> 1, link & 1
        if side == 0:
            theirs = roster.people.about[int(roster.orders.party[row, 1])][1]
            if any(int(roster.devices.number[own]) in beacons for own in theirs):
                found.append(row)
        link = int(roster.orders.next[row, side])
    return found
