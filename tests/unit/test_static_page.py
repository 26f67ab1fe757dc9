"""Pages without a sign-in: one frame and one look, which say nothing to a stranger."""

from __future__ import annotations

import re

import httpx
import pytest
from fastapi import FastAPI

from api import contact_page, link_page, static_page


@pytest.fixture
def client() -> httpx.AsyncClient:
    """A client of both pages."""
    app = FastAPI()
    for page in (contact_page, link_page):
        page.mount(app)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://pages")


@pytest.mark.parametrize("path", ["/l", "/contact"])
async def test_a_page_is_one_document_and_loads_its_own_files_alone(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 200
    assert answer.text.count("<main>") == answer.text.count("</main>") == 1
    assert "$" not in answer.text
    loaded = re.findall(r'(?:href|src)="(?!data:)([^"]+)"', answer.text)
    assert loaded == [f"{path}/base.css", f"{path}/page.css", f"{path}/page.js"]
    for file in (path, *loaded, f"{path}/words.js"):
        answer = await client.get(file)
        assert answer.status_code == 200, file
        assert {name: answer.headers[name] for name in static_page.HEADERS} == static_page.HEADERS
    for hidden in ("page.html", "frame.html", "__init__.py"):
        assert (await client.get(f"{path}/{hidden}")).status_code == 404


async def test_what_a_stranger_is_sent_before_he_confirms_speaks_of_no_alarm_and_nobody(
    client: httpx.AsyncClient,
) -> None:
    sent = "".join([(await client.get(path)).text for path in ("/contact", "/contact/base.css", "/contact/page.css")])
    telling = ("qorgan", "police", "panic", "alarm", "victim", "тревог", "дабыл", "полиц", "coordinates", "accuracy")
    assert [word for word in telling if word in sent.lower()] == []


def test_a_page_says_again_nothing_that_all_of_them_share() -> None:
    shared = set(_rules((static_page.SHARED_PATH / "base.css").read_text()))
    for page in (contact_page, link_page):
        own = _rules((page.PAGE_PATH / "page.css").read_text())
        assert [rule for rule in own if rule in shared] == []


def _rules(css: str) -> list[str]:
    return [" ".join(rule.split()) for rule in re.findall(r"[^{}]+{[^{}]*}", css)]
