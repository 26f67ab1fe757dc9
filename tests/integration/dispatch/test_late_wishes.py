"""A wish to cancel whose PIN is read late: what she pressed meanwhile came after it, and stands."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from api import even_time
from core.clock import from_ms, to_ms, utc_now
from core.domain.panic import CancelIn, PanicIn, is_quiet

Query = Callable[..., Any]
PIN, DURESS_PIN = "2580", "911911"


@pytest.mark.parametrize(("pin", "read", "quiet"), [(PIN, "right", False), ("", "unverified", True)])
async def test_a_press_before_the_pin_was_read_is_not_cancelled_by_it(
    api: Any, pair: Any, query: Query, monkeypatch: pytest.MonkeyPatch, pin: str, read: str, *, quiet: bool
) -> None:
    monkeypatch.setattr(even_time, "STEP_S", 0.01)
    await api.context.registry.refresh()
    rows = api.context.panic_desk._rows
    async with api.client(pair.phone_token) as phone:
        assert (await phone.put("/v1/me/pins", json={"pin": PIN, "duress_pin": DURESS_PIN})).status_code == 204
        first = (await phone.post("/v1/panic", json={"id": str(uuid.uuid4())})).json()["panic_id"]
        asked_ms = to_ms(utc_now())
        monkeypatch.setattr(rows, "clock", lambda: from_ms(asked_ms + 2))
        again = PanicIn(
            id=uuid.uuid4(), client_id=None, received_ms=asked_ms + 1, token_digest=None, source="",
            device_id=pair.phone_id, person_id=pair.victim_id, agency_id=pair.agency_id,
        )  # fmt: skip
        await rows.commit(again)
        wish = CancelIn(id=uuid.uuid4(), panic_id=first, device_id=pair.phone_id, received_ms=asked_ms, pin=pin)
        assert await rows.commit_cancel(wish, lambda: True) is True
        shown = [(await phone.get(f"/v1/panic/{one}")).json()["state"] for one in (first, again.id)]
    assert shown == ["cancelled", "open"]
    [row] = await query("SELECT do_not_call, detail FROM incident")
    assert not row["detail"].keys() & {"cancel_asked_at", "cancel_pin", "close_by"}
    assert (is_quiet(row["detail"]), row["do_not_call"]) == (quiet, True)
    [line] = await query("SELECT data FROM timeline WHERE kind = 'cancel_asked'")
    assert line["data"]["pin"] == read


@pytest.mark.parametrize("pin", [PIN, DURESS_PIN, ""])
async def test_what_is_done_before_a_wish_is_read_is_hidden_from_her_phone_from_the_asking_on(
    api: Any, pair: Any, query: Query, monkeypatch: pytest.MonkeyPatch, pin: str
) -> None:
    """It has been told "cancelled" all the while."""
    monkeypatch.setattr(even_time, "STEP_S", 0.01)
    await api.context.registry.refresh()
    rows = api.context.panic_desk._rows
    async with (
        api.client(pair.phone_token) as phone,
        api.client(api.token(pair.agency_id, pair.users["dispatcher"])) as desk,
    ):
        assert (await phone.put("/v1/me/pins", json={"pin": PIN, "duress_pin": DURESS_PIN})).status_code == 204
        pressed = (await phone.post("/v1/panic", json={"id": str(uuid.uuid4())})).json()
        asked_ms = to_ms(utc_now())
        await desk.get(f"/v1/incidents/{pressed['incident_id']}")
        await desk.post(f"/v1/incidents/{pressed['incident_id']}/acknowledge", json={"version": 1})
        monkeypatch.setattr(rows, "clock", lambda: from_ms(asked_ms + 60_000))
        wish = CancelIn(
            id=uuid.uuid4(), panic_id=pressed["panic_id"], device_id=pair.phone_id, received_ms=asked_ms, pin=pin
        )
        assert await rows.commit_cancel(wish, lambda: True) is True
        assert (await phone.get("/v1/me/audit")).json()["items"] == []
        assert (await phone.get(f"/v1/panic/{pressed['panic_id']}")).json()["acknowledged_at"] is None
    [row] = await query("SELECT cancel_asked_at, received_at FROM panic WHERE NOT unshown")
    assert row["cancel_asked_at"] == max(from_ms(asked_ms), row["received_at"])
