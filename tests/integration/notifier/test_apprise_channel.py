"""The long tail through Apprise, its own JSON notification to a loopback service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from core.settings import INNER_NETWORKS
from notifier.channels.apprise import AppriseChannel
from notifier.channels.base import Message, Permanent, Retryable
from notifier.channels.forbidden import read_networks

Make = Callable[..., Message]


@pytest.fixture
async def channel() -> AsyncIterator[AppriseChannel]:
    made = AppriseChannel(timeout_s=5.0)
    yield made
    await made.aclose()


def url_of(provider: Any) -> str:
    return str(provider.url).replace("http://", "json://desk:s3cret@") + "/hook"


async def test_it_sends_the_subject_and_the_short_text_and_nothing_of_where(
    channel: AppriseChannel, provider: Any, make_message: Make, caplog: pytest.LogCaptureFixture
) -> None:
    await channel.send(make_message(address="operations room", secret=url_of(provider)))
    (request,) = provider.requests
    assert request.json["title"] == "Тақырып"
    assert request.json["message"] == "Қысқа"
    for telling in ("43.2", "76.9", "123.4", "Мәтін"):
        assert telling not in request.body.decode()
    assert "s3cret" not in caplog.text


async def test_a_person_s_url_may_stand_in_the_sealed_address(
    channel: AppriseChannel, provider: Any, make_message: Make
) -> None:
    await channel.send(make_message(address=url_of(provider), secret=None))
    assert len(provider.requests) == 1


async def test_a_service_that_refuses_or_is_gone_is_worth_another_try_and_its_url_stays_secret(
    channel: AppriseChannel, provider: Any, make_answer: Any, make_message: Make, caplog: pytest.LogCaptureFixture
) -> None:
    provider.answer = lambda _: make_answer(500)
    for url in (url_of(provider), "json://desk:s3cret@127.0.0.1:9/hook"):
        with pytest.raises(Retryable) as failure:
            await channel.send(make_message(address="room", secret=url))
        assert "s3cret" not in failure.value.detail
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    "url", ["nonsense", "nonsense://x", "syslog://", "dbus://", "windows://", "", "json://" + "x" * 3000]
)
async def test_what_is_no_service_or_acts_on_this_machine_is_refused(
    channel: AppriseChannel, make_message: Make, url: str
) -> None:
    with pytest.raises(Permanent):
        await channel.send(make_message(address="room", secret=url or None))


async def test_a_service_within_is_never_called(provider: Any, make_message: Make) -> None:
    channel = AppriseChannel(5.0, read_networks(INNER_NETWORKS))
    try:
        for url in (url_of(provider), url_of(provider).replace("127.0.0.1", "localhost")):
            with pytest.raises(Permanent, match="QORGAN_FORBIDDEN_NETWORKS"):
                await channel.send(make_message(address="room", secret=url))
    finally:
        await channel.aclose()
    assert provider.requests == []
