"""A key service on loopback: the Transit calls over real HTTP, with a key of several versions."""

from __future__ import annotations

import base64
import json
import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

TOKEN = "hvs.test"


class KeyService:
    """Encrypts with the latest version, decrypts with any; `calls` counts what it was asked by verb."""

    def __init__(self, name: str = "qorgan") -> None:
        self.name = name
        self.versions = [AESGCM.generate_key(256)]
        self.calls: dict[str, int] = {}
        self.refusing = False
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(None)

            def do_POST(self) -> None:
                self._answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))

            def _answer(self, body: Any) -> None:
                status, answer = service.answer(self.path, self.headers.get("X-Vault-Token"), body)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/v1/transit"

    def rotate(self) -> None:
        """A new version of the key."""
        self.versions.append(AESGCM.generate_key(256))

    def retire(self, version: int) -> None:
        """No longer decrypt with a version (from 1)."""
        self.versions[version - 1] = AESGCM.generate_key(256)

    def answer(self, path: str, token: str | None, body: Any) -> tuple[int, Any]:
        if token != TOKEN or self.refusing:
            return 403, {"errors": ["permission denied"]}
        verb, _, name = path.removeprefix("/v1/transit/").partition("/")
        self.calls[verb] = self.calls.get(verb, 0) + 1
        if name != self.name:
            return 404, {"errors": []}
        if verb == "keys":
            return 200, {"data": {"name": name, "latest_version": len(self.versions), "type": "aes256-gcm96"}}
        results = [getattr(self, verb)(item) for item in body["batch_input"]]
        bad = any("error" in result for result in results)
        return 400 if bad else 200, {"data": {"batch_results": results}}

    def encrypt(self, item: dict[str, str]) -> dict[str, Any]:
        nonce = secrets.token_bytes(12)
        blob = nonce + AESGCM(self.versions[-1]).encrypt(nonce, base64.b64decode(item["plaintext"]), None)
        return {"ciphertext": f"vault:v{len(self.versions)}:{base64.b64encode(blob).decode()}"}

    def decrypt(self, item: dict[str, str]) -> dict[str, Any]:
        try:
            _, version, text = item["ciphertext"].split(":")
            blob = base64.b64decode(text)
            plain = AESGCM(self.versions[int(version[1:]) - 1]).decrypt(blob[:12], blob[12:], None)
        except (InvalidTag, ValueError):
            return {"error": "cipher: message authentication failed"}
        return {"plaintext": base64.b64encode(plain).decode()}

    def rewrap(self, item: dict[str, str]) -> dict[str, Any]:
        opened = self.decrypt(item)
        return opened if "error" in opened else self.encrypt(opened)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()
