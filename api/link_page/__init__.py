"""The page behind a live link: one screen for a phone, and nothing else.

Model: `GET /l` is the same few static files for everybody; what it shows it gets from `POST /v1/live-link`. The token
stands behind `#` in its address: browsers send that to no server. The page reads it, posts it, and takes it out of the
address, so that it stays in no history.

Guarantees: nothing is loaded from elsewhere (a map's tiles would tell whoever serves them where she is), nothing may
index, cache, embed it, or learn from where one came.

Failure: while the service does not answer, the page says so and how old what it shows is; after a minute it shows no
place any more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

PAGE_PATH: Final = Path(__file__).parent
FILES: Final = frozenset({"page.css", "page.js", "ring.js", "words.js"})
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "geolocation=(), microphone=(), camera=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow, noarchive, nosnippet",
}
"""Of the page, its files, and what it is answered."""


class PageFiles(StaticFiles):
    """The page's files with its headers on every answer."""

    def __init__(self) -> None:
        super().__init__(directory=PAGE_PATH)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await super().__call__(scope, receive, send_with_headers)

    async def get_response(self, path: str, scope: Scope) -> Response:
        if path not in FILES:
            return PlainTextResponse("Not found", 404)
        try:
            return await super().get_response(path, scope)
        except HTTPException as error:
            return PlainTextResponse(error.detail, error.status_code)


def mount(app: FastAPI) -> None:
    """Serve the page at /l."""

    @app.get("/l", include_in_schema=False)
    async def link_page() -> FileResponse:
        return FileResponse(PAGE_PATH / "page.html", headers=HEADERS)

    app.mount("/l", PageFiles(), name="link_page")
