"""Which channels this installation can send by: what a policy or a route may name without promising in vain."""

from __future__ import annotations

from core.settings import Settings


def working_channels(settings: Settings) -> frozenset[str]:
    """Channels that are set up. A channel that is not refuses what it is given, with words that say what to set."""
    always = {"log", "webhook", "webpush", "apprise"}
    if settings.smtp_host is not None:
        always.add("email")
    if settings.fcm_credentials_file is not None:
        always.add("fcm")
    if settings.sms_gateways_file is not None:
        always.add("sms")
    return frozenset(always)
