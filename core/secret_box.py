"""What a browser keeps for us (the state of a sign-in), and secrets of older versions: AES-256-GCM, a derived key.

The key comes by HKDF-SHA256 from the installation's token key, so a copy of the database alone opens nothing. What is
sealed is bound to its purpose and owner: it opens nowhere else. Form: one byte of version, a 12-byte nonce, ciphertext
and tag.
"""

from __future__ import annotations

import uuid
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from core.aead import AESGCM, InvalidTag, decrypt, encrypt
from core.errors import Misconfigured

VERSION: Final = b"\x01"


class SecretBox:
    """Seals and opens under one key."""

    def __init__(self, key: bytes) -> None:
        derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"qorgan:secret-box:1").derive(key)
        self._cipher = AESGCM(derived)

    def seal(self, purpose: str, owner: uuid.UUID, secret: bytes) -> bytes:
        """`secret`, readable only by `open_sealed` with the same purpose and owner."""
        return VERSION + encrypt(self._cipher, secret, _binding(purpose, owner))

    def open_sealed(self, purpose: str, owner: uuid.UUID, sealed: bytes) -> bytes:
        """What was sealed; raises Misconfigured when it was not sealed under this key, for this."""
        try:
            if sealed[:1] != VERSION:
                raise InvalidTag
            return decrypt(self._cipher, sealed[1:], _binding(purpose, owner))
        except InvalidTag:
            raise Misconfigured(
                f"A sealed {purpose} cannot be opened: was the token key replaced? Have it entered anew."
            ) from None


def _binding(purpose: str, owner: uuid.UUID) -> bytes:
    return purpose.encode() + b"\x00" + owner.bytes
