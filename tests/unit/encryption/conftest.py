"""A key service on loopback that speaks the Transit calls."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.key_service import KeyService


@pytest.fixture
def key_service() -> Iterator[KeyService]:
    service = KeyService()
    yield service
    service.close()
