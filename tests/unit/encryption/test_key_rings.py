"""Key-encryption keys: read with all, wrap with the current one, each data key for its owner alone."""

from __future__ import annotations

import asyncio
import os
import uuid
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from core.domain.sealing import Owner, agency, person
from core.errors import KeyUnavailable, Misconfigured, StoreUnavailable
from core.key_rings import (
    KeyLost,
    KeyRing,
    LocalRing,
    Wrapped,
    load_ring,
    make_key_file,
    new_key_line,
    read_key_file,
    read_keys,
)
from core.kms import TransitRing
from core.settings import Settings
from core.vault import SPARE_ID, Traveller, Unsealable, Vault
from tests.key_service import TOKEN, KeyService

HER, HIM = person(uuid.uuid4()), person(uuid.uuid4())
KEYS = [(HER, bytes([1] * 32)), (HIM, bytes([2] * 32))]


def settings(tmp_path: Path, **more: Any) -> Settings:
    return Settings(data_dir=tmp_path, **more)


@pytest.fixture(params=["local", "service"])
def ring(request: pytest.FixtureRequest, key_service: KeyService) -> KeyRing:
    if request.param == "local":
        return LocalRing({"k1": os.urandom(32)})
    return TransitRing(key_service.url, key_service.name, TOKEN)


async def test_a_wrapped_key_opens_for_its_owner_alone(ring: KeyRing) -> None:
    wrapped = await ring.wrap(KEYS)
    assert await ring.unwrap([(HER, wrapped[0]), (HIM, wrapped[1])]) == [KEYS[0][1], KEYS[1][1]]
    for owner in (HIM, agency(HER.id)):
        with pytest.raises(KeyLost):
            await ring.unwrap([(owner, wrapped[0])])
    await ring.aclose()


async def test_a_changed_wrapped_key_is_lost(ring: KeyRing) -> None:
    (wrapped,) = await ring.wrap(KEYS[:1])
    changed = bytearray(wrapped.blob)
    changed[-8] ^= 1
    with pytest.raises(KeyLost):
        await ring.unwrap([(HER, Wrapped(wrapped.key_id, bytes(changed)))])
    await ring.aclose()


async def test_a_new_key_wraps_while_the_old_one_still_reads() -> None:
    old, new = os.urandom(32), os.urandom(32)
    (before,) = await LocalRing({"k1": old}).wrap(KEYS[:1])
    both = LocalRing({"k2": new, "k1": old})
    assert await both.current_id() == "k2"
    (after,) = await both.rewrap([(HER, before)])
    assert after.key_id == "k2"
    assert await LocalRing({"k2": new}).unwrap([(HER, after)]) == [KEYS[0][1]]
    with pytest.raises(KeyLost, match="k1"):
        await LocalRing({"k2": new}).unwrap([(HER, before)])


async def test_a_running_process_finds_a_key_that_was_put_into_the_file_since(tmp_path: Path) -> None:
    path = tmp_path / "vault.keys"
    ring = load_ring(settings(tmp_path))
    assert path.stat().st_mode & 0o777 == 0o600
    first = path.read_text()
    make_key_file(path, new_key_line("k2") + "\n" + first, replace=True)
    (wrapped,) = await load_ring(settings(tmp_path)).wrap(KEYS[:1])
    assert wrapped.key_id == "k2"
    assert await ring.unwrap([(HER, wrapped)]) == [KEYS[0][1]]
    assert await ring.current_id() == "k2"


def test_a_second_process_takes_the_key_file_that_the_first_made(tmp_path: Path) -> None:
    load_ring(settings(tmp_path))
    before = read_key_file(tmp_path / "vault.keys")
    load_ring(settings(tmp_path))
    assert read_key_file(tmp_path / "vault.keys") == before


def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    load_ring(settings(tmp_path))
    (tmp_path / "vault.keys").chmod(0o640)
    with pytest.raises(Misconfigured, match="0600"):
        load_ring(settings(tmp_path))


def test_a_named_key_file_that_is_missing_is_never_made_silently(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="keys new"):
        load_ring(settings(tmp_path, key_file=tmp_path / "mount" / "keys"))


def test_keys_come_from_a_secret_too(tmp_path: Path) -> None:
    text = f"{new_key_line('b')},{new_key_line('a')}"
    ring = load_ring(settings(tmp_path, keys=SecretStr(text)))
    assert isinstance(ring, LocalRing)
    assert ring.key_ids == ("b", "a")
    assert not (tmp_path / "vault.keys").exists()


TWICE = ",".join(["a:" + "A" * 43 + "="] * 2)


@pytest.mark.parametrize(
    "text", ["", "k1", "k1:AAAA", "k 1:x", TWICE], ids=["none", "no key", "short", "blank", "twice"]
)
def test_what_is_no_list_of_keys_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        read_keys(text, "QORGAN_KEYS")
    assert not text or text not in refused.value.detail


async def test_the_key_service_rewraps_and_an_old_version_may_go(key_service: KeyService) -> None:
    ring = TransitRing(key_service.url, key_service.name, TOKEN)
    before = await ring.wrap(KEYS)
    assert await ring.current_id() == "qorgan:v1"
    key_service.rotate()
    assert await ring.current_id() == "qorgan:v2"
    after = await ring.rewrap(list(zip([HER, HIM], before, strict=True)))
    assert {wrapped.key_id for wrapped in after} == {"qorgan:v2"}
    key_service.retire(1)
    assert await ring.unwrap([(HER, after[0])]) == [KEYS[0][1]]
    with pytest.raises(KeyLost):
        await ring.unwrap([(HER, before[0])])
    await ring.aclose()


async def test_the_key_service_is_asked_once_for_what_is_asked_again(key_service: KeyService) -> None:
    ring = TransitRing(key_service.url, key_service.name, TOKEN)
    wrapped = await ring.wrap(KEYS)
    asked = list(zip([HER, HIM], wrapped, strict=True))
    assert await ring.unwrap(asked[:1]) == [KEYS[0][1]]
    assert await ring.unwrap(asked) == [KEYS[0][1], KEYS[1][1]]
    assert await ring.unwrap(asked) == [KEYS[0][1], KEYS[1][1]]
    assert key_service.calls["decrypt"] == 2
    await ring.aclose()


async def test_a_key_service_that_refuses_or_is_away_is_a_store_that_is_away(key_service: KeyService) -> None:
    ring = TransitRing(key_service.url, key_service.name, TOKEN)
    key_service.refusing = True
    with pytest.raises(StoreUnavailable, match="403"):
        await ring.wrap(KEYS)
    await ring.aclose()
    away = TransitRing("http://127.0.0.1:1/v1/transit", "qorgan", TOKEN)
    with pytest.raises(StoreUnavailable):
        await away.current_id()
    await away.aclose()


async def test_while_the_key_service_is_away_keys_of_the_last_hour_go_on_and_nobody_waits_for_it_twice(
    key_service: KeyService, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = 1000.0
    monkeypatch.setattr("core.kms.time.monotonic", lambda: moment)
    ring = TransitRing(key_service.url, key_service.name, TOKEN)
    hers, his = await ring.wrap(KEYS)
    assert await ring.unwrap([(HER, hers)]) == [KEYS[0][1]]
    key_service.close()
    moment += 3000
    assert await ring.unwrap([(HER, hers)]) == [KEYS[0][1]]
    with pytest.raises(KeyUnavailable, match="just now"):
        await ring.unwrap([(HIM, his)])
    moment += 3000
    with pytest.raises(KeyUnavailable, match="does not answer"):
        await ring.unwrap([(HER, hers)])
    await ring.aclose()


async def test_what_travels_is_sealed_with_a_spare_key_while_the_key_service_is_away() -> None:
    away = TransitRing("http://127.0.0.1:1/v1/transit", "qorgan", TOKEN)
    spare = LocalRing({SPARE_ID: bytes(32)})
    sender = Traveller(away, spare)
    await sender.prepare()
    sealed = sender.seal(b"press")
    assert b"press" not in sealed
    assert await Traveller(away, LocalRing({SPARE_ID: bytes(32)})).open(sealed) == b"press"
    await away.aclose()


def test_a_key_file_that_is_being_edited_leaves_the_keys_in_memory_as_they_are(tmp_path: Path) -> None:
    ring = load_ring(settings(tmp_path))
    assert isinstance(ring, LocalRing)
    (tmp_path / "vault.keys").write_text("k2:half")
    ring._look_again()
    assert ring.key_ids == ("k1",)


def test_the_key_service_needs_its_token(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="QORGAN_KMS_TOKEN"):
        load_ring(settings(tmp_path, kms_url="http://127.0.0.1:1/v1/transit"))


async def test_what_travels_opens_in_any_process_with_the_ring(ring: KeyRing) -> None:
    sender, receiver = Traveller(ring), Traveller(ring)
    await sender.prepare()
    sealed = sender.seal("Ол есікте".encode())
    assert "есікте".encode() not in sealed
    assert await receiver.open(sealed) == "Ол есікте".encode()
    assert receiver.key_of(sealed) == sender.key_of(sender.seal(b"another")), "one key"
    for broken in (b"", sealed[:20], sealed[:-1], b"{" + sealed[1:]):
        with pytest.raises(Unsealable):
            await receiver.open(broken)
    changed = bytearray(sealed)
    changed[40] ^= 1
    with pytest.raises(KeyLost):
        await receiver.open(bytes(changed))
    await ring.aclose()


async def test_an_unwrapped_key_is_kept_for_a_moment_only_and_never_beyond_the_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moment = 0.0
    vault = Vault(LocalRing({"k1": os.urandom(32)}), monotonic=lambda: moment)
    made = await vault.make([HER, HIM])
    await vault.unwrap({owner: wrapped for owner, (wrapped, _) in made.items()})
    assert set(vault.kept([HER, HIM])) == {HER, HIM}
    vault.forget(HIM)
    assert set(vault.kept([HER, HIM])) == {HER}
    moment = 2.0
    assert vault.kept([HER]) == {}
    monkeypatch.setattr("core.vault.KEPT_MAX", 3)
    owners: list[Owner] = [person(uuid.uuid4()) for _ in range(10)]
    many = await vault.make(owners)
    await vault.unwrap({owner: wrapped for owner, (wrapped, _) in many.items()})
    assert len(vault.kept(owners)) == 3
    await asyncio.sleep(0)


async def test_a_key_that_another_ring_wrapped_is_lost_to_a_key_service(key_service: KeyService) -> None:
    ring = TransitRing(key_service.url, key_service.name, TOKEN)
    owner = person(uuid.uuid4())
    [wrapped] = await LocalRing({"k1": bytes(32)}).wrap([(owner, bytes(range(32)))])
    strange = Wrapped(wrapped.key_id, b"\xc0" + wrapped.blob)
    with pytest.raises(KeyLost):
        await ring.unwrap([(owner, strange)])
    await ring.aclose()
