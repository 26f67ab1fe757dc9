"""The vault: seals what names, places or describes a person, each value with the data key of whom it belongs to.

    key-encryption key (file, secret or key service)  wraps  data keys (rows)  seal  values (columns)

A data key (`Dek`) is AES-256-GCM's. Erasing its row makes everything it sealed unreadable for ever, in every backup
of the data too. Unwrapped keys are kept for `KEPT_S` seconds at most, so an erased one stops working within them.

What leaves the database's care (the panic journal, panics on their way through Redis) is sealed by a `Traveller`: a key
of this process, whose wrapped form travels beside what it sealed, so that any process with the same ring opens it, with
PostgreSQL away too.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from core.aead import AESGCM, InvalidTag, decrypt, encrypt
from core.domain.sealing import HEADER_BYTES, KEY_BYTES, NONCE_BYTES, Owner, Spot, agency
from core.errors import StoreUnavailable
from core.key_rings import KeyLost, KeyRing, LocalRing, Wrapped, load_ring
from core.settings import Settings
from core.token_key import derived_key

KEPT_S: Final = 2.0
"""Longest an unwrapped data key is kept."""
KEPT_MAX: Final = 20_000
MAX_KEY_ID: Final = 100
"""Characters of a key-encryption key's id; less than any letter's code, so that no text looks sealed."""

SPARE_ID: Final = "qorgan:spare"
"""Under which what travels is wrapped while the key service is away; no key of a ring can be called so."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Unsealable(Exception):  # noqa: N818
    """A sealed value does not open: changed, moved from another place, or sealed with another key."""


class Dek:
    """One owner's data key, unwrapped."""

    __slots__ = ("_cipher", "_key", "_search_key", "owner")

    def __init__(self, owner: Owner, key: bytes) -> None:
        self.owner = owner
        self._key = key
        self._cipher = AESGCM(key)
        self._search_key: bytes | None = None

    def seal(self, spot: Spot, value: Any) -> bytes:
        """A JSON value, sealed for one place."""
        header = self.owner.header
        return header + encrypt(self._cipher, _encode(value), spot.bound_to(header))

    def open(self, spot: Spot, sealed: bytes) -> Any:
        """The value sealed for a place. Raises Unsealable."""
        header = sealed[:HEADER_BYTES]
        try:
            plain = decrypt(self._cipher, sealed[HEADER_BYTES:], spot.bound_to(header))
        except InvalidTag:
            raise Unsealable(f"{spot.table}.{spot.column} does not open") from None
        return _decode(plain)

    def digest(self, purpose: str, text: str) -> bytes:
        """What a text is found by without being told: HMAC-SHA256 with a key derived apart from the sealing one."""
        if self._search_key is None:
            derivation = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=b"qorgan blind index")
            self._search_key = derivation.derive(self._key)
        return hmac.digest(self._search_key, f"{purpose}\x1f{text}".encode(), hashlib.sha256)


class Traveller:
    """Seals bytes that leave PostgreSQL's care; each sealed payload bears its key, wrapped.

    `length of the key's id (1) | id | length of the wrapped key (2) | wrapped key | nonce (12) | ciphertext and tag`
    """

    OWNER: Final = agency(uuid.UUID(int=0))
    """No agency: travelling keys are no row's."""
    LENGTH: Final = struct.Struct("<H")
    OPENED_MAX: Final = 64

    def __init__(self, ring: KeyRing, spare: KeyRing | None = None) -> None:
        """`spare` wraps where the ring does not answer: no panic is refused for a key service that is away."""
        self._ring = ring
        self._spare = spare
        self._prefix = b""
        self._cipher: AESGCM | None = None
        self._opened: OrderedDict[bytes, AESGCM] = OrderedDict()

    async def prepare(self) -> None:
        """Have a key to seal with; a second call does nothing. Raises StoreUnavailable when the ring is away and
        there is no spare."""
        if self._cipher is not None:
            return
        key = AESGCM.generate_key(KEY_BYTES * 8)
        wrapped = await self._wrap(key)
        key_id = wrapped.key_id.encode()
        self._prefix = bytes((len(key_id),)) + key_id + self.LENGTH.pack(len(wrapped.blob)) + wrapped.blob
        self._cipher = AESGCM(key)
        self._opened[self._prefix] = self._cipher

    async def _wrap(self, key: bytes) -> Wrapped:
        try:
            (wrapped,) = await self._ring.wrap([(self.OWNER, key)])
        except (StoreUnavailable, KeyLost):
            if self._spare is None:
                raise
            (wrapped,) = await self._spare.wrap([(self.OWNER, key)])
        return wrapped

    def seal(self, payload: bytes) -> bytes:
        """The payload sealed; `prepare` must have been awaited. Takes microseconds and no input or output."""
        assert self._cipher is not None, "Traveller.prepare was not awaited"
        return self._prefix + encrypt(self._cipher, payload, self._prefix)

    async def open(self, sealed: bytes) -> bytes:
        """The payload. Raises Unsealable; KeyLost when the ring does not have its key; StoreUnavailable."""
        prefix, wrapped = self._prefix_of(sealed)
        cipher = self._opened.get(prefix)
        if cipher is None:
            ring = self._spare if self._spare is not None and wrapped.key_id == SPARE_ID else self._ring
            (key,) = await ring.unwrap([(self.OWNER, wrapped)])
            cipher = self._opened[prefix] = AESGCM(key)
            if len(self._opened) > self.OPENED_MAX:
                self._opened.popitem(last=False)
        return self._decrypted(cipher, prefix, sealed)

    def key_of(self, sealed: bytes) -> bytes:
        """What stands for the key of a payload: the same for all that are sealed with it. Raises Unsealable."""
        return self._prefix_of(sealed)[0]

    def _prefix_of(self, sealed: bytes) -> tuple[bytes, Wrapped]:
        try:
            after_id = 1 + sealed[0]
            (length,) = self.LENGTH.unpack_from(sealed, after_id)
            end = after_id + self.LENGTH.size + length
            if sealed[0] > MAX_KEY_ID or end + NONCE_BYTES > len(sealed):
                raise ValueError
            return sealed[:end], Wrapped(sealed[1:after_id].decode("ascii"), sealed[after_id + self.LENGTH.size : end])
        except (IndexError, struct.error, ValueError):
            raise Unsealable("what travelled is nothing sealed") from None

    @staticmethod
    def _decrypted(cipher: AESGCM, prefix: bytes, sealed: bytes) -> bytes:
        try:
            return decrypt(cipher, sealed[len(prefix) :], prefix)
        except InvalidTag:
            raise Unsealable("what travelled was changed") from None


class Vault:
    """Unwraps data keys, and keeps them for a moment."""

    def __init__(
        self,
        ring: KeyRing,
        *,
        spare: KeyRing | None = None,
        kept_s: float = KEPT_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`spare` wraps what travels while the ring is away; rows are never sealed with it."""
        self.ring = ring
        self.traveller = Traveller(ring, spare)
        self._kept_s = kept_s
        self._monotonic = monotonic
        self._kept: OrderedDict[Owner, tuple[float, Dek]] = OrderedDict()

    def kept(self, owners: Collection[Owner]) -> dict[Owner, Dek]:
        """The keys that are still at hand."""
        now = self._monotonic()
        found = {}
        for owner in owners:
            entry = self._kept.get(owner)
            if entry is not None and entry[0] > now:
                found[owner] = entry[1]
        return found

    def forget(self, owner: Owner) -> None:
        """Let go of a key at once."""
        self._kept.pop(owner, None)

    async def unwrap(self, wrapped: Mapping[Owner, Wrapped]) -> dict[Owner, Dek]:
        """The data keys, kept for a moment. Raises KeyLost, StoreUnavailable."""
        owners = list(wrapped)
        keys = await self.ring.unwrap([(owner, wrapped[owner]) for owner in owners]) if owners else []
        deks = {owner: Dek(owner, key) for owner, key in zip(owners, keys, strict=True)}
        self._keep(deks)
        return deks

    async def make(self, owners: Collection[Owner]) -> dict[Owner, tuple[Wrapped, Dek]]:
        """Fresh data keys, not kept: whoever stores them says when they hold. Raises StoreUnavailable."""
        pairs = [(owner, secrets.token_bytes(KEY_BYTES)) for owner in owners]
        wrapped = await self.ring.wrap(pairs) if pairs else []
        return {owner: (blob, Dek(owner, key)) for (owner, key), blob in zip(pairs, wrapped, strict=True)}

    async def make_wrapped(self, owners: Sequence[Owner]) -> list[Wrapped]:
        """Fresh data keys for many owners, only to be stored. Raises StoreUnavailable."""
        keys = secrets.token_bytes(KEY_BYTES * len(owners))
        return await self.ring.wrap(
            [(owner, keys[n * KEY_BYTES : (n + 1) * KEY_BYTES]) for n, owner in enumerate(owners)]
        )

    def _keep(self, deks: Mapping[Owner, Dek]) -> None:
        now = self._monotonic()
        for owner, dek in deks.items():
            self._kept[owner] = (now + self._kept_s, dek)
            self._kept.move_to_end(owner)
        while self._kept:
            oldest = next(iter(self._kept))
            if len(self._kept) <= KEPT_MAX and self._kept[oldest][0] > now:
                return
            del self._kept[oldest]

    async def aclose(self) -> None:
        """Forget every key and close the ring."""
        self._kept.clear()
        await self.ring.aclose()


def load_vault(settings: Settings) -> Vault:
    """The vault of this process. Raises Misconfigured."""
    ring = load_ring(settings)
    if isinstance(ring, LocalRing):
        return Vault(ring)
    return Vault(ring, spare=LocalRing({SPARE_ID: derived_key(settings, "what travels")}))
