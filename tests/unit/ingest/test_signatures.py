"""Signed pings: the very text counts, for this device, and nothing else passes for it."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from api.ingest.decode import Flaw, SignedPing, decode_upload, sift_frame
from api.ingest.registry import DeviceIdentity, SigningKey
from api.ingest.signatures import signature_check
from core.domain.signing_key import hmac_key

MASTER = b"m" * 32
DEVICE_ID = uuid.UUID(int=7)
PRIVATE_KEY = Ed25519PrivateKey.from_private_bytes(b"p" * 32)
PUBLIC_KEY = PRIVATE_KEY.public_key().public_bytes_raw()
CHECK = signature_check(MASTER)


def device(kind: str | None = "ed25519", generation: int = 1, device_id: uuid.UUID = DEVICE_ID) -> DeviceIdentity:
    key = SigningKey(kind, PUBLIC_KEY if kind == "ed25519" else b"", generation) if kind is not None else None
    return DeviceIdentity(1, device_id, "bracelet", "aggressor", None, uuid.UUID(int=1), (0,), 60.0, "active", key)


def text_of(**changes: Any) -> str:
    return json.dumps(
        {"device_id": str(DEVICE_ID), "seq": 5, "at": "2026-05-01T12:00:00Z", "lat": 43.2, "lon": 76.9} | changes
    )


def wrapped(text: str, signature: bytes) -> bytes:
    return json.dumps({"signed": text, "signature": base64.urlsafe_b64encode(signature).decode()}).encode()


def received(text: str, signature: bytes | None = None) -> SignedPing:
    signature = PRIVATE_KEY.sign(text.encode()) if signature is None else signature
    (ping,) = sift_frame(wrapped(text, signature))
    assert isinstance(ping, SignedPing)
    return ping


def code(flaw: Flaw | None) -> str | None:
    return flaw.code if flaw is not None else None


def test_a_signed_ping_is_the_ping_inside() -> None:
    ping = received(text_of(accuracy_m=12, mock=False))
    assert (ping.seq, ping.lat, ping.accuracy_m, ping.mock) == (5, 43.2, 12.0, False)
    assert CHECK(device(), ping) is None


def test_an_hmac_key_of_its_generation_holds_and_no_other() -> None:
    import hmac

    text = text_of()
    ping = received(text, hmac.digest(hmac_key(MASTER, DEVICE_ID, 3), text.encode(), "sha256"))
    assert CHECK(device("hmac", generation=3), ping) is None
    assert code(CHECK(device("hmac", generation=4), ping)) == "signature_invalid"


@given(st.integers(0, len(text_of()) - 1), st.characters(codec="ascii", exclude_characters='"\\'))
def test_no_letter_of_the_text_may_change(place: int, letter: str) -> None:
    text = text_of()
    changed = text[:place] + letter + text[place + 1 :]
    for item in sift_frame(wrapped(changed, PRIVATE_KEY.sign(text.encode()))):
        if isinstance(item, SignedPing) and changed != text:
            assert code(CHECK(device(), item)) == "signature_invalid"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (text_of(device_id=str(uuid.UUID(int=8))), "another device's"),
        (text_of(device_id=None), "nobody's"),
        (text_of(seq=None), "no number, so a repeat could not be told"),
    ],
)
def test_a_text_that_could_be_used_elsewhere_or_again_is_refused(text: str, why: str) -> None:
    assert code(CHECK(device(), received(text))) == "signature_invalid", why


@pytest.mark.parametrize("signature", [b"", b"x", b"\x00" * 64])
def test_a_signature_that_is_none_is_refused(signature: bytes) -> None:
    assert code(CHECK(device(), received(text_of(), signature))) == "signature_invalid"


def test_a_signature_that_is_no_base64_is_refused_and_harms_nobody() -> None:
    frame = json.dumps([json.loads(text_of(seq=6)), {"signed": text_of(), "signature": "ü!"}]).encode()
    bare, signed = sift_frame(frame)
    assert code(CHECK(device(), signed)) == "signature_invalid"  # type: ignore[arg-type]
    assert CHECK(device(None), bare) is None  # type: ignore[arg-type]


def test_who_has_a_key_may_not_send_bare_pings() -> None:
    (bare,) = decode_upload(b'{"pings":[%s]}' % text_of().encode())
    assert code(CHECK(device(), bare)) == "signature_missing"  # type: ignore[arg-type]
    assert CHECK(device(None), bare) is None  # type: ignore[arg-type]


def test_what_is_wrong_inside_is_told_with_its_number() -> None:
    (flaw,) = sift_frame(wrapped(text_of(lat=100), b""))
    assert isinstance(flaw, Flaw)
    assert (flaw.code, flaw.seq) == ("position_invalid", 5)


def test_a_wrapped_wrapper_goes_no_deeper_than_it_must() -> None:
    text = text_of()
    for _ in range(5):
        text = wrapped(text, b"").decode()
    (flaw,) = sift_frame(text.encode())
    assert isinstance(flaw, Flaw)
