"""Text messages that come in: whether a gateway of ours says so, and what they become.

A panic goes to the panic desk, a place or a sign of life into the ping log, all else nowhere. What a message says is
believed by the phone's own signature (`core.domain.sms_report`), whoever brings it; the gateway's signature says only
that a message did come from a number.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Final

import structlog
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from api.deps import ApiContext
from api.ingest.decode import DAY_MS, Bounds, Ping, at_ms, flaw_of
from api.ingest.records import sightings_of
from api.ingest.registry import DeviceIdentity
from api.ingest.signatures import signature_check
from core.clock import from_ms, rfc3339
from core.domain.panic import PanicIn
from core.domain.sms_report import PANICS, SmsReport
from core.errors import StoreUnavailable
from core.ids import derived_id
from core.postgres.people import protected_by_phone
from core.postgres.table import Record

log = structlog.get_logger(__name__)

DURABLE_WITHIN_S: Final = 5.0
LOOK_WAIT_S: Final = 5.0
MINUTE_MS: Final = 60_000
WORDS_CHARS: Final = 40
NOT_LOOKED_UP: Final[Record] = {"device_id": None, "person_id": None, "agency_id": None}


def is_genuine(context: ApiContext, headers: Mapping[str, str], url: str, body: bytes, form: Mapping[str, str]) -> bool:
    """Whether a gateway whose secret we know posted this: Standard Webhooks, or Twilio's signature of its form."""
    settings = context.settings
    if settings.inbound_sms_secret is not None and "webhook-signature" in headers:
        try:
            Webhook(settings.inbound_sms_secret.get_secret_value()).verify(body, dict(headers))
        except (WebhookVerificationError, ValueError):
            return False
        return True
    signature = headers.get("x-twilio-signature")
    if settings.inbound_sms_twilio_token is not None and signature is not None:
        secret = settings.inbound_sms_twilio_token.get_secret_value().encode()
        signed = url + "".join(f"{name}{form[name]}" for name in sorted(form))
        digest = hmac.digest(secret, signed.encode(), hashlib.sha1)
        return hmac.compare_digest(base64.b64encode(digest), signature.encode())
    return False


class Sender:
    """Whose report it is, as far as its signature proves."""

    def __init__(self, context: ApiContext, report: SmsReport) -> None:
        registry = context.registry
        self.named: DeviceIdentity | None = (
            registry.device_by_id(report.device_id) if report.device_id is not None else None
        )
        """The device it names."""
        self.digest: bytes | None = None
        """Of the token that signed it; None: none that we know."""
        if self.named is not None:
            found = (digest for digest in registry.digests_of(self.named.id) if report.is_signed_by(digest))
            self.digest = next(found, None)
        holder = registry.holder(self.digest) if self.digest is not None else "unknown"
        self.holds = isinstance(holder, DeviceIdentity)
        """Whether that token holds."""
        self.doubts: list[str] = []
        if self.digest is None:
            self.doubts = ["no_token", "sms_signature_invalid"]
        elif not self.holds:
            # A newer token stands in its place: as from the app, her contacts are not told on its word.
            self.doubts = ["revoked_token" if holder == "replaced" else f"{holder}_token"]


def panic_of(report: SmsReport, sender: Sender, number: str, received_ms: int) -> PanicIn | None:
    """The panic a report is; None when an aggressor's device signed it.

    Signed, it is the same panic however often it comes, for its token and number; else for its whole text. A number is
    kept with it only where nothing better says who pressed.
    """
    aggressors = sender.named is not None and sender.named.role == "aggressor"
    if aggressors and sender.digest is not None:
        return None
    device = sender.named if not aggressors else None
    if sender.digest is not None and report.seq is not None:
        panic_id = derived_id("sms panic", sender.digest.hex(), report.seq)
    else:
        panic_id = derived_id("sms panic", "unproved", report.signed, report.mac.hex(), number)
    told = {
        "via": "sms",
        "seq": report.seq,
        "at": rfc3339(from_ms(report.at_ms)) if report.at_ms is not None else None,
        "lat": report.lat,
        "lon": report.lon,
        "accuracy_m": report.accuracy_m,
        "battery_pct": report.battery_pct,
        "from": number if sender.doubts else None,
    }
    return PanicIn(
        id=panic_id,
        client_id=None,
        received_ms=received_ms,
        token_digest=sender.digest.hex() if sender.digest is not None else None,
        source=hashlib.sha256(number.encode()).hexdigest()[:16],
        device_id=device.id if device is not None else None,
        person_id=device.person_id if device is not None else None,
        agency_id=device.agency_id if device is not None else None,
        doubts=sender.doubts,
        at_ms=report.at_ms,
        mode="audible" if report.kind == "audible_panic" else "silent",
        trigger="sms",
        lat=report.lat,
        lon=report.lon,
        accuracy_m=report.accuracy_m,
        body={name: value for name, value in told.items() if value is not None},
    )


def ping_of(report: SmsReport, received: datetime) -> Ping:
    """The place, or the sign of life, a report bears."""
    return Ping(
        at=from_ms(report.at_ms) if report.at_ms is not None else received,
        lat=report.lat,
        lon=report.lon,
        seq=report.seq,
        accuracy_m=report.accuracy_m,
        battery_pct=report.battery_pct,
        source="gps" if report.lat is not None else None,
    )


async def append_ping(context: ApiContext, sender: Sender, ping: Ping) -> bool:
    """Have a ping in the log, once; False when it is not taken. Raises StoreUnavailable while pings are not taken.

    A device that signs its pings with a key of its own moves by those alone.
    """
    device = sender.named
    if device is None or not sender.holds or not device.routes:
        return False
    settings, appender = context.settings, context.appender
    if signature_check(context.token_key)(device, ping) is not None:
        return False
    moment_ms = at_ms(ping)
    bounds = Bounds(settings.ping_max_age_days * DAY_MS, settings.ping_max_future_s * 1000)
    if flaw_of(ping, moment_ms, appender.now_ms(), bounds) is not None or not appender.rates.take(device.number, 1):
        return False
    key = (device.number, moment_ms, ping.seq)
    if key in appender.recent:
        return True
    if appender.refusal is not None:
        raise appender.unavailable()
    appender.add(device, ping, moment_ms, sightings=sightings_of(ping, context.registry))
    try:
        async with asyncio.timeout(DURABLE_WITHIN_S):
            await appender.durable()
    except TimeoutError:
        raise appender.unavailable() from None
    appender.recent.add([key])
    return True


async def take(context: ApiContext, report: SmsReport, number: str, received_ms: int, *, genuine: bool) -> str:
    """Take a report; what it was: panic, panic_unverified, location, check_in, refused or unsigned.

    `genuine`: a gateway of ours brought it. Without, only what a phone signed is taken. Raises StoreUnavailable.
    """
    sender = Sender(context, report)
    if not genuine and sender.digest is None:
        return "unsigned"
    ping = ping_of(report, from_ms(received_ms))
    if report.kind not in PANICS:
        return report.kind if await append_ping(context, sender, ping) else "refused"
    panic = panic_of(report, sender, number, received_ms)
    if panic is None:
        return "refused"
    await context.panic_desk.take(panic)
    if ping.lat is not None:
        try:
            await append_ping(context, sender, ping)
        except StoreUnavailable:  # the panic bears its place anyway
            log.warning("sms_place_not_in_log")
    return "panic_unverified" if panic.doubts else "panic"


async def take_call(context: ApiContext, text: str, number: str, received_ms: int) -> str:
    """Take a call for help in words: a panic of the protected person whose number it came from, unverified; any other
    number's is nothing (`other`). The same words within a minute are the same call.

    While nobody can look up whose number it is, it is the panic of somebody unknown, and StoreUnavailable is raised all
    the same: a gateway that brings it again has it be hers, and many bring nothing again.
    """
    found: Record | None = NOT_LOOKED_UP
    away: StoreUnavailable | None = None
    try:
        async with context.device_database.connection(timeout_s=LOOK_WAIT_S) as connection:
            found = await protected_by_phone(connection, number)
    except StoreUnavailable as error:
        away = error
        log.warning("sms_number_not_looked_up", error=type(error).__name__)
    if found is None:
        return "other"
    panic = PanicIn(
        id=derived_id("sms panic", "words", number, received_ms // MINUTE_MS),
        client_id=None,
        received_ms=received_ms,
        token_digest=None,
        source=hashlib.sha256(number.encode()).hexdigest()[:16],
        device_id=found["device_id"],
        person_id=found["person_id"],
        agency_id=found["agency_id"],
        doubts=["no_token", "sms_number_only"],
        mode="silent",
        trigger="sms",
        note=text[:WORDS_CHARS].replace("\x00", ""),
        body={"via": "sms", "from": number},
    )
    await context.panic_desk.take(panic)
    if away is not None:
        raise away
    return "panic_unverified"
