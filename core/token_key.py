"""The key that signs access tokens: from the settings, else made once and kept in the data directory."""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path
from typing import Final

from core.errors import Misconfigured
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
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        # Written whole beside it, then linked: of two processes that start at once, one key wins for both.
        draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    key = path.read_bytes()
    if len(key) < KEY_BYTES:
        raise Misconfigured(f"The token key {path} is damaged; remove it to have a new one made (users sign in again).")
    return key
