"""What every channel is, and the only three ways in which it may fail.

    ChannelError
    ├── Retryable   might work later: timeouts, refused connections, 5xx
    ├── Throttled   will work later, and the provider said when
    └── Permanent   will never work: a bad address, a refused message, a channel that is not set up

The `detail` goes into the database and onto dispatchers' screens: a status and a reason, never an address, a
secret, a token, or the provider's own words (which may quote them).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Protocol


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


class Channel(Protocol):
    """A way to reach somebody."""

    name: str
    concurrency: int
    """Messages that may be under way at once: the channel's bulkhead."""

    async def send(self, message: Message) -> str | None:
        """Hand the message to the provider; returns the provider's id of it, if it gives one.

        Raises Retryable, Throttled or Permanent, and nothing else on purpose.
        """

    async def aclose(self) -> None:
        """Give connections back; a second call does nothing."""


class ChannelError(Exception):
    """Base of the three failures; `detail` says what happened in words fit for a screen."""

    result: ClassVar[str]

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Retryable(ChannelError):  # noqa: N818 - read as a sentence, as in core.errors
    """Might work later."""

    result = "retryable"


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
