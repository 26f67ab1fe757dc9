"""The Web Push key (VAPID, RFC 8292): from the settings, else derived from a token key that is set, else made once and
kept in the data directory.

The api tells browsers its public half and the notifier signs with it, so both have to come by the same one: machines
without a common directory have a token key in common. A new key makes every subscription worthless.
"""

from __future__ import annotations

import base64
import os
import secrets
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from core.errors import Misconfigured
from core.settings import Settings
from core.token_key import derived_key

FILE_NAME: Final = "vapid.key"
RAW_BYTES: Final = 32
ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of the curve P-256 (FIPS 186-5, SP 800-186): a private key is between 1 and one less."""


def load_vapid_key(settings: Settings) -> ec.EllipticCurvePrivateKey:
    """The installation's key on P-256; every process gets the same. Raises Misconfigured."""
    if settings.vapid_private_key is not None:
        return _read(settings.vapid_private_key.get_secret_value().encode(), "QORGAN_VAPID_PRIVATE_KEY")
    if settings.token_key is not None:
        drawn = int.from_bytes(derived_key(settings, "vapid"))
        return ec.derive_private_key(drawn % (ORDER - 1) + 1, ec.SECP256R1())
    path = settings.data_dir / FILE_NAME
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Written whole beside it, then linked: of two processes that start at once, one key wins for both.
            draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(
                        ec.generate_private_key(ec.SECP256R1()).private_bytes(
                            serialization.Encoding.PEM,
                            serialization.PrivateFormat.PKCS8,
                            serialization.NoEncryption(),
                        )
                    )
                    file.flush()
                    os.fsync(file.fileno())
                os.link(draft, path)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        return _read(path.read_bytes(), str(path))
    except OSError as error:
        raise Misconfigured(f"The Web Push key {path} cannot be read or made: {error.strerror}.") from error


def public_key_text(key: ec.EllipticCurvePrivateKey) -> str:
    """The public half as browsers take it (`applicationServerKey`): an uncompressed point in base64url."""
    point = key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    return base64.urlsafe_b64encode(point).rstrip(b"=").decode()


def _read(written: bytes, where: str) -> ec.EllipticCurvePrivateKey:
    written = written.strip()
    try:
        if written.startswith(b"-----"):
            key = serialization.load_pem_private_key(written, password=None)
        else:
            raw = base64.urlsafe_b64decode(written + b"=" * (-len(written) % 4))
            if len(raw) != RAW_BYTES:
                raise ValueError
            key = ec.derive_private_key(int.from_bytes(raw), ec.SECP256R1())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Misconfigured(f"{where} holds no P-256 private key (PEM, or 32 bytes in base64url).") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise Misconfigured(f"{where} holds a key that is not on the curve P-256.")
    return key
