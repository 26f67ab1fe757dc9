"""The readable report: a view told in one language (`telling`), drawn (`pictures`) and set by Typst into a PDF."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, Literal, cast

from core.evidence import pictures
from core.evidence.telling import Teller
from core.evidence.view import View

TEMPLATE: Final = Path(__file__).parent / "report.typ"


def render(view: View, language: str, bundle_id: str, public_key: bytes) -> bytes:
    """The report of a view as a PDF."""
    return typeset(view, language, bundle_id, public_key, "pdf")[0]


def typeset(
    view: View, language: str, bundle_id: str, public_key: bytes, form: Literal["pdf", "png"], ppi: float = 110
) -> list[bytes]:
    """The report as one PDF, or as a picture a page; with Typst's own fonts, so that it is the same everywhere."""
    import typst

    teller = Teller(view, language)
    content = teller.content(bundle_id, public_key)
    shown = pictures.map_of(view, teller.zone, teller.words)
    content["map"] = shown is not None
    parts = {
        "main": TEMPLATE.read_bytes(),
        "content.json": json.dumps(content, ensure_ascii=False).encode(),
        "map.svg": (shown or "<svg/>").encode(),
        "charts.svg": pictures.charts_of(view, teller.zone, teller.until_ms, teller.words).encode(),
    }
    made = int(teller.made.timestamp())
    # The stubs know of one file; the compiler takes several by their names.
    pages: Any = typst.compile(cast("Any", parts), format=form, ppi=ppi, ignore_system_fonts=True, timestamp=made)
    return pages if isinstance(pages, list) else [pages]
