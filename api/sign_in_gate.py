"""Slows guessing down without locking anybody out.

Model: an attempt takes a place in every bucket that concerns it; a full bucket refuses it with a time to wait, and who
signs in gives the places back, so only failures count. Nothing here is ever remembered of a user for longer than its
window: there is no account lock, and so none that an attacker could turn against a dispatcher.

- A browser in which the user has signed in before (it bears a signed cookie) has a bucket of its own and no other. A
  thousand machines guessing at her name do not fill it.
- Everybody else has three: address and name, address, and name from anywhere. The last is what leaves a distributed
  attack nowhere to go; it is also the only one that slows the right user at a browser new to her, and she has
  her passkey, her agency's own sign-in or an administrator's code then.

Failure: with Redis away each process counts in memory.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import ipaddress
import math
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from api.bounds import AttemptLimiter
from core.clock import Clock, to_ms
from core.errors import StoreUnavailable, TooMany
from core.redis import attempts
from core.redis.client import Client
from core.settings import Settings

ANSWER_S: Final = 0.5
"""How long Redis may take to say whether an attempt may pass."""
MINUTE_S: Final = 60.0
CODE_WINDOW_S: Final = 300.0
CODE_TRIES: Final = 5
"""Wrong one-time codes a window: 1,440 a day against a million codes, each also telling the user."""
KNOWN_LIFE: Final = timedelta(days=180)
KNOWN_BYTES: Final = 16 + 8 + 8
MAC_BYTES: Final = 32
DIGEST_BYTES: Final = 16
IPV6_SITE_BITS: Final = 64


@dataclass(frozen=True, slots=True)
class Bucket:
    """What attempts are counted together."""

    kind: str
    parts: tuple[str, ...]
    limit: int
    window_s: float = MINUTE_S


@dataclass(frozen=True, slots=True)
class Place:
    """An attempt's place in its buckets, to be given back when it succeeds."""

    buckets: tuple[Bucket, ...]
    mark: str
    shared: bool


class BucketFull(TooMany):
    """Attempts of one bucket have to wait."""

    def __init__(self, kind: str, wait_s: float) -> None:
        super().__init__("Too many attempts; wait and try again.", retry_after_s=max(1, math.ceil(wait_s)))
        self.kind = kind
        """Which bucket: for us, not for the answer."""


class SignInGate:
    """Counts attempts to sign in, in Redis and in memory while that is away."""

    def __init__(self, settings: Settings, client: Client, key: bytes, clock: Clock) -> None:
        self._settings = settings
        self._client = client
        self._key = key
        self._clock = clock
        self._own: dict[tuple[int, float], AttemptLimiter] = {}

    def password_buckets(self, address: str, username: str, known: str | None) -> list[Bucket]:
        """Where a try at a password counts; `known`: the mark of a browser this user has signed in with."""
        settings = self._settings
        if known is not None:
            return [Bucket("known", (known,), settings.login_attempts_per_minute)]
        site, name = site_of(address), username.strip().casefold()
        return [
            Bucket("pair", (site, name), settings.login_attempts_per_minute),
            Bucket("name", (name,), settings.login_failures_per_user),
            Bucket("address", (site,), settings.login_failures_per_address),
        ]

    def code_buckets(self, user_id: uuid.UUID, known: str | None) -> list[Bucket]:
        """Where a try at a second factor counts."""
        return [Bucket("code", (str(user_id), known or ""), CODE_TRIES, CODE_WINDOW_S)]

    def address_buckets(self, address: str) -> list[Bucket]:
        """Where a try at something that no name goes with counts: a passkey, a code of an administrator."""
        return [Bucket("address", (site_of(address),), self._settings.login_failures_per_address)]

    async def enter(self, buckets: Sequence[Bucket]) -> Place:
        """Take a place in every bucket; raises BucketFull with `retry_after_s`."""
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._enter_shared(buckets)
        except (StoreUnavailable, TimeoutError):
            return self._enter_own(buckets)

    async def leave(self, place: Place) -> None:
        """Give the places back: the attempt was right."""
        for bucket in place.buckets:
            if place.shared:
                try:
                    async with asyncio.timeout(ANSWER_S):
                        await attempts.take_back(self._client, self._name(bucket), place.mark)
                except (StoreUnavailable, TimeoutError):
                    continue
            else:
                self._limiter(bucket).take_back(bucket.kind, *bucket.parts)

    async def _enter_shared(self, buckets: Sequence[Bucket]) -> Place:
        place = Place(tuple(buckets), secrets.token_hex(8), shared=True)
        now_ms = to_ms(self._clock())
        for index, bucket in enumerate(buckets):
            wait_ms = await attempts.take(
                self._client, self._name(bucket), place.mark, now_ms, round(bucket.window_s * 1000), bucket.limit
            )
            if wait_ms:
                for before in buckets[:index]:
                    await attempts.take_back(self._client, self._name(before), place.mark)
                raise BucketFull(bucket.kind, wait_ms / 1000)
        return place

    def _enter_own(self, buckets: Sequence[Bucket]) -> Place:
        for index, bucket in enumerate(buckets):
            try:
                self._limiter(bucket).check(bucket.kind, *bucket.parts)
            except TooMany as error:
                for before in buckets[:index]:
                    self._limiter(before).take_back(before.kind, *before.parts)
                wait_s = error.context["retry_after_s"]
                assert isinstance(wait_s, int)
                raise BucketFull(bucket.kind, wait_s) from None
        return Place(tuple(buckets), "", shared=False)

    def _limiter(self, bucket: Bucket) -> AttemptLimiter:
        return self._own.setdefault(
            (bucket.limit, bucket.window_s), AttemptLimiter(bucket.limit, window_s=bucket.window_s)
        )

    def _name(self, bucket: Bucket) -> str:
        text = "\x1f".join((bucket.kind, *bucket.parts)).encode(errors="replace")
        return f"attempts:{hmac.digest(self._key, text, 'sha256')[:DIGEST_BYTES].hex()}"

    # browsers that are known --------------------------------------------------------------------------------------

    def make_known(self, user_id: uuid.UUID) -> str:
        """A cookie that says this user has signed in here; it opens nothing, it only keeps others out of her way."""
        until_s = int((self._clock() + KNOWN_LIFE).timestamp())
        body = user_id.bytes + until_s.to_bytes(8) + secrets.token_bytes(8)
        return base64.urlsafe_b64encode(body + self._mac(body)).decode().rstrip("=")

    def known_mark(self, cookie: str, user_id: uuid.UUID | None) -> str | None:
        """The mark of a browser in which this user has signed in before, else None."""
        if user_id is None or not cookie or len(cookie) > 200:
            return None
        try:
            raw = base64.urlsafe_b64decode(cookie + "=" * (-len(cookie) % 4))
        except ValueError:
            return None
        body, mac = raw[:KNOWN_BYTES], raw[KNOWN_BYTES:]
        if len(raw) != KNOWN_BYTES + MAC_BYTES or not hmac.compare_digest(mac, self._mac(body)):
            return None
        if body[:16] != user_id.bytes or int.from_bytes(body[16:24]) <= _seconds(self._clock()):
            return None
        return body.hex()

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, b"known browser:" + body, "sha256")


def site_of(address: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 of an IPv6 one, which is one household or office."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, IPV6_SITE_BITS), strict=False))
    return str(found)


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())
