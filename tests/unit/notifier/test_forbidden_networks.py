"""Where no message goes, whatever a route says."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import httpcore
import pytest

from core.errors import Misconfigured
from core.settings import INNER_NETWORKS
from notifier.channels.forbidden import ForbiddenAddress, _HeldBackend, guarded, read_networks

INNER = read_networks(INNER_NETWORKS)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fd00:ec2::254", "::ffff:127.0.0.1",
        "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::", "localhost", "",
    ],
)  # fmt: skip
def test_inner_addresses_are_refused_however_they_are_written(address: str) -> None:
    assert INNER.refuse(address)


@pytest.mark.parametrize("address", ["192.0.2.7", "8.8.8.8", "172.32.0.1", "2001:db8::1", "::ffff:8.8.8.8"])
def test_others_are_not(address: str) -> None:
    assert not INNER.refuse(address)


def test_an_empty_setting_forbids_nothing_and_nonsense_is_told() -> None:
    assert not read_networks("").refuse("127.0.0.1")
    with pytest.raises(Misconfigured, match="inner"):
        read_networks("10.0.0.0/8, inner")


class Names:
    """What names stand for; each look-up of one gives the next answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> None:
        self._answers = list(answers)
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", self)

    async def __call__(self, _: str, port: int, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in self._answers.pop(0)]


class Wire(httpcore.AsyncNetworkBackend):
    """Where connections went."""

    def __init__(self, *dead: str) -> None:
        self.asked: list[str] = []
        self._dead = dead

    async def connect_tcp(self, host: str, *_: Any, **__: Any) -> Any:
        self.asked.append(host)
        if host in self._dead:
            raise httpcore.ConnectError
        return object()


async def test_the_address_that_was_held_is_the_one_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, ["192.0.2.7"], ["127.0.0.1"])
    wire = Wire()
    backend = _HeldBackend(INNER, wire)
    await backend.connect_tcp("hook.example", 443)
    with pytest.raises(ForbiddenAddress):
        await backend.connect_tcp("hook.example", 443)
    assert wire.asked == ["192.0.2.7"], "never a name, which could mean another thing by then"


async def test_of_several_addresses_the_allowed_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, ["10.0.0.1", "192.0.2.7", "192.0.2.8"])
    wire = Wire("192.0.2.7")
    await _HeldBackend(INNER, wire).connect_tcp("hook.example", 443)
    assert wire.asked == ["192.0.2.7", "192.0.2.8"]


async def test_what_connects_by_itself_is_held_in_threads_too() -> None:
    def knock() -> None:
        with socket.socket() as one:
            one.connect(("127.0.0.1", 9))

    with guarded(INNER) as guard, pytest.raises(ForbiddenAddress):
        await asyncio.to_thread(knock)
    assert guard.refused
    with pytest.raises(ConnectionRefusedError):
        await asyncio.to_thread(knock)
