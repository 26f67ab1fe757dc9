"""The outage sheet as a supervisor gets it, and as the command writes it: audited, and of one's own agency."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import SecretStr

from api.sheet_keeper import SheetKeeper
from core.clock import utc_now
from core.errors import Misconfigured
from core.postgres.people import PEOPLE
from infra.commands.outage_sheet import sheets_of
from tests.integration.dispatch.conftest import make_agency

Query = Callable[..., Any]


@pytest.fixture(autouse=True)
async def _named(pair: Any, query: Query, database: Any) -> None:
    await query("UPDATE protection_order SET status = 'in_force', region = 'Алатау'")
    async with database.transaction() as connection:
        safe = {"channel": "sms", "address": "+77010000000", "hours": "09:00-17:00"}
        for person, name in ((pair.victim_id, "Айгерім"), (pair.aggressor_id, "Марат")):
            await PEOPLE.update(connection, pair.agency_id, person, {"identity": {"name": name}, "safe_contact": safe})


async def test_a_supervisor_gets_it_and_the_audit_says_whom_it_told(api: Any, pair: Any, query: Query) -> None:
    async with api.client(api.token(pair.agency_id, pair.users["supervisor"], "supervisor")) as supervisor:
        text = (await supervisor.get("/v1/outages/sheet", params={"form": "text", "language": "kk"})).text
        assert "Айгерім" in text
        assert "+77010000000" in text
        pdf = await supervisor.get("/v1/outages/sheet")
        assert pdf.headers["content-type"] == "application/pdf"
        assert pdf.content.startswith(b"%PDF")
    rows = await query("SELECT person_ids FROM audit WHERE action = 'outage_sheet.made'")
    assert [set(row["person_ids"]) for row in rows] == [{pair.victim_id, pair.aggressor_id}] * 2
    async with api.client(api.token(pair.agency_id, pair.users["dispatcher"])) as dispatcher:
        assert (await dispatcher.get("/v1/outages/sheet")).status_code == 403


async def test_another_agency_s_sheet_has_nobody_of_ours(api: Any, database: Any) -> None:
    other_id, others = await make_agency(database, "Other")
    async with api.client(api.token(other_id, others["supervisor"], "supervisor")) as supervisor:
        text = (await supervisor.get("/v1/outages/sheet", params={"form": "text"})).text
    assert "Айгерім" not in text


async def test_the_command_names_nobody_of_a_sealed_case(
    pair: Any, settings: Any, query: Query, monkeypatch: pytest.MonkeyPatch, vault: Any
) -> None:
    monkeypatch.setattr("core.vault.load_vault", lambda _: vault)
    files = await sheets_of(settings, None, "ru")
    text = files[f"outage-sheet-{pair.agency_id}.txt"].decode()
    assert "Айгерім" in text
    assert files[f"outage-sheet-{pair.agency_id}.pdf"].startswith(b"%PDF")
    await query("UPDATE protection_order SET sealed = true")
    text = (await sheets_of(settings, None, "ru"))[f"outage-sheet-{pair.agency_id}.txt"].decode()
    assert "Айгерім" not in text
    assert "O-1" in text
    assert len(await query("SELECT FROM audit WHERE action = 'outage_sheet.made'")) == 2


async def test_while_the_database_is_away_the_command_prints_what_is_kept_sealed(
    pair: Any, posts: Any, settings: Any, query: Query, monkeypatch: pytest.MonkeyPatch, vault: Any
) -> None:
    await SheetKeeper(settings, posts.device, utc_now).step()
    (kept,) = (settings.data_dir / "last-known").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    for secret in ("Айгерім", "+77010000000", "O-1"):
        assert secret.encode() not in kept.read_bytes()
    monkeypatch.setattr("core.vault.load_vault", lambda _: vault)
    away = settings.model_copy(update={"database_url": SecretStr("postgresql://nobody@127.0.0.1:1/nowhere")})
    text = (await sheets_of(away, None, "ru"))[f"outage-sheet-{pair.agency_id}.txt"].decode()
    assert "Айгерім" in text
    assert "База недоступна" in text
    kept.unlink()
    with pytest.raises(Misconfigured, match="no sheet is kept"):
        await sheets_of(away, None, "ru")
