"""The threat model names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
NAMED = re.compile(r"`((?:unit|integration|acceptance|property|architecture|browser)/[^`]+)`")


def named() -> list[str]:
    """What the page gives as shown by a test."""
    return sorted(set(NAMED.findall((TESTS.parent / "docs" / "threat-model.md").read_text())))


def test_the_page_names_tests() -> None:
    assert len(named()) > 50


@pytest.mark.parametrize("name", named())
def test_a_test_that_the_threat_model_names_is_there(name: str) -> None:
    path, _, function = name.partition("::")
    text = (TESTS / path).read_text()
    assert "def test_" in text
    if function:
        assert re.search(rf"def {re.escape(function)}\(", text), f"no such test in {path}"
