"""Somebody whom a protected person asks to be her trusted contact, and the page on which he answers."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from core.actions.unit_of_work import act
from core.clock import utc_now
from core.domain.sealing import Spot
from core.domain.trusted_contact import PATH
from core.postgres import keys

Query = Callable[..., Any]
Ask = Callable[..., Awaitable[dict[str, Any]]]

MAIL, NUMBER = "brother@example.kz", "+77015550142"
BROTHER = {
    "name": "Ерлан Сапаров",
    "relation": "brother",
    "channels": [{"channel": "email", "address": MAIL}, {"channel": "sms", "address": "+7 (701) 555-01-42"}],
    "language": "kk",
    "may_see": ["position", "time"],
}


class Hands:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self._ahead = timedelta()

    def __call__(self) -> datetime:
        return utc_now() + self._ahead

    def forward(self, **span: float) -> None:
        self._ahead += timedelta(**span)


@pytest.fixture(autouse=True)
async def hands(api: Any, pair: Any, query: Query) -> Hands:
    """The API's clock; the sister whom every pair comes with is somebody else's affair."""
    await query("UPDATE contact SET revoked_at = now() WHERE person_id = $1", pair.victim_id)
    await api.context.registry.refresh()
    api.context.clock = hands = Hands()
    return hands


@pytest.fixture
async def phone(api: Any, pair: Any) -> AsyncIterator[Any]:
    async with api.client(pair.phone_token) as client:
        yield client


@pytest.fixture
async def office(api: Any, pair: Any) -> AsyncIterator[Any]:
    async with api.client(api.token(pair.agency_id, pair.users["caseworker"], "caseworker")) as client:
        yield client


@pytest.fixture
async def ask(api: Any) -> AsyncIterator[Ask]:
    """What the invitation's page asks: ask(step, token, …)."""
    async with api.client(None) as client:

        async def asked(step: str, token: str, **more: Any) -> dict[str, Any]:
            answer = await client.post(f"/v1/contact-invitation{step}", json={"token": token, **more})
            assert answer.status_code == 200, answer.text
            return dict(answer.json())

        yield asked


@pytest.fixture
def letters(api: Any, query: Query) -> Callable[..., Any]:
    """Messages of a template with what is sealed of them, the newest last."""

    async def found(template: str, *states: str) -> list[dict[str, Any]]:
        rows = await query(
            "SELECT * FROM delivery WHERE template = $1 AND state = ANY ($2) ORDER BY created_at, id",
            template,
            list(states or ("queued",)),
        )
        async with act(api.context.device_database, utc_now()) as unit:
            targets = await keys.open_each(
                unit.connection, [(Spot("delivery", "target", row["id"]), row["target_sealed"]) for row in rows]
            )
        return [{**dict(row), **target} for row, target in zip(rows, targets, strict=True)]

    return found


@pytest.fixture
def invited(phone: Any, letters: Any) -> Callable[..., Awaitable[tuple[dict[str, Any], str]]]:
    """A contact whom she asked from her phone, and the token that went to him."""

    async def made(**more: Any) -> tuple[dict[str, Any], str]:
        answer = await phone.post("/v1/me/contacts", json={**BROTHER, **more})
        assert answer.status_code == 201, answer.text
        letter = (await letters("invitation_contact"))[-1]
        assert letter["data"]["link"].startswith(PATH)
        return dict(answer.json()), letter["data"]["link"].removeprefix(PATH)

    return made


@pytest.fixture
def consented(invited: Any, ask: Ask, letters: Any) -> Callable[..., Awaitable[tuple[dict[str, Any], str]]]:
    """One who has confirmed his e-mail address and consented."""

    async def made(**more: Any) -> tuple[dict[str, Any], str]:
        contact, token = await invited(**more)
        await ask("/code", token, way=0)
        code = (await letters("code_contact"))[-1]["data"]["code"]
        assert (await ask("/verify", token, way=0, code=code))["state"] == "verified"
        assert (await ask("/consent", token))["state"] == "active"
        return contact, token

    return made


@pytest.fixture
def press(phone: Any) -> Callable[[], Awaitable[str]]:
    async def pressed() -> str:
        return str((await phone.post("/v1/panic", json={"id": str(uuid.uuid4())})).json()["incident_id"])

    return pressed


@pytest.fixture
def resolve(api: Any, pair: Any, query: Query) -> Callable[..., Awaitable[None]]:
    async def resolved(incident_id: str, outcome: str) -> None:
        (row,) = await query("SELECT version FROM incident WHERE id = $1", uuid.UUID(incident_id))
        async with api.client(api.token(pair.agency_id, pair.users["dispatcher"])) as desk:
            answer = await desk.post(
                f"/v1/incidents/{incident_id}/resolve", json={"version": row["version"], "outcome": outcome}
            )
            assert answer.status_code == 200, answer.text

    return resolved
