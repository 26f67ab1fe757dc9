"""Signed pings: that a position is the bracelet's own, and not of whoever holds its token.

A device that enrolled with a key wraps each ping: `{"signed": "<the ping's JSON text>", "signature": "<base64url>"}`.
The signature is over the very text, so every field counts and nobody has to agree on a canonical form. The text bears
the `device_id` (a captured ping proves nothing for another device) and a `seq` (the same ping counts once, whenever it
comes again). Ed25519 (RFC 8032): the public key alone is kept, so not even we could forge. HMAC-SHA256 for devices too
small for that: its key is derived from the installation's, told once at enrolment, and stored nowhere.

A device without a key may wrap its pings or not; one with a key may not send a bare one. A panic needs no signature.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import uuid
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from api.ingest.decode import Flaw, Ping, SignedPing
from api.ingest.registry import DeviceIdentity, SigningKey
from core.domain.signing_key import ED25519, hmac_key

Check = Callable[[DeviceIdentity, Ping], Flaw | None]
"""What is wrong with a ping's signature; None: nothing, or it needs none."""

KEYS_REMEMBERED: Final = 50_000


@lru_cache(8)
def signature_check(master: bytes) -> Check:
    """A check of signatures, the same for the same `master`: the key that HMAC keys derive from."""

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

    def check(device: DeviceIdentity, ping: Ping) -> Flaw | None:
        key = device.signing
        if key is None:
            return None
        if not isinstance(ping, SignedPing):
            return Flaw("signature_missing", "This device signs its pings; send this one signed.", ping.seq)
        if ping.seq is None or ping.device_id != str(device.id):
            return Flaw("signature_invalid", "A signed ping bears its device_id and a seq.", ping.seq)
        try:
            signature = base64.urlsafe_b64decode(ping.signature + "=" * (-len(ping.signature) % 4))
        except (binascii.Error, ValueError):
            signature = b""
        if not verifier(device.id, key)(signature, ping.signed.encode()):
            return Flaw("signature_invalid", "The signature is not this device's over this text.", ping.seq)
        return None

    return check
