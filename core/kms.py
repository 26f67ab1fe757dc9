"""A key service over HTTP: HashiCorp Vault's Transit engine, OpenBao's, or whatever speaks the same few calls.

    POST {kms_url}/encrypt/{kms_key}   {"batch_input": [{"plaintext": base64}]}
    POST {kms_url}/decrypt/{kms_key}   {"batch_input": [{"ciphertext"}]}
    POST {kms_url}/rewrap/{kms_key}    {"batch_input": [{"ciphertext"}]}
         → {"data": {"batch_results": [{"ciphertext"} or {"plaintext": base64}]}}
    GET  {kms_url}/keys/{kms_key}      → {"data": {"latest_version": 3}}

with the token in `X-Vault-Token`; a ciphertext is `vault:v<version>:<base64>`. The key-encryption key never leaves the
service. A data key is sent together with its owner, and comes back only for that owner.

A service that does not answer is left alone for a moment, so that nobody waits for it twice; meanwhile a key that was
unwrapped within the hour goes on. It is found by its wrapped form alone, which an erased person has not any more.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

import httpx

from core.domain.sealing import HEADER_BYTES, KEY_BYTES, Owner
from core.errors import KeyUnavailable, Misconfigured
from core.key_rings import KeyLost, Wrapped
from core.settings import Settings

TIMEOUT_S: Final = 2.0
BATCH: Final = 500
"""Data keys sent at once."""
KEPT_S: Final = 30.0
"""How long an unwrapped data key is kept for the same wrapped one: an erased key is no longer there to be asked for."""
KEPT_AWAY_S: Final = 3600.0
"""How long it is kept for while the service is away."""
KEPT_MAX: Final = 10_000
AWAY_S: Final = 1.0
"""How long a service that did not answer is not asked again."""
CLIENT_ERRORS: Final = range(400, 500)
TOO_MANY: Final = 429


def _text(wrapped: Wrapped) -> str:
    """A wrapped key as the service gave it. Raises KeyLost for one that another ring wrapped."""
    try:
        return wrapped.blob.decode("ascii")
    except UnicodeDecodeError:
        raise KeyLost("a data key was wrapped by another ring than the key service") from None


class TransitRing:
    """Wraps and unwraps by asking the service."""

    def __init__(self, url: str, key_name: str, token: str, *, verify: bool | str = True) -> None:
        self._client = httpx.AsyncClient(
            base_url=url.rstrip("/") + "/", headers={"X-Vault-Token": token}, timeout=TIMEOUT_S, verify=verify
        )
        self._name = key_name
        self._kept: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()
        """Digest of owner and wrapped key → when it was unwrapped, the key."""
        self._asked_again_at = 0.0

    @classmethod
    def of(cls, settings: Settings) -> TransitRing:
        """The service that the settings name. Raises Misconfigured."""
        if settings.kms_token is None:
            raise Misconfigured("QORGAN_KMS_URL needs QORGAN_KMS_TOKEN, the token that the key service lets in.")
        assert settings.kms_url is not None
        verify = str(settings.kms_ca_file) if settings.kms_ca_file is not None else True
        return cls(settings.kms_url, settings.kms_key, settings.kms_token.get_secret_value(), verify=verify)

    async def current_id(self) -> str:
        """The key's name and latest version, such as `qorgan:v3`."""
        answer = await self._ask("GET", f"keys/{self._name}", None)
        try:
            return f"{self._name}:v{int(answer['latest_version'])}"
        except (KeyError, TypeError, ValueError):
            raise KeyUnavailable("The key service does not tell its key's version.") from None

    async def wrap(self, keys: Sequence[tuple[Owner, bytes]]) -> list[Wrapped]:
        texts = await self._batch(
            "encrypt", "plaintext", [base64.b64encode(owner.header + key).decode() for owner, key in keys], "ciphertext"
        )
        return [self._wrapped(text) for text in texts]

    async def unwrap(self, keys: Sequence[tuple[Owner, Wrapped]]) -> list[bytes]:
        now = time.monotonic()
        digests = [hashlib.sha256(owner.header + wrapped.blob).digest() for owner, wrapped in keys]
        missing = [n for n, digest in enumerate(digests) if not self._at_hand(digest, now - KEPT_S)]
        try:
            texts = await self._batch("decrypt", "ciphertext", [_text(keys[n][1]) for n in missing], "plaintext")
        except KeyUnavailable:
            if not all(self._at_hand(digest, now - KEPT_AWAY_S) for digest in digests):
                raise
            return [self._kept[digest][1] for digest in digests]
        found = {digests[n]: self._own(keys[n][0], text) for n, text in zip(missing, texts, strict=True)}
        opened = [found.get(digest) or self._kept[digest][1] for digest in digests]
        for digest, key in found.items():
            self._kept[digest] = (now, key)
            self._kept.move_to_end(digest)
        while self._kept and (len(self._kept) > KEPT_MAX or next(iter(self._kept.values()))[0] < now - KEPT_AWAY_S):
            self._kept.popitem(last=False)
        return opened

    def _at_hand(self, digest: bytes, since: float) -> bool:
        """Whether a key was unwrapped after a moment of the monotonic clock."""
        kept = self._kept.get(digest)
        return kept is not None and kept[0] >= since

    async def rewrap(self, keys: Sequence[tuple[Owner, Wrapped]]) -> list[Wrapped]:
        texts = await self._batch("rewrap", "ciphertext", [_text(wrapped) for _, wrapped in keys], "ciphertext")
        return [self._wrapped(text) for text in texts]

    async def aclose(self) -> None:
        """Close connections and forget every key."""
        self._kept.clear()
        await self._client.aclose()

    def _wrapped(self, ciphertext: str) -> Wrapped:
        version = ciphertext.split(":")[1] if ciphertext.count(":") >= 2 else "v0"
        return Wrapped(f"{self._name}:{version}", ciphertext.encode())

    @staticmethod
    def _own(owner: Owner, plaintext: str) -> bytes:
        try:
            both = base64.b64decode(plaintext, validate=True)
        except (binascii.Error, ValueError):
            both = b""
        if both[:HEADER_BYTES] != owner.header or len(both) != HEADER_BYTES + KEY_BYTES:
            raise KeyLost("a data key belongs to another owner")
        return both[HEADER_BYTES:]

    async def _batch(self, verb: str, given: str, values: list[str], wanted: str) -> list[str]:
        results: list[str] = []
        for start in range(0, len(values), BATCH):
            part = values[start : start + BATCH]
            data = await self._ask("POST", f"{verb}/{self._name}", {"batch_input": [{given: value} for value in part]})
            answers = data.get("batch_results")
            if not isinstance(answers, list) or len(answers) != len(part):
                raise KeyUnavailable("The key service answered something else than was asked.")
            for answer in answers:
                if not isinstance(answer, dict) or not isinstance(answer.get(wanted), str):
                    raise KeyLost("the key service does not open a data key")
                results.append(answer[wanted])
        return results

    async def _ask(self, method: str, path: str, body: Any) -> dict[str, Any]:
        """The `data` of the answer. Raises KeyLost (the service refuses the key), KeyUnavailable."""
        if time.monotonic() < self._asked_again_at:
            raise KeyUnavailable("The key service did not answer just now; try again shortly.")
        try:
            response = await self._client.request(method, path, json=body)
            answer = response.json() if response.content else {}
        except (httpx.HTTPError, ValueError) as error:
            self._asked_again_at = time.monotonic() + AWAY_S
            raise KeyUnavailable("The key service does not answer; try again shortly.") from error
        if response.status_code == 400:
            # One bad entry of a batch makes the whole answer 400, with every entry's own result in it.
            data = answer.get("data")
            if isinstance(data, dict) and "batch_results" in data:
                return data
            raise KeyLost("the key service refuses what was sent")
        if not response.is_success:
            raise KeyUnavailable(f"The key service answers {response.status_code}; look at its token and policy.")
        data = answer.get("data") if isinstance(answer, dict) else None
        return data if isinstance(data, dict) else {}
