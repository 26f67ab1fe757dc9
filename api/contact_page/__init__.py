"""The page behind an invitation to be a trusted contact: what is asked, a code, consent or not, and later an end.

Model: `GET /contact` is the same few static files for everybody; what it shows it gets from
`POST /v1/contact-invitation`. The token stands behind `#` in its address: browsers send that to no server. The page
takes it out of the address and keeps it for as long as its tab is open.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastapi import FastAPI

from api import static_page

PAGE_PATH: Final = Path(__file__).parent


def mount(app: FastAPI) -> None:
    """Serve the page at /contact."""
    static_page.mount(app, "/contact", PAGE_PATH, title="·")
