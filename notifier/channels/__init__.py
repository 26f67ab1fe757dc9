"""Channels: the ways in which people are told. Each is a bulkhead with its own connections and its own bound."""

from __future__ import annotations

import math

from core.domain.delivery import CHANNELS
from core.errors import Misconfigured
from core.settings import Settings
from core.sms_gateways import load_gateways
from notifier.channels.absent import AbsentChannel
from notifier.channels.apprise import AppriseChannel
from notifier.channels.base import Channel
from notifier.channels.email import EmailChannel
from notifier.channels.fcm import FcmChannel
from notifier.channels.forbidden import read_networks
from notifier.channels.log import LogChannel
from notifier.channels.sms import SmsChannel
from notifier.channels.webhook import WebhookChannel
from notifier.channels.webpush import WebPushChannel

__all__ = ["Channel", "build"]


def build(settings: Settings) -> dict[str, Channel]:
    """Every channel by name; one that is not set up is there too, and refuses with words that say what to set.

    Raises Misconfigured when a setting names what cannot be used.
    """
    rates = read_rates(settings.channel_rates)
    gateways = load_gateways(settings)
    forbidden = read_networks(settings.forbidden_networks)
    channels: list[Channel] = [
        LogChannel(),
        WebhookChannel(settings.delivery_timeout_s, forbidden),
        EmailChannel(settings)
        if settings.smtp_host is not None
        else AbsentChannel("email", "set QORGAN_SMTP_HOST, then restart the notifier"),
        FcmChannel(settings)
        if settings.fcm_credentials_file is not None
        else AbsentChannel("fcm", "set QORGAN_FCM_CREDENTIALS_FILE, then restart the notifier"),
        SmsChannel(gateways, settings.delivery_timeout_s, settings.public_url)
        if gateways
        else AbsentChannel("sms", "set QORGAN_SMS_GATEWAYS_FILE, then restart the notifier"),
        WebPushChannel(settings),
        AppriseChannel(settings.delivery_timeout_s, forbidden),
        AbsentChannel("device", "choose another channel"),
    ]
    for channel in channels:
        channel.rate_per_s = rates.get(channel.name, channel.rate_per_s)
    return {channel.name: channel for channel in channels}


def read_rates(written: str) -> dict[str, float]:
    """Channel → messages a second, of `email=10,sms=0.5`. Raises Misconfigured."""
    rates: dict[str, float] = {}
    for part in (one.strip() for one in written.split(",") if one.strip()):
        name, _, figure = part.partition("=")
        try:
            rate = float(figure)
        except ValueError:
            rate = 0.0
        if name.strip() not in CHANNELS or not 0 < rate < math.inf:
            raise Misconfigured(f"QORGAN_CHANNEL_RATES: {part[:40]!r} is no channel=messages a second.")
        rates[name.strip()] = rate
    return rates
