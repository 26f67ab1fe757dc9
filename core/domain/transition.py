"""A transition: what the engine decided, as it travels from the log to PostgreSQL, to a file, to a court."""

from __future__ import annotations

import uuid
from typing import Any, Final

import msgspec

from core.ids import derived_id

RULE_VERSION: Final = "2026.4"
"""Version of the rules every transition names; grows whenever a rule decides differently."""

KINDS: Final = ("proximity", "zone", "approach", "assurance", "device")


class Position(msgspec.Struct, frozen=True):
    """A live estimate as the engine saw it when it decided; dispatcher's eyes only."""

    lat: float
    lon: float
    accuracy_m: float
    at_ms: int


class Transition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change of state, its reasons, and the ids that make it unique for ever.

    `kind` and its states:
      proximity  clear | warning | breach
      zone       clear | warning | breach       (`zone_id` says which; an inclusion zone left is a breach)
      approach   none | predicted
      assurance  guaranteed | likely | unknown
      device     `detail["signal"]` is strap | casing | battery | silence | jamming | mock | jump | frozen, states
                 closed|open, ok|low|critical, reporting|late|silent, no|yes
    Unknown figures are None. Times are milliseconds since the epoch; `evaluated_ms` is on the log's clock.
    """

    id: uuid.UUID
    shard: int
    entry: str
    """Id of the log entry that caused it, `<ms>-<n>`."""
    kind: str
    from_state: str
    to_state: str
    at_ms: int
    evaluated_ms: int
    agency_id: uuid.UUID
    case_id: uuid.UUID
    order_id: uuid.UUID | None = None
    zone_id: uuid.UUID | None = None
    device_id: uuid.UUID | None = None
    victim_id: uuid.UUID | None = None
    aggressor_id: uuid.UUID | None = None
    distance_m: float | None = None
    p_within: float | None = None
    closing_mps: float | None = None
    time_to_zone_s: float | None = None
    attribution: str | None = None
    assurance: str | None = None
    victim_fix_age_s: float | None = None
    aggressor_fix_age_s: float | None = None
    victim_position: Position | None = None
    aggressor_position: Position | None = None
    retrospective: bool = False
    detail: dict[str, Any] = msgspec.field(default_factory=dict)
    """Facts behind the decision (radii, probabilities, `signal`, `uncertain`, `party`), never a name."""
    rule_version: str = msgspec.field(default_factory=lambda: RULE_VERSION)
    """By a factory, so that it is written even where it is today's: tomorrow's reader has another default."""


def transition_id(shard: int, entry: str, index: int, subject: object, kind: str) -> uuid.UUID:
    """The id of a transition: shard, log entry, index of the record in it, subject (order, zone or device id
    with the signal) and kind. The same log gives the same ids."""
    return derived_id("transition", shard, entry, index, subject, kind)


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Transition).decode
decode_many = msgspec.json.Decoder(list[Transition]).decode
