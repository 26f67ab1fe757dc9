"""The place of a channel that is not set up: what is sent to it becomes a dead letter that says what to set."""

from __future__ import annotations

from notifier.channels.base import Channel, Message, Permanent


class AbsentChannel(Channel):
    """Refuses every message, so that nothing waits unseen for a channel nobody configured."""

    concurrency = 50

    def __init__(self, name: str, remedy: str) -> None:
        self.name = name
        self._remedy = remedy

    async def send(self, message: Message) -> str | None:
        """Raise Permanent with the remedy."""
        raise Permanent(f"the {message.audience}'s channel {self.name} is not set up; {self._remedy}")

    async def aclose(self) -> None:
        """Nothing to give back."""
