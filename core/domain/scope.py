"""On whose behalf the database is asked: what row-level security goes by.

A scope is set anew in every transaction and ends with it. A transaction without one belongs to nobody: under the
role of the user-facing API it sees nothing of any agency.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scope:
    """A user of an agency, acting in her role."""

    agency_id: uuid.UUID
    user_id: uuid.UUID
    role: str
    address: str = ""
    """Where the request came from."""
    session_id: uuid.UUID | None = None
    purpose: str = ""
    """Why she looks, in a word the audit keeps."""
