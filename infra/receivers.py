"""The demo's other end on loopback, so that messages truly leave: a dispatch system's webhook, an SMS gateway, a mail
server."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import threading
from collections.abc import Callable
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session
from standardwebhooks import Webhook, WebhookVerificationError

BODY_BYTES_MAX = 65_536


class WebhookReceiver:
    """Takes Standard Webhooks, checks each signature, and tells of each message once."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
        verifier = Webhook(self.secret)
        seen: set[str] = set()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = min(int(self.headers.get("content-length", 0)), BODY_BYTES_MAX)
                body = self.rfile.read(length)
                try:
                    verifier.verify(body, {name.lower(): value for name, value in self.headers.items()})
                except WebhookVerificationError:
                    self._answer(401)
                    return
                self._answer(204)
                message_id = str(self.headers["webhook-id"])
                if message_id not in seen:
                    seen.add(message_id)
                    data = json.loads(body)["data"]
                    tell(f"dispatch system: signed webhook about {data.get('severity', '')} {data.get('type', '')}")

            def _answer(self, status: int) -> None:
                self.send_response(status)
                self.end_headers()

            def log_request(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="webhook-receiver", daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}/alerts"

    def start(self) -> None:
        """Listen."""
        self._thread.start()

    def stop(self) -> None:
        """Close the port and wait for the thread."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class SmsReceiver:
    """A gateway for text messages that speaks the JSON form, and tells of each message once."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.token = secrets.token_urlsafe(24)
        expected = f"Bearer {self.token}"
        seen: set[str] = set()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                message = json.loads(self.rfile.read(min(int(self.headers.get("content-length", 0)), BODY_BYTES_MAX)))
                known = secrets.compare_digest(self.headers.get("authorization", ""), expected)
                body = json.dumps({"id": message["id"]} if known else {"error": {"code": "token"}}).encode()
                self.send_response(200 if known else 401)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                if known and message["id"] not in seen:
                    seen.add(message["id"])
                    tell(f"text message: to {message['to']}: {message['text']}")

            def log_request(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="sms-receiver", daemon=True)

    @property
    def gateway(self) -> dict[str, Any]:
        """Its entry in the file of gateways."""
        url = f"http://127.0.0.1:{self._server.server_port}/messages"
        return {"name": "demo", "preset": "json", "url": url, "secrets": {"token": self.token}}

    def start(self) -> None:
        """Listen."""
        self._thread.start()

    def stop(self) -> None:
        """Close the port and wait for the thread."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class MailReceiver:
    """Takes letters by SMTP and tells of each."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        class Handler:
            async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
                content = envelope.content
                assert isinstance(content, bytes)
                subject = message_from_bytes(content, policy=policy.default)["Subject"]
                tell(f"mail server: to {', '.join(envelope.rcpt_tos)}: {subject}")
                return "250 OK"

        self._handler = Handler()
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: SMTP(self._handler, hostname="localhost"), "127.0.0.1", 0
        )

    async def stop(self) -> None:
        """Close the port."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
