"""What a service's process is told once, so that no request has to find it out again."""

from __future__ import annotations

import sys

import pytest
from httpcore._synchronization import current_async_library

from infra.run import _spare_searches


def test_a_module_that_is_not_there_is_not_searched_for_at_every_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sniffio", raising=False)
    _spare_searches()
    monkeypatch.setattr(sys, "meta_path", [])  # nothing could be searched for now
    assert current_async_library() == "asyncio"
