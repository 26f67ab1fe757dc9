"""The other end of every channel, on loopback: when did the message of this delivery arrive?

A push provider with its token issuer, a gateway for text messages, a webhook, and a mail server. Every message bears
its delivery's id, which follows from the panic's, the route's and the channel's (`core.domain.delivery`).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

from aiosmtpd.smtp import SMTP, Envelope, Session
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from core.actions.unit_of_work import act
from core.clock import utc_now
from core.domain.delivery import Delivery
from core.ids import new_id
from core.postgres.agencies import ROUTES
from core.postgres.database import Database

CHANNELS: Final = ("fcm", "sms", "webhook", "email")
PUSH: Final = "fcm"
"""The channel whose arrival is the first push."""
TOKEN_S: Final = 3600
GATEWAY: Final = """
[[gateway]]
name = "loopback"
url = "{url}/sms"
form = {{ to = "{{to}}", text = "{{text}}", id = "{{id}}" }}
per_second = 1000.0
"""


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the agency, as far as it names a delivery."""

    id: uuid.UUID
    channel: str

    def delivery_of(self, panic_id: uuid.UUID) -> uuid.UUID:
        """Id of the delivery that tells this route of a panic."""
        told = Delivery(
            agency_id=self.id, incident_id=None, cause=panic_id, audience="dispatcher", recipient=f"route:{self.id}",
            channel=self.channel, address="", template="incident_dispatcher",
        )  # fmt: skip
        return told.id


class Receivers:
    """Servers that note when each delivery arrived first, on time.perf_counter."""

    def __init__(self) -> None:
        self.routes: tuple[Route, ...] = ()
        self.http_port = self.smtp_port = 0
        self._arrived: dict[uuid.UUID, float] = {}
        self._news = asyncio.Event()

    def settings(self, folder: Path) -> dict[str, Any]:
        """Settings by which the notifier finds these servers; writes the files they name."""
        url = f"http://127.0.0.1:{self.http_port}"
        key = rsa.generate_private_key(public_exponent=65_537, key_size=2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        account = {
            "type": "service_account", "project_id": "loopback", "private_key_id": "1", "private_key": key.decode(),
            "client_email": "push@loopback.test", "client_id": "1", "token_uri": f"{url}/token",
        }  # fmt: skip
        push, gateways = folder / "push.json", folder / "gateways.toml"
        push.write_text(json.dumps(account))
        gateways.write_text(GATEWAY.format(url=url))
        return {
            "fcm_credentials_file": push, "fcm_api_url": url, "sms_gateways_file": gateways,
            "smtp_host": "127.0.0.1", "smtp_port": self.smtp_port,
        }  # fmt: skip

    async def add_routes(self, database: Database, agency_id: uuid.UUID) -> None:
        """Have the agency tell of critical incidents on every channel."""
        hook = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
        addresses = {
            "fcm": ("a-phone-on-duty", None), "sms": ("+77010000001", None), "email": ("duty@loopback.test", None),
            "webhook": (f"http://127.0.0.1:{self.http_port}/webhook", hook),
        }  # fmt: skip
        routes = tuple(Route(new_id(), channel) for channel in CHANNELS)
        async with act(database, utc_now()) as unit:
            for route in routes:
                address, secret = addresses[route.channel]
                await ROUTES.insert(
                    unit.connection,
                    {
                        "id": route.id, "agency_id": agency_id, "name": route.channel, "channel": route.channel,
                        "address": address, "secret": secret, "language": "en", "min_severity": "critical",
                        "enabled": True, "created_at": unit.now,
                    },
                )  # fmt: skip
        self.routes = routes

    def arrival(self, delivery_id: uuid.UUID) -> float | None:
        """When a delivery's message arrived, or None."""
        return self._arrived.get(delivery_id)

    async def wait_for_all(self, wanted: Sequence[uuid.UUID], timeout_s: float) -> int:
        """Wait until all have arrived; how many have not when time is up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while any(one not in self._arrived for one in wanted):
                    self._news.clear()
                    await self._news.wait()
        return sum(one not in self._arrived for one in wanted)

    def note(self, text: str) -> None:
        """A message bore this delivery id; what is none is passed over."""
        with contextlib.suppress(ValueError):
            self._arrived.setdefault(uuid.UUID(text), time.perf_counter())
            self._news.set()

    async def serve_http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, any number of requests."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                answer = json.dumps(self._answer(head[0].split(" ")[1], headers, body)).encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(answer)
                    + answer
                )
                await writer.drain()
        writer.close()

    def _answer(self, path: str, headers: dict[str, str], body: bytes) -> dict[str, Any]:
        if path == "/token":
            return {"access_token": "loopback", "expires_in": TOKEN_S, "token_type": "Bearer"}
        if path == "/webhook":
            self.note(headers.get("webhook-id", ""))
        elif path == "/sms":
            self.note(parse_qs(body.decode()).get("id", [""])[0])
        else:
            self.note(json.loads(body)["message"]["data"]["delivery_id"])
        return {"name": "projects/loopback/messages/1"}

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """A letter, as aiosmtpd hands it over."""
        assert isinstance(envelope.content, bytes)
        self.note(str(message_from_bytes(envelope.content)["Message-ID"]).strip("<>").partition("@")[0])
        return "250 OK"


@contextlib.asynccontextmanager
async def listening_receivers(receivers: Receivers | None = None) -> AsyncIterator[Receivers]:
    """Receivers that listen; their own, unless some are given."""
    receivers = receivers or Receivers()
    loop = asyncio.get_running_loop()
    http = await asyncio.start_server(receivers.serve_http, "127.0.0.1", 0)
    smtp = await loop.create_server(lambda: SMTP(receivers, hostname="localhost"), "127.0.0.1", 0)
    receivers.http_port, receivers.smtp_port = (each.sockets[0].getsockname()[1] for each in (http, smtp))
    try:
        yield receivers
    finally:
        http.close()
        smtp.close()
