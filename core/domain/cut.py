"""A cut of the audit by the rule of retention: signed, so that a removal by anybody else shows."""

from __future__ import annotations

import datetime
import json
import uuid
from dataclasses import dataclass
from typing import Any

from core.clock import rfc3339
from core.domain.chain import Check, Sign


@dataclass(frozen=True, slots=True)
class Cut:
    """Rows up to a position were removed, by a rule, as being older than a moment."""

    agency_id: uuid.UUID
    position: int
    chain_hash: bytes
    before: str
    rule: str
    at: str


def _encode(members: dict[str, Any]) -> bytes:
    return json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def make_cut(
    agency_id: uuid.UUID,
    position: int,
    chain: bytes,
    *,
    before: datetime.datetime,
    rule: str,
    at: datetime.datetime,
    key_id: str,
    sign: Sign,
) -> str:
    """The signed line that says so."""
    members = {
        "agency": str(agency_id),
        "at": rfc3339(at),
        "before": rfc3339(before),
        "chain_hash": chain.hex(),
        "key_id": key_id,
        "kind": "cut",
        "position": position,
        "rule": rule,
    }
    return _encode({**members, "signature": sign(_encode(members)).hex()}).decode()


def read_cut(line: str, check: Check) -> Cut | None:
    """What a line says; None when no trusted key signed it."""
    try:
        members = json.loads(line)
        signature = bytes.fromhex(members.pop("signature"))
        if members["kind"] != "cut" or not check(members["key_id"], signature, _encode(members)):
            return None
        return Cut(
            uuid.UUID(members["agency"]),
            int(members["position"]),
            bytes.fromhex(members["chain_hash"]),
            str(members["before"]),
            str(members["rule"]),
            str(members["at"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
