"""What every channel is, and the only three ways in which it may fail.

    ChannelError
    ├── Retryable   might work later: timeouts, refused connections, 5xx
    ├── Throttled   will work later, and the provider said when
    └── Permanent   will never work: a bad address, a refused message, a channel that is not set up

The `detail` goes into the database and onto dispatchers' screens: a status and a reason, never an address, a
secret, a token, or the provider's own words (which may quote them).
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Message:
    """One rendered message to one address; `id` is the delivery's, the same at every attempt."""

    id: uuid.UUID
    template: str
    audience: str
    address: str = field(repr=False)
    secret: str | None = field(repr=False)
    language: str
    subject: str
    body: str
    short: str
    incident_id: uuid.UUID | None
    data: Mapping[str, Any]
    """Facts of the template; a channel passes on the few it names, never all."""
    created_at: datetime
    sent_at: datetime
    """When this attempt began."""
    attempt: int = 1
    provider: str = ""
    """Which of the channel's providers the lane chose."""
    urgent: bool = False
    """Priority 0: a panic, and what comes of it."""


class Channel:
    """A way to reach somebody: what every channel says of itself, and what a simple one may leave as it is."""

    name: str
    concurrency: int
    """Messages that may be under way at once: the channel's bulkhead."""
    rate_per_s: float = math.inf
    """Messages handed over a second, by this process."""
    fixed: tuple[str, ...] = ("",)
    """All its providers, when they do not depend on the address: while none may be used, nothing is claimed."""

    def providers(self, address: str, attempt: int) -> Sequence[str]:  # noqa: ARG002 - for those who differ by it
        """Who could take a message for `address`, the preferred one first; each has a breaker of its own."""
        return self.fixed

    async def send(self, message: Message) -> str | None:
        """Hand the message to the provider; returns the provider's id of it, if it gives one.

        Raises Retryable, Throttled or Permanent, and nothing else on purpose.
        """
        raise NotImplementedError

    async def keep_ready(self) -> None:
        """Have at hand what the next message needs, so that a panic after a quiet night waits for none of it; called
        again and again. Whatever it raises is tried again."""

    async def aclose(self) -> None:
        """Give connections back; a second call does nothing."""


class ChannelError(Exception):
    """Base of the three failures; `detail` says what happened in words fit for a screen."""

    result: ClassVar[str]

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Retryable(ChannelError):  # noqa: N818 - read as a sentence, as in core.errors
    """Might work later. `provider_fails`: nobody else's message would have fared better."""

    result = "retryable"

    def __init__(self, detail: str, *, provider_fails: bool = True) -> None:
        super().__init__(detail)
        self.provider_fails = provider_fails


class Throttled(ChannelError):  # noqa: N818
    """Will work later; the provider asks to wait `retry_after_s` seconds."""

    result = "throttled"

    def __init__(self, detail: str, retry_after_s: float) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class Permanent(ChannelError):  # noqa: N818
    """Will never work. `address_gone`: the provider disowned the address itself."""

    result = "permanent"

    def __init__(self, detail: str, *, address_gone: bool = False) -> None:
        super().__init__(detail)
        self.address_gone = address_gone
