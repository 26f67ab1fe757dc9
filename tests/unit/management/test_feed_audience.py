"""Who hears which event of the feed."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path
from typing import Any

import pytest

from api.live.audience import AUDIENCE, EVERYBODY, HERS, NOBODY, SENDERS, SUPERVISORS, hears
from api.live.sight import Sights
from api.live.socket import FEED_ROLES
from core.clock import utc_now
from core.domain.scope import Scope
from core.postgres.feed import FeedRow

AGENCY, USER, OTHER = (uuid.uuid5(uuid.NAMESPACE_DNS, name) for name in ("agency", "user", "other"))
ROW = r"^\| `([a-z_.]+)` \| .* \| yes \| ([a-z]+)(, herself)? \|$"
NAMES = {"all": EVERYBODY, "senders": SENDERS, "supervisors": SUPERVISORS, "nobody": NOBODY}


def row(kind: str, **data: Any) -> FeedRow:
    return FeedRow(1, kind, utc_now(), json.dumps(data))


def listener(role: str) -> Scope:
    return Scope(AGENCY, USER, role)


def test_the_table_is_the_one_that_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs/event-flow.md").read_text()
    documented = {
        kind: (NAMES[to], bool(herself))
        for kind, to, herself in re.findall(
            r"^\| `([a-z_.]+)` \| .* \| yes \| ([a-z]+)(, herself)? \|$", page, re.MULTILINE
        )
    }
    assert documented == {kind: (roles, kind in HERS) for kind, roles in AUDIENCE.items()}


def test_only_who_may_listen_stands_in_the_table() -> None:
    assert FEED_ROLES == EVERYBODY
    assert all(roles <= EVERYBODY for roles in AUDIENCE.values())


@pytest.mark.parametrize("kind", ["access.break_glass", "access.look", "task.opened", "notice.token_reused"])
def test_what_users_did_and_have_to_do_reaches_supervisors_alone(kind: str) -> None:
    told = {role for role in FEED_ROLES if hears(listener(role), row(kind, user_id=str(OTHER)))}
    assert told == {"supervisor", "admin"}


@pytest.mark.parametrize("role", sorted(EVERYBODY))
def test_whoever_it_is_about_hears_of_her_own_sign_in(role: str) -> None:
    assert hears(listener(role), row("notice.sign_in_attempts", user_id=str(USER), username="d-1", what="code"))


def test_an_event_nobody_decided_about_reaches_nobody() -> None:
    assert not any(hears(listener(role), row("notice.of_tomorrow")) for role in FEED_ROLES)


@pytest.mark.parametrize(("role", "sent"), [("dispatcher", False), ("supervisor", True)])
def test_a_socket_is_sent_what_the_table_says(role: str, sent: bool) -> None:
    event = row("access.break_glass", user_id=str(OTHER))
    assert (Sights().frame(listener(role), event, "whole") == "whole") is sent
