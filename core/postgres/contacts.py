"""Contacts: whom a protected person wants told."""

from __future__ import annotations

from typing import Final

from core.postgres.sealed_table import SealedTable, named_by

CONTACTS: Final = SealedTable(
    "contact",
    "contact",
    (
        "person_id", "name", "relation", "channels", "language", "verified_at", "consented_at", "revoked_at", "may_see",
        "may_call_her", "linked_to_aggressor", "created_at", "updated_at", "last_proved_at",
    ),
    private=("name", "relation", "channels"),
    person=named_by("contact"),
    absent={"channels": [], "name": ""},
)  # fmt: skip
