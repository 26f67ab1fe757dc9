"""The feed's frames as text: `{"cursor","kind","at","data"}`."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from core.clock import rfc3339
from core.postgres.feed import FeedRow

GRAVE: Final = frozenset({"high", "critical"})
"""Severities of which somebody on duty hears even where the case is sealed from her."""


def event_frame(row: FeedRow) -> str:
    """An event of the feed; its data is passed on as stored."""
    return (
        f'{{"cursor":"{row.id}","kind":{msgspec.json.encode(row.kind).decode()},'
        f'"at":"{rfc3339(row.at)}","data":{row.data}}}'
    )


class _Parties(msgspec.Struct):
    victim_id: str | None = None
    aggressor_id: str | None = None


def parties_in(row: FeedRow) -> list[str]:
    """Whom an event of the feed is about."""
    if not row.kind.startswith("incident."):
        return []
    try:
        found = msgspec.json.decode(row.data, type=_Parties)
    except msgspec.DecodeError:
        return []
    return [person for person in (found.victim_id, found.aggressor_id) if person is not None]


def parties_of(incident: dict[str, Any]) -> list[str]:
    """Whom an incident is about."""
    return [str(incident[name]) for name in ("victim_id", "aggressor_id") if incident.get(name) is not None]


def sealed_frame(row: FeedRow) -> str | None:
    """What somebody who may not open a sealed case is told of an incident in it: that something grave waits there.

    None when it is not grave: then she is told nothing. That a grave one is over is told, so that no screen goes on
    calling for help.
    """
    incident = msgspec.json.decode(row.data)
    if incident.get("severity") not in GRAVE:
        return None
    shown = {name: incident.get(name) for name in ("id", "type", "severity", "state", "opened_at")}
    return msgspec.json.encode(
        {"cursor": str(row.id), "kind": "incident.sealed", "at": rfc3339(row.at), "data": shown}
    ).decode()


def passing_frame(kind: str, at: datetime, data: Any) -> str:
    """A frame beside the cursor: position, provisional, health."""
    return msgspec.json.encode({"kind": kind, "at": rfc3339(at), "data": data}).decode()


def reset_frame(at: datetime) -> str:
    """The cursor is older than what the feed keeps: load the board again."""
    return msgspec.json.encode({"kind": "reset", "at": rfc3339(at)}).decode()


def error_frame(code: str, detail: str) -> str:
    """Why the socket is about to be closed."""
    return msgspec.json.encode({"error": {"code": code, "detail": detail}}).decode()
