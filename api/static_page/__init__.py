"""Pages that are opened without a sign-in, from a link in a message: static files under the strictest headers.

Model: `page.html` of a page's folder is what stands in its <main>; `frame.html` here is the document around it, and
`base.css` what all of them look like. A page's own style and scripts stand beside its `page.html`.

Guarantees: nothing is loaded from elsewhere, nothing may index, cache or embed the page, or learn from where one came.
What is shared speaks of no alarm and of nobody: one of the pages is read by strangers.
"""

from __future__ import annotations

import os
from pathlib import Path
from string import Template
from typing import Final

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

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
"""Of such a page, its files, and what it is answered."""
SHARED_PATH: Final = Path(__file__).parent
SHARED: Final = frozenset({"base.css"})
"""Files that every page has beside its own."""
OWN: Final = frozenset({"page.css", "page.js", "words.js"})
"""Files that every page has of its own."""


def mount(
    app: FastAPI, path: str, folder: Path, *, title: str, header: str = "", more: frozenset[str] = frozenset()
) -> None:
    """Serve the page of a folder at `path`; `header`: what stands beside its languages; `more`: its other files."""
    frame = Template((SHARED_PATH / "frame.html").read_text("utf-8"))
    whole = frame.substitute(path=path, title=title, header=header, main=(folder / "page.html").read_text("utf-8"))

    @app.get(path, include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(whole, headers=HEADERS)

    app.mount(path, PageFiles(folder, OWN | more), name=folder.name)


class PageFiles(StaticFiles):
    """Some files of a folder, and those that all pages share, with the headers on every answer, also on a 404."""

    def __init__(self, folder: Path, names: frozenset[str]) -> None:
        super().__init__(directory=folder)
        self._names = names | SHARED

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await super().__call__(scope, receive, send_with_headers)

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        """Where a file is: a shared one is beside this."""
        if path in SHARED:
            return str(SHARED_PATH / path), (SHARED_PATH / path).stat()
        return super().lookup_path(path)

    async def get_response(self, path: str, scope: Scope) -> Response:
        if path not in self._names:
            return PlainTextResponse("Not found", 404)
        try:
            return await super().get_response(path, scope)
        except HTTPException as error:
            return PlainTextResponse(error.detail, error.status_code)
