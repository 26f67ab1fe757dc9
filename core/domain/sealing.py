"""What a sealed value looks like, what it is bound to, and how text is made equal before it is compared.

A sealed value is `kind (1 byte) | owner (16) | nonce (12) | ciphertext and tag`, AES-256-GCM. The header says whose
data key opens it, so that values of many owners are opened with one look at the keys; it is authenticated together
with the table, column and row that the value stands in, so that no value opens anywhere else.
"""

from __future__ import annotations

import re
import unicodedata
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

PERSON: Final = 1
AGENCY: Final = 2
HEADER_BYTES: Final = 17
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
KEY_BYTES: Final = 32

SEARCHABLE: Final = ("name", "phone", "iin")
"""Fields of an identity that are found by their exact value."""
IIN_DIGITS: Final = 12
PHONE_DIGITS: Final = (8, 15)
"""Fewest and most digits of a number with its country (E.164)."""
COUNTRY_CODE: Final = "7"
"""Of a number written without one: Kazakhstan's."""
NATIONAL_DIGITS: Final = 10


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose data key seals a value: a person's or an agency's."""

    kind: int
    """PERSON or AGENCY."""
    id: uuid.UUID

    @property
    def header(self) -> bytes:
        """The first 17 bytes of everything sealed with its key."""
        return bytes((self.kind,)) + self.id.bytes


def person(person_id: uuid.UUID) -> Owner:
    """A person as owner."""
    return Owner(PERSON, person_id)


def agency(agency_id: uuid.UUID) -> Owner:
    """An agency as owner."""
    return Owner(AGENCY, agency_id)


def owner_of(sealed: bytes) -> Owner:
    """Whose key opens a sealed value; raises ValueError for what is none."""
    if len(sealed) < HEADER_BYTES + NONCE_BYTES + TAG_BYTES or sealed[0] not in (PERSON, AGENCY):
        raise ValueError("this is no sealed value")
    return Owner(sealed[0], uuid.UUID(bytes=bytes(sealed[1:HEADER_BYTES])))


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a sealed value stands."""

    table: str
    column: str
    row: uuid.UUID

    def bound_to(self, header: bytes) -> bytes:
        """What is authenticated beside the value."""
        return b"\x1f".join((b"qorgan", self.table.encode(), self.column.encode(), self.row.bytes + header))


def normal_name(text: str) -> str | None:
    """A name as it is compared: compatible forms made one, case folded, single spaces; None for none."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()) or None


def normal_phone(text: str) -> str | None:
    """A telephone number as E.164 has it (`+77001234567`); None for what is none.

    Kazakhstan's trunk prefix 8, and a number of ten digits without any prefix, are read as its own.
    """
    digits = re.sub(r"\D", "", unicodedata.normalize("NFKC", text))
    if not text.strip().startswith("+"):
        if len(digits) == NATIONAL_DIGITS + 1 and digits.startswith("8"):
            digits = COUNTRY_CODE + digits[1:]
        elif len(digits) == NATIONAL_DIGITS:
            digits = COUNTRY_CODE + digits
        elif digits.startswith("00"):
            digits = digits[2:]
    return f"+{digits}" if PHONE_DIGITS[0] <= len(digits) <= PHONE_DIGITS[1] else None


def normal_iin(text: str) -> str | None:
    """An individual identification number: its twelve digits; None for what is none."""
    digits = re.sub(r"\D", "", unicodedata.normalize("NFKC", text))
    return digits if len(digits) == IIN_DIGITS else None


_NORMAL: Final = {"name": normal_name, "phone": normal_phone, "iin": normal_iin}


def normal_value(field: str, text: str) -> str | None:
    """A searchable field's value as it is compared; None when it is no such value."""
    return _NORMAL[field](text)


def searchable_values(identity: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(field, normal value) of everything in an identity that is found by its exact value; a list gives several."""
    for field in SEARCHABLE:
        stated = identity.get(field)
        for value in stated if isinstance(stated, list) else [stated]:
            if isinstance(value, str | int) and not isinstance(value, bool):
                normal = normal_value(field, str(value))
                if normal is not None:
                    yield field, normal
