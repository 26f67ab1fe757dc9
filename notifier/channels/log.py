"""The log as a channel: one structured line a message, without text, address or place."""

from __future__ import annotations

import structlog

from notifier.channels.base import Channel, Message

log = structlog.get_logger(__name__)


class LogChannel(Channel):
    """Writes that somebody was to be told of what, for demonstrations and as a last resort."""

    name = "log"
    concurrency = 50

    async def send(self, message: Message) -> str | None:
        """Write one line; always succeeds."""
        log.info(
            "notification",
            delivery_id=str(message.id),
            incident_id=str(message.incident_id) if message.incident_id else None,
            template=message.template,
            audience=message.audience,
            type=message.data.get("type"),
            severity=message.data.get("severity"),
            language=message.language,
        )
        return None

    async def aclose(self) -> None:
        """Nothing to give back."""
