"""Who may send pings, in memory: a device is authenticated and routed without asking a store.

Model: every process that faces devices holds all devices and token digests (about 600 bytes a device). It reads
everything once, then what changed: at each NOTIFY on `registry`, and each second in any case. Lookups are plain
dictionary reads.

Guarantees: a revoked token, or a device that was revoked or returned, is refused within about a second of the
commit, and whoever subscribed with `on_changed` hears of it (open sockets are closed that way).

Failure: with PostgreSQL away the registry goes on with what it knows and catches up afterwards. Started while
PostgreSQL is away, it knows whom the file of its last run knew (`api.ingest.registry_file`), says of nobody else that
they are unknown (`knows`), and loads as soon as it can.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from sys import intern
from typing import Any, Literal

import msgspec
import structlog

from api.ingest.registry_file import DeviceRow, RegistryFile, TokenRow, Writing
from api.ingest.shown import ShownTokens
from core.actions.devices import note_reuse, note_used
from core.clock import Clock
from core.errors import StoreUnavailable
from core.ids import token_digest
from core.postgres.database import Database
from core.postgres.registry import device_changes, snapshot_floor, token_changes
from core.service import Service

log = structlog.get_logger(__name__)

POLL_S = 1.0
"""Longest time between two looks for changes."""
SETTLE_S = 0.01
"""Shortest: a burst of notifications makes one look."""
KNOWN_WITHIN_S = 1.5
"""Longest a new token is waited for: a look of the poll, should the notification be lost."""
SHUT_OUT = frozenset({"revoked", "returned"})
"""Statuses of a device whose tokens no longer count."""

USES_AT_ONCE = 1_000
"""First uses written by one statement: a fleet that was updated asks for its tokens at once."""

Doubt = Literal["unknown", "revoked", "replaced", "expired"]


class SigningKey(msgspec.Struct, frozen=True, gc=False):
    """The key a device signs its pings with."""

    kind: str
    """ed25519 | hmac"""
    public_key: bytes
    """Ed25519: 32 bytes; HMAC: none, its key is derived."""
    generation: int


class DeviceIdentity(msgspec.Struct, frozen=True, gc=False):
    """A device as ingest knows it."""

    number: int
    id: uuid.UUID
    kind: str
    role: str
    """victim | aggressor | other"""
    person_id: uuid.UUID | None
    agency_id: uuid.UUID
    routes: tuple[int, ...]
    """Shards its pings go to, the primary one first; empty while nobody carries it."""
    interval_s: float
    """Expected time between its pings."""
    status: str
    signing: SigningKey | None = None
    """What its pings are to be signed with; None: nothing."""


class GatewayIdentity(msgspec.Struct, frozen=True, gc=False):
    """A gateway (a tracker server, a telecom, a load test) that sends for devices of its agency."""

    agency_id: uuid.UUID
    name: str
    digest: bytes
    """SHA-256 of its token."""


class _Credential(msgspec.Struct, frozen=True, gc=False):
    device: str | None
    """The device's id in canonical text; None: a gateway's token."""
    gateway: GatewayIdentity | None
    expires_at: datetime | None
    revoked: bool
    replaced: bool = False
    """A device's: a newer one was confirmed or used, and stands in its place once it has ended."""
    awaited: bool = False
    """A device's: earlier ones hold until this one is used or confirmed."""


class Changes(msgspec.Struct, frozen=True):
    """What a look found changed, or changed back to the same: a hint to look again, not a statement."""

    devices: frozenset[str]
    """Ids of devices, canonical text."""
    digests: frozenset[bytes]
    """Token digests."""


class Registry(Service):
    """All devices and tokens in memory, kept current."""

    name = "registry"

    def __init__(self, database: Database, clock: Clock, file: RegistryFile | None = None) -> None:
        """Without a file, a start while PostgreSQL is away knows nobody."""
        super().__init__()
        self._file = file
        self._writing = Writing()
        self._under_way: asyncio.Task[bool] | None = None
        self._database = database
        self._clock = clock
        self._first_use = ShownTokens(database, clock, "first_use", note_used, at_once=USES_AT_ONCE)
        self._reuse = ShownTokens(database, clock, "reuse", note_reuse, at_once=1)
        self._devices: dict[str, DeviceIdentity] = {}
        self._credentials: dict[bytes, _Credential] = {}
        self._digests_of: dict[str, set[bytes]] | None = None
        """Device → its tokens; made when first asked for."""
        self._shared: dict[Any, Any] = {}
        self._floor_xid = 0
        self._look = asyncio.Event()
        self._listeners: list[Callable[[Changes], None]] = []
        self.loaded = False
        """Whether everything has been read once from PostgreSQL."""

    # lookups, all from memory ---------------------------------------------------------------------------------

    def holder(self, digest: bytes) -> DeviceIdentity | GatewayIdentity | Doubt:
        """Whom the token of this digest speaks for now, or why it speaks for nobody."""
        credential = self._credentials.get(digest)
        if credential is None:
            return "unknown"
        device = self._devices.get(credential.device) if credential.device is not None else None
        if device is not None and device.status in SHUT_OUT:
            return "revoked"
        if credential.revoked:
            return "replaced" if credential.replaced else "revoked"
        if credential.expires_at is not None and credential.expires_at <= self._clock():
            return "replaced" if credential.replaced else "expired"
        return credential.gateway or device or "unknown"

    def shown(self, digest: bytes) -> DeviceIdentity | GatewayIdentity | Doubt:
        """As `holder`, for a token that somebody has just shown, and noted when it was replaced or is used for the
        first time (`api.ingest.shown`)."""
        holder = self.holder(digest)
        if holder == "replaced":
            self._reuse.note(digest)
        elif not isinstance(holder, str) and self._credentials[digest].awaited:
            self._first_use.note(digest)
        return holder

    def knows(self, digest: bytes) -> bool:
        """Whether `holder` can be believed: a token that is in no file may be a new one until PostgreSQL was read."""
        return self.loaded or digest in self._credentials

    def device_by_token(self, token: str) -> DeviceIdentity | None:
        """The device this token speaks for now; None when it does not hold (see `why_unknown`)."""
        holder = self.holder(token_digest(token))
        return holder if isinstance(holder, DeviceIdentity) else None

    def gateway_by_token(self, token: str) -> GatewayIdentity | None:
        """The gateway this token speaks for now."""
        holder = self.holder(token_digest(token))
        return holder if isinstance(holder, GatewayIdentity) else None

    def why_unknown(self, token: str) -> Doubt:
        """Why a token speaks for nobody, a replaced one as "revoked" ("unknown" also for one that does hold)."""
        holder = self.holder(token_digest(token))
        if holder == "replaced":
            return "revoked"
        return holder if isinstance(holder, str) else "unknown"

    def owner_of(self, token: str) -> DeviceIdentity | None:
        """The device a token was issued to, whether or not it still holds: a panic is taken either way."""
        credential = self._credentials.get(token_digest(token))
        return self._devices.get(credential.device) if credential is not None and credential.device else None

    def digests_of(self, device_id: uuid.UUID) -> list[bytes]:
        """Digests of every token a device was given, whether or not it still holds."""
        if self._digests_of is None:  # few processes are ever asked
            self._digests_of = {}
            for digest, credential in self._credentials.items():
                if credential.device is not None:
                    self._digests_of.setdefault(credential.device, set()).add(digest)
        return [digest for digest in self._digests_of.get(str(device_id), ()) if digest in self._credentials]

    def expires_at(self, digest: bytes) -> datetime | None:
        """When the token of this digest stops counting by itself; None: never."""
        credential = self._credentials.get(digest)
        return credential.expires_at if credential is not None else None

    def device_by_id(self, device_id: uuid.UUID) -> DeviceIdentity | None:
        """The device of this id, whatever its status."""
        return self._devices.get(str(device_id))

    def device_by_text(self, device_id: str) -> DeviceIdentity | None:
        """The same by the id's text, quick for the canonical form, also right for any other."""
        device = self._devices.get(device_id)
        if device is None:
            with contextlib.suppress(ValueError):
                device = self._devices.get(str(uuid.UUID(device_id)))
        return device

    def numbers_of(self, people: frozenset[uuid.UUID]) -> set[int]:
        """Numbers of the devices these people carry; looks at every device, so not for every ping."""
        if not people:
            return set()
        return {device.number for device in self._devices.values() if device.person_id in people}

    def on_changed(self, listener: Callable[[Changes], None]) -> Callable[[], None]:
        """Call `listener` after each look that found changes; returns what takes it off again."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def known(self, token: str, timeout_s: float = KNOWN_WITHIN_S) -> bool:
        """Wait until a token just made holds here, and so, near enough, in every process that heard the same NOTIFY.

        To be awaited before the token is told: its owner may use it at once.
        """
        digest = token_digest(token)
        heard = asyncio.Event()
        forget = self.on_changed(lambda _: heard.set())
        try:
            async with asyncio.timeout(timeout_s):
                while isinstance(self.holder(digest), str):
                    heard.clear()
                    await heard.wait()
        except TimeoutError:
            return False
        finally:
            forget()
        return True

    # keeping current ------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Read everything: from PostgreSQL, else from the file of the last run."""
        try:
            await self.refresh()
        except StoreUnavailable:
            self._read_file()
            log.warning("registry_from_file", devices=len(self._devices), reason="PostgreSQL is away")

    async def run(self) -> None:
        """Look for changes when told to, and each second."""
        listening = asyncio.create_task(self._database.listen("registry", lambda _: self._look.set(), self.stopping))
        ending = asyncio.create_task(self.stopping.wait())
        try:
            while not self.stopping.is_set():
                looking = asyncio.create_task(self._look.wait())
                await asyncio.wait({looking, ending}, timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED)
                looking.cancel()
                self._look.clear()
                try:
                    await self.refresh()
                    await self._first_use.settle()
                    await self._reuse.settle()
                except StoreUnavailable:
                    continue
                self._keep()
                await self.pause(SETTLE_S)
        finally:
            ending.cancel()
            listening.cancel()
            await asyncio.gather(ending, listening, return_exceptions=True)

    async def refresh(self) -> None:
        """Read what has changed since the last look (everything, the first time) and tell the listeners."""
        devices: set[str] = set()
        digests: set[bytes] = set()
        of_file = (set(self._devices), set(self._credentials)) if not self.loaded else (set(), set())
        async with self._database.transaction() as connection:
            floor_xid = await snapshot_floor(connection)
            # Devices first: a token of a device not yet known would speak for nobody.
            async for rows in device_changes(connection, self._floor_xid):
                changed = [device for row in rows if (device := self._take_device(row)) is not None]
                of_file[0].difference_update(str(row[1]) for row in rows)
                devices.update(changed if self.loaded else ())  # at first everything is new, and nobody asks
            async for rows in token_changes(connection, self._floor_xid):
                known = [digest for row in rows if (digest := self._take_token(row)) is not None]
                of_file[1].difference_update(row[0] for row in rows)
                digests.update(known if self.loaded else ())
        self._floor_xid = floor_xid
        if not self.loaded:
            self._forget(*of_file)
            devices, digests = devices | of_file[0], digests | of_file[1]
            self.loaded = True
            self._writing.note(time.monotonic())
            log.info("registry_loaded", devices=len(self._devices), tokens=len(self._credentials))
        if devices or digests:
            self._writing.note(time.monotonic())
            changes = Changes(frozenset(devices), frozenset(digests))
            for listener in list(self._listeners):
                listener(changes)

    # the file --------------------------------------------------------------------------------------------------

    def _read_file(self) -> None:
        found = self._file.read() if self._file is not None else None
        if found is not None:
            for device in found.devices:
                self._take_device(device)
            for token in found.tokens:
                self._take_token(token)

    def _forget(self, devices: set[str], digests: set[bytes]) -> None:
        """Let go of what the file knew and PostgreSQL does not."""
        for device in devices:
            del self._devices[device]
        for digest in digests:
            del self._credentials[digest]

    def _keep(self) -> None:
        """Have the file rewritten, when it is time."""
        now = time.monotonic()
        if self._file is not None and self._under_way is None and self._writing.is_due(now):
            self._writing.begin(now)
            self._under_way = asyncio.create_task(self._file.write(self._device_rows(), self._token_rows()))
            self._under_way.add_done_callback(self._kept)

    def _kept(self, task: asyncio.Task[bool]) -> None:
        self._under_way = None
        if task.cancelled() or not task.result():
            self._writing.note(time.monotonic())

    async def close(self) -> None:
        """Have in the file what is known; without PostgreSQL ever read, the old one stays."""
        if self._under_way is not None:
            await asyncio.wait({self._under_way})
        if self._file is not None and self.loaded and self._writing.is_behind:
            self._writing.begin(time.monotonic())
            await self._file.write(self._device_rows(), self._token_rows())

    def _device_rows(self) -> Iterator[DeviceRow]:
        for one in list(self._devices.values()):
            key = one.signing
            signing = (key.kind, key.public_key, key.generation) if key is not None else (None, None, None)
            yield (
                one.number, one.id, one.kind, one.role, one.person_id, one.agency_id, one.routes, one.interval_s,
                one.status, *signing,
            )  # fmt: skip

    def _token_rows(self) -> Iterator[TokenRow]:
        for digest, one in list(self._credentials.items()):
            gateway = one.gateway
            name, agency_id = (gateway.name, gateway.agency_id) if gateway is not None else (None, None)
            yield digest, one.device, name, agency_id, one.expires_at, one.revoked or None

    def _take_device(self, row: Any) -> str | None:
        """Remember a device; its id when that changed anything."""
        number, device_id, kind, role, person_id, agency_id, routes, interval_s, status, *signing = row
        # What many rows say alike is held once: this is most of the memory a device would take.
        share = self._shared.setdefault
        agency_id, routes = share(agency_id, agency_id), share(tuple(routes), tuple(routes))
        text, kind, role, status = intern(str(device_id)), intern(kind), intern(role), intern(status)
        key = SigningKey(signing[0], signing[1] or b"", signing[2]) if signing[0] is not None else None
        device = DeviceIdentity(number, device_id, kind, role, person_id, agency_id, routes, interval_s, status, key)
        if self._devices.get(text) == device:
            return None
        self._devices[text] = device
        return text

    def _take_token(self, row: Any) -> bytes | None:
        """Remember a token's digest; the digest when that changed anything."""
        digest, device_id, gateway_name, agency_id, expires_at, revoked_at, *marks = row
        credential = _Credential(
            intern(str(device_id)) if device_id is not None else None,
            GatewayIdentity(agency_id, gateway_name, digest) if gateway_name is not None else None,
            expires_at,
            revoked_at is not None,
            *marks,  # not in the file, as nobody could note them while PostgreSQL is away
        )
        if self._credentials.get(digest) == credential:
            return None
        self._credentials[digest] = credential
        if self._digests_of is not None and credential.device is not None:
            self._digests_of.setdefault(credential.device, set()).add(digest)
        return bytes(digest)
