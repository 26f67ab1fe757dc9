"""A provider's breaker: after failures in a row nothing is sent to it but, now and then, one delivery to see. Pure.

    closed ──FAILURES_IN_A_ROW, or FAILED_SHARE of the last LOOKED_AT──► open ──cool-down over──► half-open: one probe
      ▲                                                                   ▲                            │
      └───────────────────────────── it answered ─────────────────────────┼────────────────────────────┤
                                                                          └──────── it failed ─────────┘

Any answer of the provider counts as an answer, a refusal of one message too. What waits for an open breaker waits in
the database and burns no attempt. The cool-down doubles from the first to the longest and is short: a provider that
is back is used again within half a minute.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from datetime import datetime, timedelta
from typing import Final

FAILURES_IN_A_ROW: Final = 5
LOOKED_AT: Final = 20
"""The newest attempts that are counted for the share of failures."""
FAILED_SHARE: Final = 0.5
COOL_DOWN_S: Final = (2.0, 30.0)
"""First and longest wait before the next probe."""
THROTTLES_IN_A_ROW: Final = 3
"""So many "too many" in a row are meant for all of us, not for one message."""
HOLD_MAX_S: Final = 300.0
"""Longest one "wait so long" of a provider holds everything for it."""
PROVIDERS_MAX: Final = 1000

CLOSED, HALF_OPEN, OPEN = 0, 1, 2


class Breaker:
    """Of one provider; every `admit` that says yes is followed by exactly one verdict."""

    def __init__(self) -> None:
        self._results: deque[bool] = deque(maxlen=LOOKED_AT)
        self._failures = 0
        self._throttles = 0
        self._opened = 0
        """How often it opened, or stayed open, in a row."""
        self._until: datetime | None = None
        """Nothing goes out before; None: closed."""
        self._held_until: datetime | None = None
        self._probe = 0
        """Number of the probe under way; 0: none."""
        self._probes = 0

    def state(self, now: datetime) -> int:
        """CLOSED, HALF_OPEN or OPEN."""
        if self._until is None:
            return OPEN if self._held_until is not None and now < self._held_until else CLOSED
        return OPEN if now < self._until or self._probe else HALF_OPEN

    @property
    def forgives(self) -> bool:
        """Whether a failure now is the provider's alone, and not counted as the delivery's attempt."""
        return self._until is not None

    def wait_s(self, now: datetime, *, urgent: bool = False) -> float:
        """Seconds until something may be sent; 0: now. A probe under way is waited for. What is `urgent` does not wait
        because there were too many of the others."""
        held_until = None if urgent else self._held_until
        ends = [moment for moment in (self._until, held_until) if moment is not None and moment > now]
        if ends:
            return (max(ends) - now).total_seconds()
        return COOL_DOWN_S[0] if self._probe else 0.0

    def admit(self, now: datetime, *, urgent: bool = False) -> bool:
        """Whether one delivery may be sent now."""
        if self.wait_s(now, urgent=urgent) > 0:
            return False
        if self._until is not None:
            self._probes += 1
            self._probe = self._probes
        return True

    def attempt(self) -> Attempt:
        """What was just admitted, to bring its verdict: others may be under way that began before the breaker opened,
        and say nothing of what the probe finds."""
        return Attempt(self, self._probe)

    def answered(self) -> bool:
        """The provider answered; True when that closes an open breaker."""
        closes = self._until is not None
        self._until = None  # what it asked to wait it still asks: only what was urgent went out meanwhile
        self._probe = 0
        self._failures = self._throttles = self._opened = 0
        if closes:
            self._results.clear()
        self._results.append(True)
        return closes

    def failed(self, now: datetime, probe: int | None = None) -> bool:
        """The provider failed; True when that opens a closed breaker. `probe`: the number of the probe that did, 0 for
        none; left out, the one under way."""
        was_open = self._until is not None
        was_probe = self._ends(probe)
        if was_open and not was_probe:
            return False  # it went out before the breaker opened, and tells nothing new
        self._failures += 1
        self._results.append(False)
        full = len(self._results) == LOOKED_AT
        share = self._results.count(False) / len(self._results)
        if was_open or self._failures >= FAILURES_IN_A_ROW or (full and share >= FAILED_SHARE):
            cool_down_s = min(COOL_DOWN_S[0] * 2.0 ** min(self._opened, 16), COOL_DOWN_S[1])
            self._opened += 1
            self._until = now + timedelta(seconds=cool_down_s)
            return not was_open
        return False

    def throttled(self, now: datetime, retry_after_s: float) -> None:
        """The provider asks to wait; asked often enough, all of its deliveries do."""
        self._probe = 0
        self._until = None
        self._failures = self._opened = 0
        self._throttles += 1
        if self._throttles >= THROTTLES_IN_A_ROW:
            self._held_until = now + timedelta(seconds=min(max(retry_after_s, 1.0), HOLD_MAX_S))

    def unsaid(self, probe: int | None = None) -> None:
        """What was admitted did not reach the provider: nothing is known of it."""
        self._ends(probe)

    def _ends(self, probe: int | None) -> bool:
        """Whether a verdict is that of the probe under way, which it ends."""
        ends = self._probe != 0 and probe in (None, self._probe)
        if ends:
            self._probe = 0
        return ends


class Attempt:
    """One delivery on its way to a provider; brings exactly one verdict."""

    def __init__(self, breaker: Breaker, probe: int) -> None:
        self._breaker = breaker
        self._probe = probe

    @property
    def forgives(self) -> bool:
        """As the breaker's."""
        return self._breaker.forgives

    def answered(self) -> bool:
        """As the breaker's: an answer closes it, whoever got it."""
        return self._breaker.answered()

    def failed(self, now: datetime) -> bool:
        """As the breaker's."""
        return self._breaker.failed(now, self._probe)

    def throttled(self, now: datetime, retry_after_s: float) -> None:
        """As the breaker's."""
        self._breaker.throttled(now, retry_after_s)

    def unsaid(self) -> None:
        """As the breaker's."""
        self._breaker.unsaid(self._probe)


class Breakers:
    """A channel's breakers by provider, at most PROVIDERS_MAX; the longest unused is forgotten first."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, Breaker] = OrderedDict()

    def of(self, provider: str) -> Breaker:
        """The provider's breaker."""
        breaker = self._of.setdefault(provider, Breaker())
        self._of.move_to_end(provider)
        while len(self._of) > PROVIDERS_MAX:
            self._of.popitem(last=False)
        return breaker

    def open_count(self, now: datetime) -> int:
        """How many providers are left alone now."""
        return sum(breaker.state(now) != CLOSED for breaker in self._of.values())

    def is_open(self, provider: str, now: datetime, *, urgent: bool = False) -> bool:
        """Whether nothing may be sent to a provider now."""
        breaker = self._of.get(provider)
        return breaker is not None and breaker.wait_s(now, urgent=urgent) > 0
