"""An authenticator in software: real CBOR, COSE and ES256, as a browser would send its answers."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from webauthn.helpers import encode_cbor

PRESENT, VERIFIED, BACKUP_ELIGIBLE, BACKED_UP, ATTESTED = 0x01, 0x04, 0x08, 0x10, 0x40


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Authenticator:
    """Holds passkeys of one person; may verify her or only note that she is there."""

    def __init__(self, origin: str = "http://localhost:0", *, verifies: bool = True) -> None:
        self.origin = origin
        self.verifies = verifies
        self.flags = PRESENT | (VERIFIED if verifies else 0)
        self.count = 0
        self.keys: dict[bytes, tuple[ec.EllipticCurvePrivateKey, str, bytes]] = {}

    def create(self, options: dict[str, Any]) -> dict[str, Any]:
        """What `navigator.credentials.create` answers."""
        key = ec.generate_private_key(ec.SECP256R1())
        credential_id = secrets.token_bytes(32)
        rp_id = options["rp"]["id"]
        self.keys[credential_id] = (key, rp_id, unb64(options["user"]["id"]))
        numbers = key.public_key().public_numbers()
        cose = encode_cbor({1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32), -3: numbers.y.to_bytes(32)})
        attested = bytes(16) + len(credential_id).to_bytes(2) + credential_id + cose
        data = self._data(rp_id, self.flags | ATTESTED) + attested
        response = {
            "clientDataJSON": b64(self._client_data("webauthn.create", options["challenge"])),
            "attestationObject": b64(encode_cbor({"fmt": "none", "attStmt": {}, "authData": data})),
            "transports": ["internal", "a new one"],
        }
        return self._credential(credential_id, response)

    def get(self, options: dict[str, Any], **changed: Any) -> dict[str, Any]:
        """What `navigator.credentials.get` answers; `changed`: origin, rp_id, key, type, count."""
        allowed = [unb64(one["id"]) for one in options.get("allowCredentials", [])]
        credential_id = next(one for one in self.keys if not allowed or one in allowed)
        key, rp_id, handle = self.keys[credential_id]
        self.count = changed.get("count", self.count + 1)
        data = self._data(changed.get("rp_id", rp_id), self.flags)
        client_data = self._client_data(
            changed.get("type", "webauthn.get"), options["challenge"], changed.get("origin", self.origin)
        )
        signature = changed.get("key", key).sign(data + hashlib.sha256(client_data).digest(), ec.ECDSA(SHA256()))
        response = {
            "clientDataJSON": b64(client_data),
            "authenticatorData": b64(data),
            "signature": b64(signature),
            "userHandle": b64(changed.get("handle", handle)),
        }
        return self._credential(credential_id, response)

    def _data(self, rp_id: str, flags: int) -> bytes:
        return hashlib.sha256(rp_id.encode()).digest() + bytes([flags]) + self.count.to_bytes(4)

    def _client_data(self, kind: str, challenge: str, origin: str | None = None) -> bytes:
        return json.dumps({"type": kind, "challenge": challenge, "origin": origin or self.origin}).encode()

    @staticmethod
    def _credential(credential_id: bytes, response: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": b64(credential_id),
            "rawId": b64(credential_id),
            "type": "public-key",
            "response": response,
            "clientExtensionResults": {},
            "authenticatorAttachment": "platform",
        }
