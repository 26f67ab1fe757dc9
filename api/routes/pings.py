"""`POST /v1/pings`: a batch of pings over HTTP, answered once every one is durable or has its error.

The body is read by msgspec, as the device stream's frames are: unknown fields are ignored, a bad ping is rejected
by its index and the rest is taken.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from api.deps import ApiContext, Context
from api.ingest.appender import RETRY_AFTER_S, Appender
from api.ingest.asked import interval_text
from api.ingest.decode import DAY_MS, Bounds, Flaw, Ping, Unreadable, at_ms, decode_upload, flaw_of
from api.ingest.owner import NOBODYS, owner_through
from api.ingest.rates import Key, RecentPings
from api.ingest.records import newest_of_each, sightings_of
from api.ingest.registry import DeviceIdentity, GatewayIdentity, Registry
from api.ingest.relay import AGGRESSOR, least_s
from api.ingest.signatures import signature_check
from api.ingest.stream import DOUBTS
from api.who_may import SENDERS
from core.clock import from_ms, rfc3339
from core.errors import InvalidInput, NotAuthenticated, StoreUnavailable, TooLarge, TooMany
from core.ids import token_digest
from core.metrics import PINGS_REFUSED

router = APIRouter(tags=["pings"])

DURABLE_WITHIN_S: Final = 5.0
"""Longest a call waits for its pings to be on disk."""

PING_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["at"],
    "description": "Without lat and lon: a heartbeat. Unknown fields are ignored.",
    "properties": {
        "at": {"type": "string", "format": "date-time", "description": "When the device was there, with a time zone."},
        "lat": {"type": "number", "minimum": -90, "maximum": 90, "description": "Degrees, WGS84."},
        "lon": {"type": "number", "minimum": -180, "maximum": 180, "description": "Degrees, WGS84."},
        "seq": {"type": "integer", "minimum": 0, "description": "The device's own number of this ping; rising."},
        "device_id": {"type": "string", "format": "uuid", "description": "Gateways: whose ping it is."},
        "accuracy_m": {"type": "number", "description": "68 % horizontal radius."},
        "speed_mps": {"type": "number"},
        "heading_deg": {"type": "number"},
        "altitude_m": {"type": "number"},
        "battery_pct": {"type": "number"},
        "source": {"type": "string", "description": "gps, wifi or cell."},
        "strap": {"type": "string", "enum": ["closed", "open"]},
        "casing": {"type": "string", "enum": ["closed", "open"]},
        "charging": {"type": "boolean"},
        "moving": {"type": "boolean"},
        "jamming": {"type": "boolean"},
        "mock": {"type": "boolean"},
        "heard": {
            "type": "array",
            "maxItems": 64,
            "items": {
                "type": "object",
                "required": ["beacon"],
                "properties": {
                    "beacon": {"type": "string", "description": "Device id of the bracelet heard."},
                    "rssi_dbm": {"type": "number"},
                },
            },
        },
    },
}
PROBLEM: Final[dict[str, Any]] = {
    "content": {"application/problem+json": {"schema": {"type": "object"}}},
}
OPENAPI: Final[dict[str, Any]] = {
    "security": [{"device": []}],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["pings"],
                    "properties": {"pings": {"type": "array", "items": PING_SCHEMA}},
                }
            }
        },
    },
    "responses": {
        "202": {
            "description": "Every ping is durable, a repeat, or rejected by its index.",
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["accepted", "duplicates", "rejected", "interval_s", "commands"],
                        "properties": {
                            "accepted": {"type": "integer"},
                            "duplicates": {"type": "integer"},
                            "rejected": {
                                "type": "array",
                                "items": {
                                    "type": "object",
                                    "required": ["index", "code"],
                                    "properties": {"index": {"type": "integer"}, "code": {"type": "string"}},
                                },
                            },
                            "interval_s": {"type": "number", "description": "Seconds until the next ping is wanted."},
                            "devices": {
                                "type": "object",
                                "additionalProperties": {"type": "number"},
                                "description": "Gateways: the same by device id, where it is not what is expected.",
                            },
                            "commands": {"type": "array", "items": {"type": "object"}},
                        },
                    }
                }
            },
        },
        "400": {"description": "No JSON, or not of the right form.", **PROBLEM},
        "401": {"description": "No token, or none that holds.", **PROBLEM},
        "413": {"description": "Too many pings, or too large a body.", **PROBLEM},
        "503": {"description": "Pings are not taken now: keep them; see Retry-After.", **PROBLEM},
    },
}


class Rejected(msgspec.Struct):
    """A ping that was not taken."""

    index: int
    code: str
    detail: str


class Answer(msgspec.Struct):
    """What became of a batch."""

    accepted: int
    duplicates: int
    rejected: list[Rejected]
    interval_s: msgspec.Raw
    commands: list[dict[str, Any]]


class GatewayAnswer(Answer):
    """The same to a gateway: `interval_s` is the least of its devices'."""

    devices: dict[str, float]
    """Device id → seconds until its next ping is wanted, of those asked for otherwise than is expected of them."""


def sender_of(request: Request, registry: Registry) -> DeviceIdentity | GatewayIdentity:
    """Whose token the request bears; raises NotAuthenticated."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise NotAuthenticated("Send the device's token: Authorization: Bearer <token>.", code="credentials_missing")
    digest = token_digest(token.strip())
    if not registry.knows(digest):
        raise StoreUnavailable("The devices are not known yet; send again shortly.")
    holder = registry.shown(digest)
    if isinstance(holder, str):
        code, detail = DOUBTS[holder]
        raise NotAuthenticated(detail, code=code)
    return holder


class Batch:
    """One call's pings, judged one by one."""

    def __init__(self, context: ApiContext, sender: DeviceIdentity | GatewayIdentity, now_ms: int) -> None:
        self._registry: Registry = context.registry
        self._sender = sender
        self._now_ms = now_ms
        settings = context.settings
        self._bounds = Bounds(settings.ping_max_age_days * DAY_MS, settings.ping_max_future_s * 1000)
        self._recent: RecentPings = context.appender.recent
        self._check_signature = signature_check(context.token_key)
        self.taken: list[tuple[DeviceIdentity, Ping]] = []
        self.keys: list[Key] = []
        self.rejected: list[Rejected] = []
        self.duplicates = 0
        self.commands: list[dict[str, Any]] = []

    def judge(self, items: list[Ping | Flaw]) -> None:
        """Sort every ping into taken, repeated or rejected."""
        seen: set[Key] = set()
        for index, item in enumerate(items):
            verdict = item if isinstance(item, Flaw) else self._owner_of(item)
            if isinstance(verdict, DeviceIdentity):
                assert isinstance(item, Ping)
                moment_ms = at_ms(item)
                flaw = flaw_of(item, moment_ms, self._now_ms, self._bounds)
                if flaw is None:
                    key = (verdict.number, moment_ms, item.seq)
                    if key in seen or key in self._recent:
                        self.duplicates += 1
                    else:
                        seen.add(key)
                        self.keys.append(key)
                        self.taken.append((verdict, item))
                    continue
                verdict = flaw
            self._reject(index, verdict)

    def _reject(self, index: int, flaw: Flaw) -> None:
        PINGS_REFUSED.labels(flaw.code).inc()
        self.rejected.append(Rejected(index, flaw.code, flaw.detail))
        if flaw.code == "time_in_future" and not self.commands:
            self.commands.append({"kind": "set_clock", "at": rfc3339(from_ms(self._now_ms))})

    def _owner_of(self, ping: Ping) -> DeviceIdentity | Flaw:
        if isinstance(self._sender, GatewayIdentity):
            owner = owner_through(self._sender, self._registry, ping)
        elif not self._sender.routes:
            owner = Flaw("device_forbidden", NOBODYS, ping.seq)
        else:
            owner = self._sender
        return owner if isinstance(owner, Flaw) else self._check_signature(owner, ping) or owner

    async def append(self, appender: Appender) -> None:
        """Append what was taken and wait until it is on disk; raises StoreUnavailable."""
        if not self.taken:
            return
        if appender.refusal is not None:
            raise appender.unavailable()
        live = newest_of_each(self.taken)
        for index, (device, ping) in enumerate(self.taken):
            sightings = sightings_of(ping, self._registry)
            appender.add(device, ping, at_ms(ping), backlog=index not in live, sightings=sightings)
        try:
            async with asyncio.timeout(DURABLE_WITHIN_S):
                await appender.durable()
        except TimeoutError:
            raise appender.unavailable() from None
        self._recent.add(self.keys)


def told_s(context: ApiContext, device: DeviceIdentity) -> float:
    """Seconds until this device's next ping is wanted."""
    return device.interval_s if context.asked is None else float(context.asked.told_s(device))


def _interval(seconds: float) -> msgspec.Raw:
    return msgspec.Raw(interval_text(seconds))


@router.post("/v1/pings", status_code=202, openapi_extra=OPENAPI | SENDERS, summary="Send pings")
async def send_pings(request: Request, context: Context) -> Response:
    """Take up to `max_pings_per_call` pings of a device, or of a gateway's devices."""
    sender = sender_of(request, context.registry)
    try:
        items = list(decode_upload(await request.body()))
    except Unreadable as error:
        raise InvalidInput(error.detail, code=error.code) from None
    if len(items) > context.settings.max_pings_per_call:
        raise TooLarge(
            f"A call may have {context.settings.max_pings_per_call} pings; send fewer.", code="too_many_pings"
        )
    if isinstance(sender, DeviceIdentity) and not context.appender.rates.take(sender.number, len(items)):
        PINGS_REFUSED.labels("rate_limited").inc(len(items))
        raise TooMany("Too many pings; keep them and send slower.", retry_after_s=RETRY_AFTER_S)
    batch = Batch(context, sender, context.appender.now_ms())
    batch.judge(items)
    await batch.append(context.appender)
    counts = (len(batch.taken), batch.duplicates, batch.rejected)
    waiting = context.device_commands
    if isinstance(sender, DeviceIdentity):
        batch.commands += waiting.take(sender.number) if waiting is not None else ()
        answer = Answer(*counts, _interval(told_s(context, sender)), batch.commands)
    else:
        told = {device: told_s(context, device) for device, _ in batch.taken}
        batch.commands += [
            {**command, "device_id": str(device.id)}
            for device in (told if waiting is not None else ())
            for command in waiting.take(device.number)
        ]
        asked = {device: seconds for device, seconds in told.items() if seconds != device.interval_s}
        both = any(device.role == AGGRESSOR for device in told)
        least = least_s([seconds for device, seconds in asked.items() if not both or device.role == AGGRESSOR])
        each = {str(device.id): seconds for device, seconds in asked.items()}
        answer = GatewayAnswer(*counts, _interval(least), batch.commands, each)
    return Response(msgspec.json.encode(answer), status_code=202, media_type="application/json")
