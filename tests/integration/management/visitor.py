"""Somebody with a browser: her own cookies, her own address, her own session."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import httpx

from api.app import create_app
from api.deps import ApiContext

PASSWORD = "correct horse battery"
CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36"


class Visitor:
    """A browser at an address."""

    def __init__(self, context: ApiContext, address: str = "192.0.2.7", app: Any = None) -> None:
        transport = httpx.ASGITransport(app or create_app(context), client=(address, 1234))
        self.client = httpx.AsyncClient(
            transport=transport, base_url="http://qorgan.test", headers={"User-Agent": CHROME}
        )
        self.access = ""
        self.refresh_token = ""

    async def __aenter__(self) -> Visitor:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.aclose()

    async def sign_in(self, username: str = "dispatcher", password: str = PASSWORD, **more: str) -> httpx.Response:
        """Ask for a session; keep its tokens when there are some."""
        answer = await self.client.post("/v1/auth/token", data={"username": username, "password": password, **more})
        self.keep(answer)
        return answer

    async def refresh(self, token: str | None = None) -> httpx.Response:
        """Go on with the session."""
        data = {"grant_type": "refresh_token", "refresh_token": token or self.refresh_token}
        answer = await self.client.post("/v1/auth/token", data=data)
        self.keep(answer)
        return answer

    def keep(self, answer: httpx.Response) -> None:
        """Hold the tokens of an answer, if it has some."""
        if answer.status_code == 200 and "access_token" in answer.json():
            self.access = answer.json()["access_token"]
            self.refresh_token = answer.json()["refresh_token"]

    async def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Ask as whom she is signed in."""
        return await self.client.request(method, path, headers={"Authorization": f"Bearer {self.access}"}, **more)

    async def get(self, path: str) -> httpx.Response:
        return await self.call("GET", path)

    async def post(self, path: str, body: Any = None) -> httpx.Response:
        return await self.call("POST", path, json=body)

    async def put(self, path: str, body: Any) -> httpx.Response:
        return await self.call("PUT", path, json=body)

    async def delete(self, path: str) -> httpx.Response:
        return await self.call("DELETE", path)
