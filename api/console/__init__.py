"""The dispatcher's console: static files, served beside the API it speaks to, and nothing else.

Model: plain ES modules in `js/`, styles in `css/`, words in `locales/`, and MapLibre GL in `vendor/`, where
`python -m infra.console_assets` puts it. No bundler, no inline script, no inline style: the content security
policy below forbids them. The console holds no state of its own; it shows `GET /v1/board` and the feed.

Failure: without `vendor/` the console works and says that its map is missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

from core.settings import Settings

CONSOLE_PATH: Final = Path(__file__).parent
SERVED: Final = frozenset({".", "index.html", "icon.svg", "css", "js", "locales", "vendor"})
"""First parts of the paths that are served: the folder also holds Python and npm files, which are not."""
LANGUAGES: Final = ("kk", "ru", "en")


def origin(url: str | None) -> str | None:
    """Scheme and host of an absolute http(s) address; None for anything else."""
    parts = urlsplit(url or "")
    return f"{parts.scheme}://{parts.netloc}" if parts.scheme in {"http", "https"} and parts.netloc else None


def content_security_policy(map_style_url: str | None) -> str:
    """What a page of the console may load: itself, and the map's tiles from where its style is."""
    tiles = f" {source}" if (source := origin(map_style_url)) else ""
    return "; ".join(
        (
            "default-src 'self'",
            "script-src 'self'",
            "style-src 'self'",
            f"connect-src 'self'{tiles}",
            f"img-src 'self' data: blob:{tiles}",
            "worker-src 'self' blob:",
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


def security_headers(settings: Settings) -> dict[str, str]:
    """The headers of every answer under /console."""
    return {
        "Content-Security-Policy": content_security_policy(settings.map_style_url),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": "geolocation=(), microphone=(), camera=()",
        "Cache-Control": "no-cache",
    }


class ConsoleFiles(StaticFiles):
    """The console's files with its headers on every answer, also on a 304 or a 404."""

    def __init__(self, headers: dict[str, str]) -> None:
        super().__init__(directory=CONSOLE_PATH, html=True)
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        await super().__call__(scope, receive, send_with_headers)

    async def get_response(self, path: str, scope: Scope) -> Response:
        if Path(path).parts[:1] and Path(path).parts[0] not in SERVED:
            return PlainTextResponse("Not found", 404)
        try:
            return await super().get_response(path, scope)
        except HTTPException as error:
            return PlainTextResponse(error.detail, error.status_code)


def mount(app: FastAPI, settings: Settings) -> None:
    """Serve the console at /console, and what it has to know at /console/config.json (nothing secret)."""
    headers = security_headers(settings)
    config: dict[str, Any] = {"map_style_url": settings.map_style_url, "languages": list(LANGUAGES)}

    @app.get("/console/config.json", include_in_schema=False)
    async def console_config() -> JSONResponse:
        return JSONResponse(config, headers=headers)

    @app.get("/console", include_in_schema=False)
    async def console_entry() -> RedirectResponse:
        return RedirectResponse("/console/", headers=headers)

    app.mount("/console", ConsoleFiles(headers), name="console")
