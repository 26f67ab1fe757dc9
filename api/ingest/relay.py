"""What a gateway is told of the waits of the devices it sends for: each device's when it is news, the least of them for
those that know only one.
"""

from __future__ import annotations

from typing import Final

import msgspec

from api.ingest.asked import interval_text
from api.ingest.registry import DeviceIdentity

GATEWAY_INTERVAL_S: Final = 60.0
"""Told to gateways where no device of theirs is asked for more."""


class Relay:
    """One gateway's connection: what it was told of each device, and what is news."""

    __slots__ = ("_news", "_told")

    def __init__(self) -> None:
        self._told: dict[int, float] = {}
        """Device number → seconds, of those told otherwise than is expected of them."""
        self._news: dict[str, float] = {}

    def note(self, device: DeviceIdentity, told_s: float) -> bool:
        """This is what the device is to be told; whether that is news."""
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
        least = interval_text(min(GATEWAY_INTERVAL_S, *self._told.values()) if self._told else GATEWAY_INTERVAL_S)
        part = b',"interval_s":%b,"devices":%b,"commands":' % (least, msgspec.json.encode(news))
        return b',"interval_s":%b,"commands":' % least, part
