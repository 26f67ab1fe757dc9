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

from api import static_page

PAGE_PATH: Final = Path(__file__).parent


def mount(app: FastAPI) -> None:
    """Serve the page at /l."""
    static_page.mount(app, "/l", PAGE_PATH, title="Qorgan", header='<p id="status"></p>', more=frozenset({"ring.js"}))
