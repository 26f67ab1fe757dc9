"""Bodies and answers about the audit."""

from __future__ import annotations

import uuid
from datetime import date, datetime
from typing import Any, Literal

from pydantic import Field

from api.schemas.base import Body, Moment, Name, View


class AuditView(View):
    """One thing done or seen."""

    id: uuid.UUID
    at: datetime
    actor_kind: str
    actor_id: str | None
    role: str | None = Field(description="What she acted as.")
    session_id: uuid.UUID | None = Field(description="The sign-in she did it in.")
    action: str
    purpose: str | None = Field(description="Why, when she said so (header `Qorgan-Purpose`).")
    subject_kind: str | None
    subject_id: uuid.UUID | None
    person_ids: list[uuid.UUID] = Field(description="Whose identity or position it was.")
    address: str | None
    detail: dict[str, Any]


class PublishedCheckpoint(View):
    """The hash of a signed checkpoint that closed a day."""

    day: date
    hash: str = Field(description="SHA-256 of the checkpoint's line, hexadecimal.")


class PublicKey(View):
    """A key that has signed."""

    key_id: str
    public_key: str = Field(description="Raw Ed25519 public key, hexadecimal.")


class Publication(View):
    """What anybody may copy, so that nothing can be changed unseen afterwards."""

    keys: list[PublicKey]
    items: list[PublishedCheckpoint]


class CheckpointPage(View):
    """Signed checkpoints of your agency, in order."""

    lines: list[str] = Field(description="The lines as they were signed, each with its signature.")
    next: int | None = Field(description="Give it as `after` for the next page; null: this is the last.")


class PersonReader(View):
    """One user who looked at a person."""

    user_id: uuid.UUID
    username: str | None
    display_name: str | None
    looks: int
    first_at: datetime
    last_at: datetime
    roles: list[str] | None
    actions: list[str]
    purposes: list[str]
    addresses: list[str]


class PersonReaders(View):
    """Who looked at a person in a span."""

    person_id: uuid.UUID
    since: datetime
    until: datetime
    readers: list[PersonReader]


class NewHold(Body):
    """Defer what a person is told of who looked at her data."""

    person_id: uuid.UUID
    user_id: uuid.UUID | None = Field(None, description="Whose looks; none: everybody's.")
    reason: Literal["insider_inquiry", "criminal_investigation", "court_order"]
    reference: Name = Field(description="The inquiry's or the order's number.")
    since: Moment | None = Field(None, description="Looks from then on; none: from now.")
    ends_at: Moment = Field(description="When she is told all the same; at most 90 days ahead.")

    def values(self) -> dict[str, Any]:
        """The hold's columns."""
        return self.model_dump(exclude_none=True)


class HoldView(View):
    """A hold."""

    id: uuid.UUID
    person_id: uuid.UUID
    user_id: uuid.UUID | None
    reason: str
    reference: str
    since: datetime
    placed_by: uuid.UUID
    placed_at: datetime
    ends_at: datetime
    released_by: uuid.UUID | None
    released_at: datetime | None


class OwnLook(View):
    """Somebody looked at your data."""

    id: uuid.UUID
    at: datetime
    action: str = Field(description="What was looked at or changed.")
    role: str | None
    agency: str
    purpose: str | None
    official: str | None = Field(description="Who it was, where the agency tells it.")
    contact_id: uuid.UUID | None = Field(None, description="Which of your contacts it was, by a live link.")


class OwnLooks(View):
    """Who looked at your data, newest first."""

    items: list[OwnLook]
    next: uuid.UUID | None = Field(description="Give it as `before` for the next page; null: this is the last.")


class ReaderView(View):
    """What one user looked at, beside the others of her role."""

    user_id: uuid.UUID
    role: str
    looks: int
    people: int = Field(description="Different people.")
    peer_median: float | None = Field(description="Of the others in her role; null: she is the only one.")
    outside_people: list[uuid.UUID] = Field(
        description="Opened one by one though no incident of theirs was open and she changed nothing of theirs."
    )
    reasons: list[Literal["far_more_than_peers", "outside_her_cases"]]


class LooksReport(View):
    """Who looked at how many people in a span, the unusual first."""

    since: datetime
    until: datetime
    readers: list[ReaderView]
