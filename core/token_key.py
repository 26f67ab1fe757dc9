"""The key that signs access tokens: from the settings, else made once and kept in the data directory."""

from __future__ import annotations

import hmac
import secrets
from pathlib import Path
from typing import Final

from core.errors import Misconfigured
from core.files import write_whole
from core.settings import Settings

KEY_BYTES: Final = 32
FILE_NAME: Final = "token.key"


def load_token_key(settings: Settings) -> bytes:
    """The signing key, at least 32 bytes; every process of one installation gets the same.

    Raises Misconfigured when the given key is too short or the data directory cannot be written.
    """
    if settings.token_key is not None:
        key = settings.token_key.get_secret_value().encode()
        if len(key) < KEY_BYTES:
            raise Misconfigured(f"QORGAN_TOKEN_KEY is shorter than {KEY_BYTES} bytes; give it a longer random value.")
        return key
    path = settings.data_dir / FILE_NAME
    try:
        return _read_or_make(path)
    except OSError as error:
        raise Misconfigured(f"The token key {path} cannot be read or made: {error.strerror}.") from error


def derived_key(settings: Settings, purpose: str) -> bytes:
    """A key of its own for one purpose, that tells nothing of the signing key. Raises as `load_token_key` does."""
    return hmac.digest(load_token_key(settings), b"qorgan:" + purpose.encode(), "sha256")


def _read_or_make(path: Path) -> bytes:
    if not path.exists():
        write_whole(path, secrets.token_bytes(KEY_BYTES), 0o600)
    key = path.read_bytes()
    if len(key) < KEY_BYTES:
        raise Misconfigured(f"The token key {path} is damaged; remove it to have a new one made (users sign in again).")
    return key
