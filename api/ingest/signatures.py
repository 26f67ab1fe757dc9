"""Signed pings: that a position is the bracelet's own, and not of whoever holds its token.

A device that enrolled with a key wraps each ping: `{"signed": "<the ping's JSON text>", "signature": "<base64url>"}`.
The signature is over the very text, so every field counts and nobody has to agree on a canonical form. The text bears
the `device_id` (a captured ping proves nothing for another device) and a `seq` (the same ping counts once, whenever it
comes again). Ed25519 (RFC 8032): the public key alone is kept, so not even we could forge. HMAC-SHA256 for devices too
small for that: its key is derived from the installation's, told once at enrolment, and stored nowhere.

A device without a key may wrap its pings or not; one with a key may not send a bare one, nor ask for a new token
without signing that (`check_request`). A panic needs no signature.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import uuid
from collections.abc import Callable
from functools import lru_cache
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from api.ingest.decode import Flaw, Ping, SignedPing
from api.ingest.registry import DeviceIdentity, SigningKey
from core.domain.signing_key import ED25519, hmac_key
from core.errors import InvalidInput

Check = Callable[[DeviceIdentity, Ping], Flaw | None]
"""What is wrong with a ping's signature; None: nothing, or it needs none."""

Verifier = Callable[[uuid.UUID, SigningKey], Callable[[bytes, bytes], bool]]
"""Of a device and its key: whether a signature is one over a text."""

KEYS_REMEMBERED: Final = 50_000


@lru_cache(8)
def _verifier(master: bytes) -> Verifier:
    @lru_cache(KEYS_REMEMBERED)
    def verifier(device_id: uuid.UUID, key: SigningKey) -> Callable[[bytes, bytes], bool]:
        if key.kind == ED25519:
            public_key = Ed25519PublicKey.from_public_bytes(key.public_key)

            def by_public_key(signature: bytes, text: bytes) -> bool:
                try:
                    public_key.verify(signature, text)
                except InvalidSignature:
                    return False
                return True

            return by_public_key
        secret = hmac_key(master, device_id, key.generation)
        return lambda signature, text: hmac.compare_digest(hmac.digest(secret, text, "sha256"), signature)

    return verifier


def _bytes_of(signature: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    except (binascii.Error, ValueError):
        return b""


def check_request(
    master: bytes, device: DeviceIdentity, purpose: str, digest: bytes, signed: str | None, signature: str
) -> None:
    """Raise InvalidInput unless a device that signs has signed what it asks with the token of this digest.

    The text is a JSON object of `purpose`, `device_id` and `token_sha256` (hexadecimal), so a ping passes for no
    request, and a request for none with another token. A device without a key signs nothing.
    """
    key = device.signing
    if key is None:
        return
    if signed is None:
        raise InvalidInput("This device signs what it asks; send the request signed.", code="signature_missing")
    if not _verifier(master)(device.id, key)(_bytes_of(signature), signed.encode(errors="replace")):
        raise InvalidInput("The signature is not this device's over this text.", code="signature_invalid")
    try:
        said = msgspec.json.decode(signed, type=dict[str, object])
    except msgspec.DecodeError:
        said = {}
    wanted = {"purpose": purpose, "device_id": str(device.id), "token_sha256": digest.hex()}
    if any(said.get(name) != value for name, value in wanted.items()):
        raise InvalidInput(
            f"Sign a JSON object of purpose ({purpose}), device_id and token_sha256 of the token you ask with.",
            code="signature_invalid",
        )


@lru_cache(8)
def signature_check(master: bytes) -> Check:
    """A check of signatures, the same for the same `master`: the key that HMAC keys derive from."""
    verifier = _verifier(master)

    def check(device: DeviceIdentity, ping: Ping) -> Flaw | None:
        key = device.signing
        if key is None:
            return None
        if not isinstance(ping, SignedPing):
            return Flaw("signature_missing", "This device signs its pings; send this one signed.", ping.seq)
        if ping.seq is None or ping.device_id != str(device.id):
            return Flaw("signature_invalid", "A signed ping bears its device_id and a seq.", ping.seq)
        if not verifier(device.id, key)(_bytes_of(ping.signature), ping.signed.encode()):
            return Flaw("signature_invalid", "The signature is not this device's over this text.", ping.seq)
        return None

    return check
