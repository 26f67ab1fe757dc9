"""`qorgan user`: an operator helps a user back in without the API."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from typer.testing import CliRunner

from infra.commands.users import user_app
from tests.integration.management.visitor import Visitor


async def test_a_user_is_reset_and_her_sessions_are_shown_and_ended(
    office: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QORGAN_DATABASE_URL", settings.database_url.get_secret_value())
    monkeypatch.setenv("QORGAN_REDIS_URL", settings.redis_url.get_secret_value())
    monkeypatch.setenv("QORGAN_DATA_DIR", str(settings.data_dir))
    runner = CliRunner()

    async def run(*words: str) -> Any:
        return await asyncio.to_thread(runner.invoke, user_app, list(words))

    async with Visitor(office.context, "198.51.100.4") as visitor:
        await visitor.sign_in()
        shown = await run("sessions", "Dispatcher")
        assert shown.exit_code == 0, shown.output
        assert "198.51.100.4" in shown.output
        reset = await run("reset", "dispatcher", "--second-factors")
        assert reset.exit_code == 0, reset.output
        assert (await visitor.refresh()).json()["code"] == "token_revoked"
        found = re.search(r"[a-z2-7]{4}(-[a-z2-7]{4}){3}", reset.output)
        assert found is not None, reset.output
        body = {"username": "dispatcher", "code": found[0], "password": "six quiet green teapots"}
        assert (await visitor.client.post("/v1/auth/password", json=body)).status_code == 204
        assert (await visitor.sign_in(password="six quiet green teapots")).status_code == 200
        assert "ended" in (await run("sessions", "dispatcher", "--end")).output
        assert (await visitor.refresh()).json()["code"] == "token_revoked"
        assert (await run("reset", "nobody")).exit_code != 0
