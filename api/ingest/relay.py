"""What a gateway is told of the waits of the devices it sends for: each device's when it is news, the least of them for
those that know only one.

A gateway that sends for both sides and passes the one number on would tell him what is asked of her, and so of a panic:
where it bears an aggressor's device, the least is of such devices only, and hers stand in the list alone.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec

from api.ingest.asked import interval_text
from api.ingest.registry import DeviceIdentity

GATEWAY_INTERVAL_S: Final = 60.0
"""Told to gateways where no device of theirs is asked for more."""


AGGRESSOR: Final = "aggressor"


def least_s(told: Collection[float]) -> float:
    """The one wait for a gateway whose devices are told these."""
    return min(GATEWAY_INTERVAL_S, *told) if told else GATEWAY_INTERVAL_S


class Relay:
    """One gateway's connection: what it was told of each device, and what is news."""

    __slots__ = ("_his", "_news", "_told")

    def __init__(self) -> None:
        self._told: dict[int, float] = {}
        """Device number → seconds, of those told otherwise than is expected of them."""
        self._news: dict[str, float] = {}
        self._his: set[int] = set()
        """Numbers of aggressors' devices it sends for."""

    def note(self, device: DeviceIdentity, told_s: float) -> bool:
        """This is what the device is to be told; whether that is news."""
        if device.role == AGGRESSOR:
            self._his.add(device.number)
        if self._told.get(device.number, device.interval_s) == told_s:
            return False
        if told_s == device.interval_s:
            del self._told[device.number]
        else:
            self._told[device.number] = told_s
        self._news[str(device.id)] = told_s
        return True

    @property
    def has_news(self) -> bool:
        """Whether something was noted since `take`."""
        return bool(self._news)

    def take(self) -> tuple[bytes, bytes]:
        """What acknowledgements say behind their number from now on, and what the next one says, news included."""
        news, self._news = self._news, {}
        told = {number: self._told[number] for number in self._his if number in self._told} if self._his else self._told
        least = interval_text(least_s(told.values()))
        part = b',"interval_s":%b,"devices":%b,"commands":' % (least, msgspec.json.encode(news))
        return b',"interval_s":%b,"commands":' % least, part
