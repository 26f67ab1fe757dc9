#!/usr/bin/env python3
"""Checks a Qorgan evidence bundle, with nothing but Python (3.9 or newer), the bundle and the public key.

    python3 verify.py BUNDLE.zip [OTHER.zip …] --public-key KEY.pem

One line a check; exit status 0 when all hold, 1 when one does not, 2 for wrong usage. Of several bundles it is
checked too that they are editions of one and the same evidence.

What is checked, in this order:
  archive    the file is, byte for byte, the one form that its content can be written in
  key        the public key is the one that the statement names
  statement  signed by that key (Ed25519, RFC 8032); it names the root of the hash tree
  manifest   signed by the same key, and made for this statement
  files      every file has the size and SHA-256 that the manifest says, none is missing, none is too many
  tree       the files and the hashes of what this edition leaves out lead to the signed root
  audit      (the court's edition) the audit's rows about the incident lead, link by link, to signed checkpoints

The hash tree (as in RFC 6962, with salted leaves), H is SHA-256:
  leaf = H(0x00 + salt (32 bytes) + H(path) + H(content))     node = H(0x01 + left + right)
Leaves stand in the order of their paths (UTF-8 bytes); a tree of n leaves splits at the greatest power of two below n.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

FORMAT = "qorgan-evidence-1"
STATEMENT, STATEMENT_SIGNATURE = "statement.json", "statement.sig"
MANIFEST, MANIFEST_SIGNATURE = "manifest.json", "manifest.sig"
AUDIT = "court/audit.json"
HEAD = (STATEMENT, STATEMENT_SIGNATURE, MANIFEST, MANIFEST_SIGNATURE)
"""What stands first in the archive and is no leaf of the tree."""
MAX_BYTES = 1 << 31

Files = dict[str, bytes]


class Broken(Exception):  # noqa: N818 - read as a sentence
    """A check does not hold; the text says which and why."""


# The hash tree --------------------------------------------------------------------------------------------


def sha256(data: bytes) -> bytes:
    """SHA-256, 32 bytes."""
    return hashlib.sha256(data).digest()


def leaf_hash(salt: bytes, path: str, content_hash: bytes) -> bytes:
    """The leaf of a file."""
    return sha256(b"\x00" + salt + sha256(path.encode()) + content_hash)


def tree_root(leaves: list[bytes]) -> bytes:
    """The root over leaves, at least one, in order."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return sha256(b"\x01" + tree_root(leaves[:split]) + tree_root(leaves[split:]))


def canonical(value: Any) -> bytes:
    """The one JSON text of a value: sorted names, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


# The archive ----------------------------------------------------------------------------------------------

_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
_END = struct.Struct("<4sHHHHIIH")
_VERSION, _UTF8, _FIRST_DAY, _MODE = 20, 0x0800, 0x0021, 0o100644 << 16


def archive_bytes(files: Files) -> bytes:
    """A zip of the files in their order: nothing compressed, no times, no comments. The same files, the same bytes."""
    parts: list[bytes] = []
    central: list[bytes] = []
    at = 0
    for path, content in files.items():
        name, crc, size = path.encode(), zlib.crc32(content), len(content)
        local = _LOCAL.pack(b"PK\x03\x04", _VERSION, _UTF8, 0, 0, _FIRST_DAY, crc, size, size, len(name), 0)
        central.append(
            _CENTRAL.pack(
                b"PK\x01\x02", 3 << 8 | _VERSION, _VERSION, _UTF8, 0, 0, _FIRST_DAY, crc, size, size, len(name),
                0, 0, 0, 0, _MODE, at,
            )
            + name
        )  # fmt: skip
        parts += [local, name, content]
        at += len(local) + len(name) + size
    directory = b"".join(central)
    end = _END.pack(b"PK\x05\x06", 0, 0, len(files), len(files), len(directory), at, 0)
    return b"".join([*parts, directory, end])


def read_archive(data: bytes) -> Files:
    """The files of an archive, which has to be exactly what `archive_bytes` writes of them."""
    files: Files = {}
    at = 0
    try:
        while data[at : at + 4] == b"PK\x03\x04":
            fields = _LOCAL.unpack_from(data, at)
            size, name_bytes = fields[8], fields[9]
            at += _LOCAL.size
            path = data[at : at + name_bytes].decode()
            at += name_bytes
            if path in files or at + size > len(data):
                raise Broken("archive: it is damaged or cut off")
            files[path] = data[at : at + size]
            at += size
        if archive_bytes(files) != data:
            raise Broken("archive: it is not what its content would be written as; something in it was changed")
    except (struct.error, UnicodeDecodeError):
        raise Broken("archive: it is damaged or no evidence bundle") from None
    return files


# Ed25519 (RFC 8032, section 5.1; points in extended homogeneous coordinates) ----------------------------------

_P = 2**255 - 19
_Q = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, _P - 2, _P) % _P
_SQRT_MINUS_ONE = pow(2, (_P - 1) // 4, _P)

Point = tuple[int, int, int, int]


def _add(a: Point, b: Point) -> Point:
    e = (a[1] - a[0]) * (b[1] - b[0]) % _P
    f = (a[1] + a[0]) * (b[1] + b[0]) % _P
    g = 2 * a[3] * b[3] * _D % _P
    h = 2 * a[2] * b[2] % _P
    i, j, k, m = f - e, h - g, h + g, f + e
    return (i * j % _P, k * m % _P, j * k % _P, i * m % _P)


def _times(scalar: int, point: Point) -> Point:
    out: Point = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            out = _add(out, point)
        point = _add(point, point)
        scalar >>= 1
    return out


def _same(a: Point, b: Point) -> bool:
    return (a[0] * b[2] - b[0] * a[2]) % _P == 0 and (a[1] * b[2] - b[1] * a[2]) % _P == 0


def _x_of(y: int, sign: int) -> int | None:
    if y >= _P:
        return None
    square = (y * y - 1) * pow(_D * y * y + 1, _P - 2, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * _SQRT_MINUS_ONE % _P
    if (x * x - square) % _P or (x == 0 and sign):
        return None
    return _P - x if x & 1 != sign else x


def _point(encoded: bytes) -> Point | None:
    y = int.from_bytes(encoded, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    x = _x_of(y, sign)
    return None if x is None else (x, y, 1, x * y % _P)


_BASE_Y = 4 * pow(5, _P - 2, _P) % _P


def ed25519_holds(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the signature (64 bytes) of the message was made with the private key of this public key (32 bytes)."""
    if len(public_key) != 32 or len(signature) != 64:
        return False
    a, r = _point(public_key), _point(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= _Q:
        return False
    base_x = _x_of(_BASE_Y, 0)
    assert base_x is not None
    base: Point = (base_x, _BASE_Y, 1, base_x * _BASE_Y % _P)
    h = int.from_bytes(hashlib.sha512(signature[:32] + public_key + message).digest(), "little") % _Q
    return _same(_times(s, base), _add(r, _times(h, a)))


_SPKI = bytes.fromhex("302a300506032b6570032100")


def read_public_key(text: bytes) -> bytes:
    """The raw public key (32 bytes) of a PEM file, or of 64 hexadecimal digits."""
    try:
        if text.lstrip().startswith(b"-----BEGIN PUBLIC KEY-----"):
            body = text.split(b"-----")[2]
            der = base64.b64decode(b"".join(body.split()), validate=True)
            if len(der) == 44 and der.startswith(_SPKI):
                return der[len(_SPKI) :]
        elif len(raw := bytes.fromhex(text.decode().strip())) == 32:
            return raw
    except (ValueError, IndexError):
        pass
    raise Broken("key: the file holds no Ed25519 public key (PEM, or 64 hexadecimal digits)")


# The checks -----------------------------------------------------------------------------------------------


class Checked:
    """What a bundle turned out to be."""

    def __init__(self, files: Files, statement: dict[str, Any], manifest: dict[str, Any], lines: list[str]) -> None:
        self.files, self.statement, self.manifest, self.lines = files, statement, manifest, lines


def check(data: bytes, public_key: bytes) -> Checked:
    """Check a bundle; raises Broken at the first check that does not hold."""
    if len(data) > MAX_BYTES:
        raise Broken("archive: it is larger than any evidence bundle")
    files = read_archive(data)
    if tuple(files)[: len(HEAD)] != HEAD:
        raise Broken("archive: it is no evidence bundle (statement or manifest is missing)")
    lines = [f"archive: {len(files)} files, byte for byte as written"]
    signed = files[STATEMENT]
    if not ed25519_holds(public_key, files[STATEMENT_SIGNATURE], signed):
        raise Broken("statement: its signature is not by this public key, or it was changed")
    statement = _object(signed, STATEMENT)
    fingerprint = sha256(public_key).hex()
    if statement.get("public_key_sha256") != fingerprint:
        raise Broken("key: the statement names another public key")
    lines.append(f"key: SHA-256 of the public key is {fingerprint}")
    lines.append(f"statement: signed; incident {statement.get('incident_id')}, made {statement.get('made_at')}")
    if not ed25519_holds(public_key, files[MANIFEST_SIGNATURE], files[MANIFEST]):
        raise Broken("manifest: its signature is not by this public key, or it was changed")
    manifest = _object(files[MANIFEST], MANIFEST)
    if manifest.get("statement_sha256") != sha256(signed).hex():
        raise Broken("manifest: it was made for another statement")
    lines.append(f"manifest: signed; edition {manifest.get('edition')}")
    leaves = _leaves(files, manifest)
    lines.append(f"files: {len(manifest['files'])} have the size and SHA-256 that the manifest says")
    order = sorted(leaves, key=lambda path: path.encode())
    root = tree_root([leaves[path] for path in order]).hex()
    if root != statement.get("root") or len(leaves) != statement.get("leaves"):
        raise Broken("tree: files and what is left out do not lead to the signed root")
    lines.append(f"tree: root {root}; {len(manifest['withheld'])} files are left out, of which only the hash is here")
    if AUDIT in files:
        lines.append(_audit(files[AUDIT], public_key))
    return Checked(files, statement, manifest, lines)


def _object(data: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        raise Broken(f"{name}: it cannot be read") from None
    if not isinstance(value, dict) or value.get("format") != FORMAT or canonical(value) != data:
        raise Broken(f"{name}: it is not of the format {FORMAT}")
    return value


def _leaves(files: Files, manifest: dict[str, Any]) -> dict[str, bytes]:
    leaves: dict[str, bytes] = {}
    try:
        for entry in manifest["files"]:
            path = str(entry["path"])
            if path not in files:
                raise Broken(f"files: {path} is missing")
            content = files[path]
            digest = sha256(content)
            if len(content) != entry["size"] or digest.hex() != entry["sha256"]:
                raise Broken(f"files: {path} is not what was signed")
            leaves[path] = leaf_hash(bytes.fromhex(entry["salt"]), path, digest)
        held = len(leaves)
        for entry in manifest["withheld"]:
            leaves[str(entry["path"])] = bytes.fromhex(entry["leaf"])
    except (KeyError, TypeError, ValueError):
        raise Broken("manifest: it cannot be read") from None
    if tuple(files) != HEAD + tuple(sorted((e["path"] for e in manifest["files"]), key=str.encode)):
        raise Broken("files: the archive holds a file that the manifest does not name, or in another order")
    if not leaves or held != len(manifest["files"]) or len(leaves) != held + len(manifest["withheld"]):
        raise Broken("manifest: it names a file twice")
    return leaves


def _audit(data: bytes, public_key: bytes) -> str:
    """Check that each row is what was hashed, and that rows lead to checkpoints: those of this key are verified too."""
    try:
        proof = json.loads(data)
        links: dict[int, str] = {}
        signed = others = 0
        for segment in proof["segments"]:
            line = json.loads(segment["checkpoint"])
            chain, position = bytes.fromhex(segment["chain_hash_before"]), int(segment["from_position"])
            for row_hash in segment["row_hashes"]:
                links[position] = row_hash
                chain, position = sha256(chain + bytes.fromhex(row_hash)), position + 1
            if chain.hex() != line["chain_hash"] or position - 1 != line["position"]:
                raise Broken("audit: its links do not lead to the checkpoint")
            signature, ours = bytes.fromhex(line.pop("signature")), line["key_id"] == sha256(public_key).hex()[:16]
            text = json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
            if ours and not ed25519_holds(public_key, signature, text):
                raise Broken("audit: a checkpoint's signature does not hold")
            signed, others = signed + ours, others + (not ours)
        proved = 0
        for row in proof["rows"]:
            if row["row_hash"] is not None and sha256(row["canonical"].encode()).hex() != row["row_hash"]:
                raise Broken("audit: a row is not what was chained")
            proved += row["position"] in links and links[row["position"]] == row["row_hash"]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Broken("audit: the proof cannot be read") from None
    told = f"audit: {proved} of {len(proof['rows'])} rows lead to {signed} checkpoints signed by this key"
    return told + (f" and {others} by earlier keys" if others else "")


def main(arguments: list[str] | None = None) -> int:
    """Check the bundles named on the command line."""
    parser = argparse.ArgumentParser(description="Checks Qorgan evidence bundles.")
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE.zip")
    parser.add_argument("--public-key", required=True, type=Path, help="PEM file, or 64 hexadecimal digits in a file")
    options = parser.parse_args(arguments)
    roots = set()
    failed = False
    try:
        public_key = read_public_key(options.public_key.read_bytes())
    except (OSError, Broken) as error:
        print(f"FAIL  {error}")
        return 1
    for path in options.bundles:
        print(f"{path}:")
        try:
            found = check(path.read_bytes(), public_key)
        except (OSError, Broken) as error:
            print(f"FAIL  {error}")
            failed = True
            continue
        for line in found.lines:
            print(f"OK    {line}")
        roots.add(found.statement["root"])
    if not failed and len(options.bundles) > 1:
        failed = len(roots) > 1
        print("FAIL  editions: they are not of one evidence" if failed else "OK    editions: one evidence, one root")
    print("NOT GENUINE, or not whole." if failed else "Genuine and whole.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
