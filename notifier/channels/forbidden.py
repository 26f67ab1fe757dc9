"""Addresses that no message is sent to: a route's receiver is chosen by an administrator, and called from within.

A name is resolved, each address it stands for is held to the forbidden networks, and the very address that was held is
connected to: a name that means something else at its next look-up gains nothing. For `httpx` that is a transport; what
connects by itself, as Apprise's services do, is held by an audit hook of the interpreter, which sees every connection
of the process before it is made and refuses within `guarded`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

import httpcore
import httpx

from core.errors import Misconfigured

NAT64: Final = ip_network("64:ff9b::/96")
CONNECTS: Final = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
"""Events of the interpreter by which something leaves to an address."""
ADDRESSES_TRIED: Final = 4
"""Of one name; each may take a part of the time there is."""


class ForbiddenAddress(PermissionError):  # noqa: N818 - it says what it is
    """The receiver lies in a forbidden network.

    None of httpx's errors, so that nobody takes it for a failed connection; an OSError for what connects by itself.
    """


@dataclass(frozen=True)
class Networks:
    """Networks that no message is sent to."""

    v4: tuple[IPv4Network, ...] = ()
    v6: tuple[IPv6Network, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.v4 or self.v6)

    def refuse(self, written: str) -> bool:
        """Whether nothing may be sent to an address; also to what is no address."""
        return bool(self) and _refused(self, written)


EVERYWHERE: Final = Networks()
"""Nothing is forbidden."""
FORBIDDEN: Final = "the receiver is in a network that is forbidden here (QORGAN_FORBIDDEN_NETWORKS)"
"""What a dead letter says of it."""


@lru_cache(4096)
def _refused(networks: Networks, written: str) -> bool:
    try:
        address = ip_address(written.partition("%")[0])
    except ValueError:
        return True
    return any(
        one in network for one in _meant(address) for network in (networks.v4 if one.version == 4 else networks.v6)
    )


def _meant(address: IPv4Address | IPv6Address) -> Iterator[IPv4Address | IPv6Address]:
    """The address, and those of version 4 that it leads to."""
    yield address
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            yield address.ipv4_mapped
        if address.sixtofour is not None:
            yield address.sixtofour
        if address.teredo is not None:
            yield from address.teredo
        if address in NAT64:
            yield IPv4Address(int(address) & 0xFFFFFFFF)


def read_networks(written: str) -> Networks:
    """Networks of `10.0.0.0/8,::1/128`; nothing: none. Raises Misconfigured."""
    v4: list[IPv4Network] = []
    v6: list[IPv6Network] = []
    for part in (one.strip() for one in written.split(",") if one.strip()):
        try:
            network = ip_network(part, strict=False)
        except ValueError:
            raise Misconfigured(f"QORGAN_FORBIDDEN_NETWORKS: {part[:60]!r} is no network, as 10.0.0.0/8 is.") from None
        if isinstance(network, IPv4Network):
            v4.append(network)
        else:
            v6.append(network)
    return Networks(tuple(v4), tuple(v6))


# httpx ------------------------------------------------------------------------------------------------------------


class _HeldBackend(httpcore.AsyncNetworkBackend):
    """Connects to what a name stands for, if that is not forbidden."""

    def __init__(self, forbidden: Networks, inner: httpcore.AsyncNetworkBackend) -> None:
        self._forbidden = forbidden
        self._inner = inner

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except TimeoutError:
            raise httpcore.ConnectTimeout("the name was not resolved in time") from None
        except (OSError, UnicodeError):
            raise httpcore.ConnectError("the name is not known") from None
        addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
        allowed = [address for address in addresses if not self._forbidden.refuse(address)]
        if not allowed:
            raise ForbiddenAddress
        failure: Exception = httpcore.ConnectError("the name stands for no address")
        for address in allowed[:ADDRESSES_TRIED]:
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


class HeldTransport(httpx.AsyncHTTPTransport):
    """As httpx's own, without the environment's proxies, to what is not forbidden. Raises ForbiddenAddress besides."""

    def __init__(self, forbidden: Networks, limits: httpx.Limits) -> None:
        super().__init__(limits=limits, trust_env=False)
        if not forbidden:
            return
        # TLS goes on checking the name: only where the bytes go is decided here.
        inner = self._pool._network_backend  # noqa: SLF001 - httpx has no setting for it
        self._pool._network_backend = _HeldBackend(forbidden, inner)  # noqa: SLF001


# whatever else connects -------------------------------------------------------------------------------------------


@dataclass
class Guard:
    """What holds within `guarded`, in whichever thread."""

    forbidden: Networks
    refused: bool = False
    """Whether something was to be sent where it may not: libraries swallow what they do not expect."""


_guard: ContextVar[Guard | None] = ContextVar("guard", default=None)
_hooked = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in CONNECTS:
        return
    guard = _guard.get()
    if guard is None:
        return
    address = arguments[1]
    if address is None:  # of a socket that was held when it was connected
        return
    # No tuple: a socket of this machine.
    if not isinstance(address, tuple) or guard.forbidden.refuse(str(address[0])):
        guard.refused = True
        raise ForbiddenAddress


@contextlib.contextmanager
def guarded(forbidden: Networks) -> Iterator[Guard]:
    """Within it, and in threads that take over its context, no connection is made into a forbidden network."""
    global _hooked
    guard = Guard(forbidden)
    if not forbidden:
        yield guard
        return
    if not _hooked:
        sys.addaudithook(_hook)  # for the life of the process; there is no taking it off again
        _hooked = True
    token = _guard.set(guard)
    try:
        yield guard
    finally:
        _guard.reset(token)
