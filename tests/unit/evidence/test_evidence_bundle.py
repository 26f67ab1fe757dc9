"""A bundle verifies alone with its public key, and no byte of it can be changed unnoticed."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from core.evidence import verify
from core.evidence.bundle import VERIFIER, Leaf, seal
from core.signing import Signer, new_signer

EVERYONE = frozenset({"court", "defence", "subject"})


def sealed(signer: Signer) -> tuple[str, dict[str, bytes]]:
    leaves = {
        "verify.py": Leaf(VERIFIER.read_bytes(), EVERYONE),
        "common/incident.json": Leaf(b'{"a":1}', frozenset({"court", "defence"}), "not about him"),
        "court/identities.json": Leaf(b'{"name":"A"}', frozenset({"court"}), "her identity"),
        "his/fixes.json": Leaf(b"[]", EVERYONE),
        "empty.txt": Leaf(b"", EVERYONE),
    }
    facts = {"incident_id": "i", "made_at": "2026-05-01T00:00:00.000Z"}
    return seal(leaves, facts, {"defence": {"notes": ["blurred"]}}, signer)


@pytest.fixture
def signer() -> Signer:
    return new_signer()


def test_every_edition_holds_and_all_share_one_root(signer: Signer) -> None:
    root, editions = sealed(signer)
    found = {name: verify.check(data, signer.public_key_bytes) for name, data in editions.items()}
    assert {one.statement["root"] for one in found.values()} == {root}
    assert "court/identities.json" in found["court"].files
    assert "court/identities.json" not in found["defence"].files
    assert [entry["path"] for entry in found["defence"].manifest["withheld"]] == ["court/identities.json"]
    assert found["court"].manifest["withheld"] == []


def test_an_archive_is_a_zip_that_any_tool_opens(signer: Signer) -> None:
    _, editions = sealed(signer)
    with zipfile.ZipFile(io.BytesIO(editions["court"])) as archive:
        assert archive.testzip() is None
        assert archive.read("court/identities.json") == b'{"name":"A"}'


def test_no_single_byte_can_be_changed(signer: Signer) -> None:
    """Each byte of all that is not the long verifier itself, and every 37th of that."""
    _, editions = sealed(signer)
    data = editions["defence"]
    start = data.index(VERIFIER.read_bytes())
    end = start + len(VERIFIER.read_bytes())
    cheap = {"archive", "key", "statement", "manifest", "files", "tree"}
    for at in [*range(start), *range(start, end, 37), *range(end, len(data))]:
        spoiled = bytearray(data)
        spoiled[at] ^= 1 << at % 8
        with pytest.raises(verify.Broken) as told:
            verify.check(bytes(spoiled), signer.public_key_bytes)
        assert str(told.value).partition(":")[0] in cheap | set(verify.HEAD)


@pytest.mark.parametrize("cut", [0, 1, 21, 22, 100])
def test_nothing_can_be_cut_off_or_added(signer: Signer, cut: int) -> None:
    _, editions = sealed(signer)
    data = editions["court"]
    with pytest.raises(verify.Broken):
        verify.check(data[:cut] if cut < 2 else data[:-cut], signer.public_key_bytes)
    with pytest.raises(verify.Broken):
        verify.check(data + b"x", signer.public_key_bytes)


def test_a_file_exchanged_with_all_sums_mended_is_found(signer: Signer) -> None:
    """Whoever rewrites the archive properly still lacks the key."""
    _, editions = sealed(signer)
    for path in verify.read_archive(editions["court"]):
        files = verify.read_archive(editions["court"])
        files[path] = files[path] + b" "
        with pytest.raises(verify.Broken):
            verify.check(verify.archive_bytes(files), signer.public_key_bytes)
        del files[path]
        with pytest.raises(verify.Broken):
            verify.check(verify.archive_bytes(files), signer.public_key_bytes)


def test_another_statement_of_the_same_key_does_not_fit(signer: Signer) -> None:
    files = verify.read_archive(sealed(signer)[1]["court"])
    others = verify.read_archive(sealed(signer)[1]["court"])
    files["statement.json"], files["statement.sig"] = others["statement.json"], others["statement.sig"]
    with pytest.raises(verify.Broken, match="another statement"):
        verify.check(verify.archive_bytes(files), signer.public_key_bytes)


def test_what_is_left_out_cannot_be_guessed_from_its_hash(signer: Signer) -> None:
    first, second = (json.loads(verify.read_archive(sealed(signer)[1]["defence"])["manifest.json"]) for _ in range(2))
    assert first["withheld"][0]["leaf"] != second["withheld"][0]["leaf"], "the same content, another salt"
    assert "salt" not in first["withheld"][0]


def test_another_key_is_refused(signer: Signer) -> None:
    with pytest.raises(verify.Broken):
        verify.check(sealed(signer)[1]["court"], new_signer().public_key_bytes)


def test_the_verifier_works_alone(signer: Signer, tmp_path: Path) -> None:
    """Taken out of the bundle, run without any of our packages in reach."""
    _, editions = sealed(signer)
    for name, data in editions.items():
        (tmp_path / f"{name}.zip").write_bytes(data)
    (tmp_path / "verify.py").write_bytes(verify.read_archive(editions["court"])["verify.py"])
    (tmp_path / "key.pem").write_text(signer.public_key_pem)

    def run(*names: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-I", "-S", "verify.py", *names, "--public-key", "key.pem"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip

    good = run("court.zip", "defence.zip", "subject.zip")
    assert good.returncode == 0, good.stdout + good.stderr
    assert "one evidence, one root" in good.stdout
    assert good.stdout.splitlines()[-1] == "Genuine and whole."
    (tmp_path / "other.zip").write_bytes(sealed(signer)[1]["defence"])
    assert run("court.zip", "other.zip").returncode == 1
    spoiled = bytearray(editions["court"])
    spoiled[len(spoiled) // 2] ^= 1
    (tmp_path / "court.zip").write_bytes(spoiled)
    bad = run("court.zip")
    assert bad.returncode == 1
    assert bad.stdout.splitlines()[1].startswith("FAIL")
    assert bad.stderr == ""


@given(st.binary(max_size=200), st.binary(min_size=32, max_size=32))
def test_its_signatures_are_those_of_the_library(message: bytes, seed: bytes) -> None:
    key = Ed25519PrivateKey.from_private_bytes(seed)
    public, signature = key.public_key().public_bytes_raw(), key.sign(message)
    assert verify.ed25519_holds(public, signature, message)
    assert not verify.ed25519_holds(public, signature, message + b"x")
    assert not verify.ed25519_holds(public, signature[:32] + bytes([signature[32] ^ 1]) + signature[33:], message)


def test_a_signature_has_one_form() -> None:
    """S + L would satisfy the equation too (RFC 8032 5.1.7 refuses it)."""
    key = new_signer()
    signature = key.sign(b"m")
    s = int.from_bytes(signature[32:], "little") + 2**252 + 27742317777372353535851937790883648493
    assert not verify.ed25519_holds(key.public_key_bytes, signature[:32] + s.to_bytes(32, "little"), b"m")


@given(st.integers(1, 40))
def test_the_tree_is_that_of_rfc_6962(count: int) -> None:
    def root(leaves: list[bytes]) -> bytes:
        if len(leaves) == 1:
            return leaves[0]
        k = max(2**power for power in range(7) if 2**power < len(leaves))
        return hashlib.sha256(b"\x01" + root(leaves[:k]) + root(leaves[k:])).digest()

    leaves = [bytes([index]) * 32 for index in range(count)]
    assert verify.tree_root(leaves) == root(leaves)
