"""Ed25519 signatures: what leaves Qorgan as proof is signed, and can be checked without Qorgan.

A signing key is a file with a 32-byte private key (PEM, PKCS 8, mode 0600). A key's id is the first 16 hexadecimal
digits of the SHA-256 of its raw public key, so that anyone who holds the public key finds which signatures are its.

Rotation: put a new file in the place of the old one and keep the old *public* key. Signatures name their key's id, and
`KeyRing` verifies by any of several public keys; those of a directory `<name>.public` beside the key file are
read too, so that what an earlier key signed stays verifiable. Every key that has ever signed is kept there by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from core.errors import Misconfigured
from core.files import write_whole
from core.settings import Settings

FILE_NAME: Final = "signing.key"
KEY_ID_CHARS: Final = 16
MAX_KEY_FILE_BYTES: Final = 16_384
MAX_PUBLIC_KEYS: Final = 1000


def key_id_of(public_key_bytes: bytes) -> str:
    """The id of a raw public key (32 bytes): 16 hexadecimal digits."""
    return hashlib.sha256(public_key_bytes).hexdigest()[:KEY_ID_CHARS]


class Signer:
    """Signs with one private key."""

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        self._private_key = private_key
        public_key = private_key.public_key()
        self.public_key_bytes: Final = public_key.public_bytes_raw()
        """The raw public key, 32 bytes."""
        self.public_key_pem: Final = public_key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ).decode()
        """The same as a text that other tools (openssl) read."""
        self.key_id: Final = key_id_of(self.public_key_bytes)

    def sign(self, message: bytes) -> bytes:
        """The signature of a message, 64 bytes (RFC 8032, deterministic)."""
        return self._private_key.sign(message)


def new_signer() -> Signer:
    """A signer with a fresh key that is kept nowhere."""
    return Signer(Ed25519PrivateKey.generate())


def verify(public_key_bytes: bytes, signature: bytes, message: bytes) -> bool:
    """Whether a message was signed by the holder of a raw public key; a malformed key or signature is False."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key_bytes).verify(signature, message)
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return False
    return True


class KeyRing:
    """The public keys that are trusted, by id."""

    def __init__(self, public_keys: Iterable[bytes]) -> None:
        self._keys = {key_id_of(key): key for key in public_keys}

    def __contains__(self, key_id: str) -> bool:
        return key_id in self._keys

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def public_key(self, key_id: str) -> bytes | None:
        """The raw public key with this id; None: it is not trusted."""
        return self._keys.get(key_id)

    def verify(self, key_id: str, signature: bytes, message: bytes) -> bool:
        """Whether the trusted key of this id signed the message."""
        key = self._keys.get(key_id)
        return key is not None and verify(key, signature, message)


def signing_key_path(settings: Settings) -> Path:
    """Where the signing key is: as set, else in the data directory."""
    return settings.signing_key_file or settings.data_dir / FILE_NAME


def load_signer(settings: Settings) -> Signer:
    """The installation's signer; its key is made (0600) in the data directory when no file is set and none is there.

    Raises Misconfigured when the file cannot be read, is damaged, or is open to other users.
    """
    path = signing_key_path(settings)
    try:
        if settings.signing_key_file is None and not path.exists():
            _make(path)
        if path.stat().st_mode & 0o077 and settings.signing_key_file is None:
            raise Misconfigured(f"The signing key {path} can be read by other users; chmod 600 it.")
        signer = Signer(_private_key(path))
        _keep_public(path, signer)
    except OSError as error:
        raise Misconfigured(f"The signing key {path} cannot be read or made: {error.strerror}.") from error
    return signer


def load_key_ring(settings: Settings) -> KeyRing:
    """Every public key whose signatures hold: the present key's and those kept of earlier ones.

    Raises Misconfigured as `load_signer` does.
    """
    signer = load_signer(settings)
    directory = _public_directory(signing_key_path(settings))
    kept = [read_public_key(path) for path in sorted(directory.glob("*.pem"))[:MAX_PUBLIC_KEYS]]
    return KeyRing([signer.public_key_bytes, *kept])


def read_public_key(path: Path) -> bytes:
    """The raw public key of a PEM file. Raises Misconfigured when there is none in it."""
    try:
        key = serialization.load_pem_public_key(path.read_bytes()[:MAX_KEY_FILE_BYTES])
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise Misconfigured(f"{path} holds no public key in PEM.") from error
    if not isinstance(key, Ed25519PublicKey):
        raise Misconfigured(f"{path} holds a public key that is not Ed25519.")
    return key.public_bytes_raw()


def _private_key(path: Path) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes()[:MAX_KEY_FILE_BYTES], password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Misconfigured(
            f"The signing key {path} is damaged or not a PEM; put the right one in its place."
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise Misconfigured(f"The signing key {path} is not an Ed25519 key.")
    return key


def _make(path: Path) -> None:
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_whole(path, pem, 0o600)


def _public_directory(path: Path) -> Path:
    return path.with_name(f"{path.name}.public")


def _keep_public(path: Path, signer: Signer) -> None:
    """Keep the public key for the day the private one is replaced; where nothing can be written, not."""
    directory = _public_directory(path)
    kept = directory / f"{signer.key_id}.pem"
    if kept.exists():
        return
    try:
        write_whole(kept, signer.public_key_pem.encode(), 0o644)
    except OSError:
        return  # a mounted secret: whoever rotates it keeps the public key, as docs/audit.md says
