"""The one form of what is encrypted here: a fresh 12-byte nonce, then ciphertext and tag of AES-256-GCM."""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from core.domain.sealing import NONCE_BYTES

__all__ = ["AESGCM", "InvalidTag", "decrypt", "encrypt"]


def encrypt(cipher: AESGCM, plain: bytes, bound_to: bytes) -> bytes:
    """`plain`, which opens only with the same key and the same `bound_to`."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, plain, bound_to)


def decrypt(cipher: AESGCM, sealed: bytes, bound_to: bytes) -> bytes:
    """What `encrypt` sealed. Raises InvalidTag for whatever else, too short or not."""
    try:
        return cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound_to)
    except ValueError:
        raise InvalidTag from None
