"""Signatures: made once, kept private, verifiable after a rotation."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import Misconfigured
from core.settings import Settings
from core.signing import KeyRing, key_id_of, load_key_ring, load_signer, new_signer, read_public_key, verify


def test_a_signature_holds_for_its_message_and_key_alone() -> None:
    signer = new_signer()
    signature = signer.sign(b"message")
    assert verify(signer.public_key_bytes, signature, b"message")
    assert not verify(signer.public_key_bytes, signature, b"massage")
    assert not verify(new_signer().public_key_bytes, signature, b"message")
    assert not verify(b"short", signature, b"message")
    assert not verify(signer.public_key_bytes, b"short", b"message")
    assert signer.key_id == key_id_of(signer.public_key_bytes)


def test_the_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    first, second = load_signer(settings), load_signer(settings)
    assert first.key_id == second.key_id
    assert (tmp_path / "signing.key").stat().st_mode & 0o777 == 0o600


def test_a_key_open_to_others_is_refused(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    load_signer(settings)
    (tmp_path / "signing.key").chmod(0o644)
    with pytest.raises(Misconfigured):
        load_signer(settings)


def test_what_an_earlier_key_signed_stays_verifiable(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    old = load_signer(settings)
    signature = old.sign(b"message")
    (tmp_path / "signing.key").unlink()
    new = load_signer(settings)
    assert new.key_id != old.key_id
    ring = load_key_ring(settings)
    assert set(ring) == {old.key_id, new.key_id}
    assert ring.verify(old.key_id, signature, b"message")
    assert not ring.verify(new.key_id, signature, b"message")
    assert not KeyRing([new.public_key_bytes]).verify(old.key_id, signature, b"message")


def test_a_given_file_must_be_there_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "mounted.pem"
    with pytest.raises(Misconfigured):
        load_signer(Settings(data_dir=tmp_path, signing_key_file=path))
    path.write_text("nothing")
    with pytest.raises(Misconfigured):
        load_signer(Settings(data_dir=tmp_path, signing_key_file=path))
    with pytest.raises(Misconfigured):
        read_public_key(path)
