"""What went out by the routes last known, while PostgreSQL was away: kept until the rows say so too."""

from __future__ import annotations

import uuid

import msgspec

from core.domain.delivery import Delivery


class ToldIn(msgspec.Struct, frozen=True, kw_only=True, tag="told", tag_field="record"):
    """One delivery that a provider took; a record of the panic journal, sealed there as a panic is."""

    panic_id: uuid.UUID
    received_ms: int
    """When the panic came."""
    delivery: Delivery
    """Under the id that the row will have."""
    sent_ms: int
    provider_id: str | None = None


class Posted(msgspec.Struct, frozen=True):
    """What became of one attempt."""

    sent: bool
    provider_id: str | None = None
    again_in_s: float | None = None
    """When to try again; None: never, whoever tries."""
    counts: bool = True
    """Whether it was an attempt; False: its provider is left alone for now, as it fails everybody."""
