"""Channels: the ways in which people are told. Each is a bulkhead with its own connections and its own bound."""

from __future__ import annotations

from core.settings import Settings
from notifier.channels.absent import AbsentChannel
from notifier.channels.base import Channel
from notifier.channels.email import EmailChannel
from notifier.channels.fcm import FcmChannel
from notifier.channels.log import LogChannel
from notifier.channels.webhook import WebhookChannel

__all__ = ["Channel", "build"]


def build(settings: Settings) -> dict[str, Channel]:
    """Every channel by name; one that is not set up is there too, and refuses with words that say what to set.

    Raises Misconfigured when a setting names what cannot be used.
    """
    channels: list[Channel] = [
        LogChannel(),
        WebhookChannel(settings.delivery_timeout_s),
        EmailChannel(settings)
        if settings.smtp_host is not None
        else AbsentChannel("email", "set QORGAN_SMTP_HOST, then restart the notifier"),
        FcmChannel(settings)
        if settings.fcm_credentials_file is not None
        else AbsentChannel("fcm", "set QORGAN_FCM_CREDENTIALS_FILE, then restart the notifier"),
        AbsentChannel("sms", "choose another channel"),
        AbsentChannel("webpush", "choose another channel"),
    ]
    return {channel.name: channel for channel in channels}
