"""The long tail (Telegram, Matrix, Teams, ntfy, …) through Apprise.

The service's URL is a secret: it stands in the route's `secret` (or, for a person, in the sealed address), is never
logged and never told. What leaves is the subject and the short text, no place and no distance. Apprise has no durable
queue and no idempotency: the outbox is ours, and a repeat after a time-out may be shown twice.
"""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Sequence
from typing import Final

import apprise

from notifier.channels.base import Channel, Message, Permanent, Retryable
from notifier.channels.forbidden import EVERYWHERE, FORBIDDEN, Networks, guarded

CONCURRENCY: Final = 8
RATE_PER_S: Final = 5.0
OF_THIS_MACHINE: Final = frozenset(
    {"dbus", "glib", "gnome", "kde", "macosx", "qt", "syslog", "windows", "smpp", "smpps"}
)
"""Services that act on the machine Qorgan runs on, or need what it does not have."""
MAX_URL_CHARS: Final = 2000


class AppriseChannel(Channel):
    """Hands messages to one service by its URL; each URL has a breaker of its own."""

    name = "apprise"
    concurrency = CONCURRENCY
    rate_per_s = RATE_PER_S
    fixed = ()

    def __init__(self, timeout_s: float, forbidden: Networks = EVERYWHERE) -> None:
        """`forbidden`: networks in which no service may be."""
        self._timeout_s = timeout_s
        self._forbidden = forbidden
        self._loaded = False
        self._asset = apprise.AppriseAsset(
            app_id="Qorgan", app_desc="Qorgan", app_url="", async_mode=True, secure_logging=True, http_redirects=False,
            storage_mode=apprise.PersistentStoreMode.MEMORY, plugin_paths=[],
        )  # fmt: skip
        # Its log names services, and at some levels their answers: ours says what has to be said.
        quiet = logging.getLogger("apprise")
        quiet.propagate = False
        quiet.setLevel(logging.CRITICAL + 1)

    def providers(self, address: str, attempt: int) -> Sequence[str]:  # noqa: ARG002
        """The service, by how its route names it."""
        return (address,)

    async def send(self, message: Message) -> str | None:
        """Hand it over; Apprise says whether the service took it, and nothing more."""
        url = message.secret or message.address
        if len(url) > MAX_URL_CHARS or url.partition("://")[0].lower() in OF_THIS_MACHINE:
            raise Permanent("the Apprise URL is of a service that is not allowed here")
        if not self._loaded:
            # Hundreds of plugins: read once, when the first message wants one, beside the event loop.
            await asyncio.to_thread(_load_plugins)
            self._loaded = True
        client = apprise.Apprise(asset=self._asset)
        with guarded(self._forbidden) as guard:
            try:
                known = client.add(url)
            except Exception:  # whatever a plugin makes of a strange URL: it is no URL of its
                known = False
            if not known:
                raise Permanent("the Apprise URL is none that Apprise knows")
            result = await client.async_notify(
                title=message.subject, body=message.short, body_format=apprise.NotifyFormat.TEXT,
                timeout=self._timeout_s,
            )  # fmt: skip
        if not result and guard.refused:
            raise Permanent(FORBIDDEN)
        if not result:
            raise Retryable("Apprise: the service did not take it")
        return None


def _load_plugins() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # what some plugin still imports is not ours to mend
        apprise.Apprise().add("json://localhost")
