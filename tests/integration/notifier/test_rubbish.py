"""Providers that answer what no provider says: each message waits for its next attempt, and nothing falls over."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from core.settings import Settings
from core.sms_gateways import load_gateways
from notifier.channels.base import Message, Retryable
from notifier.channels.email import EmailChannel
from notifier.channels.fcm import FcmChannel
from notifier.channels.sms import SmsChannel
from notifier.channels.webhook import WebhookChannel

Make = Callable[..., Message]
SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
TOKEN = {"access_token": "access", "expires_in": 3600, "token_type": "Bearer"}
HALF = "half an answer"
RUBBISH = {
    "nothing": b"",
    "noise": bytes(range(256)) * 4,
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    HALF: b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "endless headers": b"HTTP/1.1 200 OK\r\n" + b"x-more: and more\r\n" * 20_000,
}


@pytest.fixture(params=RUBBISH)
async def talker(request: pytest.FixtureRequest) -> AsyncIterator[int]:
    """The port of a server that says something, whatever it is asked, and hangs up."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(RUBBISH[request.param])
            await writer.drain()
            writer.write_eof()
            await reader.read(65_536)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


@pytest.mark.parametrize("talker", sorted(RUBBISH.keys() - {HALF}), indirect=True)  # its head is all that is read of it
async def test_a_webhooks_receiver(talker: int, make_message: Make) -> None:
    channel = WebhookChannel(timeout_s=5.0)
    try:
        with pytest.raises(Retryable):
            await channel.send(make_message(address=f"http://127.0.0.1:{talker}/", secret=SECRET))
    finally:
        await channel.aclose()


async def test_an_sms_gateway(talker: int, make_message: Make, bare_settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "gateways.json"
    odd = {"name": "odd", "preset": "json", "url": f"http://127.0.0.1:{talker}/", "secrets": {"token": "x"}}
    file.write_text(json.dumps({"gateway": [odd]}))
    channel = SmsChannel(load_gateways(bare_settings.model_copy(update={"sms_gateways_file": file})), 5.0, None)
    try:
        with pytest.raises(Retryable):
            await channel.send(make_message(address="+77011234567"))
    finally:
        await channel.aclose()


async def test_a_mail_server(talker: int, make_message: Make, bare_settings: Settings) -> None:
    changed = {"smtp_host": "127.0.0.1", "smtp_port": talker, "delivery_timeout_s": 5.0}
    with pytest.raises(Retryable):
        await EmailChannel(bare_settings.model_copy(update=changed)).send(make_message(address="desk@police.test"))


async def test_fcm(talker: int, make_message: Make, fcm_settings: Settings, provider: Any, make_answer: Any) -> None:
    provider.answer = lambda _: make_answer(body=TOKEN)
    channel = FcmChannel(fcm_settings.model_copy(update={"fcm_api_url": f"http://127.0.0.1:{talker}"}))
    try:
        with pytest.raises(Retryable):
            await channel.send(make_message(address="token-1"))
    finally:
        await channel.aclose()


async def test_fcm_whose_success_is_no_json(
    fcm_settings: Settings, provider: Any, make_answer: Any, make_message: Make
) -> None:
    provider.answer = lambda request: make_answer(body=TOKEN if request.path == "/token" else "all is well")
    channel = FcmChannel(fcm_settings)
    try:
        with pytest.raises(Retryable):
            await channel.send(make_message(address="token-1"))
    finally:
        await channel.aclose()
