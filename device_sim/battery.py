"""A battery that runs down with time, with every fix and with every transmission.

The model: energy = idle power x time + receiver power x the seconds to a fix + energy of a transmission + radio power x
the seconds the network keeps the connection open afterwards. Whoever pings faster than the receiver or the connection
falls asleep pays for both all the time.

The figures are assumptions of the order that makers and measurements give, not of one product:

- the network lets go of a connection after some 10 s without data (the common inactivity timer of LTE), in which
  discontinuous reception spares most of the radio's power;
- bracelet: 1,000 mAh at 3.7 V; satellite receiver 30 mW while it tracks, 4 s for a fix; LTE-M 60 mJ a message and 35 mW
  while connected; processor, beacon and sensors 12 mW;
- phone: 4,000 mAh at 3.85 V; receiver 300 mW, 5 s for a fix; LTE 300 mJ a message and 250 mW while connected; 350 mW
  for what its owner does with it, so that without us it lasts two days.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SECONDS_AN_HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Energy:
    """What a kind of device uses."""

    capacity_mwh: float
    idle_mw: float
    receiver_mw: float
    fix_s: float
    """How long the receiver runs for a fix."""
    send_mj: float
    connected_mw: float
    connected_s: float
    """How long the network keeps a connection open after data."""

    def fix_mj(self, since_s: float) -> float:
        """Energy of a fix so many seconds after the one before."""
        return self.receiver_mw * min(self.fix_s, since_s)

    def transmission_mj(self, since_s: float) -> float:
        """Energy of a transmission so many seconds after the one before, with the connection it keeps open."""
        return self.send_mj + self.connected_mw * min(self.connected_s, since_s)

    def power_mw(self, interval_s: float) -> float:
        """Mean power at a steady interval between pings."""
        return self.idle_mw + (self.fix_mj(interval_s) + self.transmission_mj(interval_s)) / interval_s

    def hours(self, interval_s: float) -> float:
        """How long a full battery lasts at a steady interval."""
        return self.capacity_mwh / self.power_mw(interval_s)


BRACELET: Final = Energy(3_700.0, 12.0, 30.0, 4.0, 60.0, 35.0, 10.0)
PHONE: Final = Energy(15_400.0, 350.0, 300.0, 5.0, 300.0, 250.0, 10.0)


class Battery:
    """What is left of one device's battery; times are seconds of its own clock."""

    def __init__(self, energy: Energy, *, hours: float | None = None, interval_s: float = 60.0) -> None:
        """With `hours`, a full battery is one that lasts so long at `interval_s`."""
        self.energy = energy
        self._capacity_mj = (hours * energy.power_mw(interval_s) if hours else energy.capacity_mwh) * SECONDS_AN_HOUR
        self._seen_s: float | None = None
        self._fix_s = self._send_s = float("-inf")

    def drained_pct(self, now_s: float, *, fixed: bool, sent: bool) -> float:
        """What of a full battery went since it was last asked, with a fix or a transmission now."""
        used_mj = self.energy.idle_mw * max(0.0, now_s - (now_s if self._seen_s is None else self._seen_s))
        self._seen_s = now_s
        if fixed:
            used_mj += self.energy.fix_mj(now_s - self._fix_s)
            self._fix_s = now_s
        if sent:
            used_mj += self.energy.transmission_mj(now_s - self._send_s)
            self._send_s = now_s
        return 100.0 * used_mj / self._capacity_mj
