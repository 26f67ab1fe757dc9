"""The page behind an invitation to be a trusted contact: what is asked, a code, consent or not, and later an end.

Model: `GET /contact` is the same few static files for everybody; what it shows it gets from
`POST /v1/contact-invitation`. The token stands behind `#` in its address: browsers send that to no server. The page
takes it out of the address and keeps it for as long as its tab is open.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastapi import FastAPI
from starlette.responses import FileResponse

from api.static_page import HEADERS, PageFiles

__all__ = ["HEADERS", "mount"]

PAGE_PATH: Final = Path(__file__).parent
FILES: Final = frozenset({"page.css", "page.js", "words.js"})


def mount(app: FastAPI) -> None:
    """Serve the page at /contact."""

    @app.get("/contact", include_in_schema=False)
    async def contact_page() -> FileResponse:
        return FileResponse(PAGE_PATH / "page.html", headers=HEADERS)

    app.mount("/contact", PageFiles(PAGE_PATH, FILES), name="contact_page")
