"""A fleet: thousands of devices at a steady, open-loop rate, one ping a frame, every acknowledgement tracked.

Model: `rate` pings a second are offered over all links in turn whether or not the service keeps up, because
bracelets do not wait for each other. A fleet too slow for its own rate says so (`behind`) instead of quietly
measuring itself. What is not acknowledged is kept and sent again after a reconnection.

    python -m device_sim.fleet --config FILE             plays the file's rate and duration, prints the result
    python -m device_sim.fleet --config FILE --control   reads {"rate": n} and {"stop": true} lines from standard
                                                         input, prints a line of figures a second
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import math
import resource
import sys
import time
from collections import deque
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from device_sim.clock import now_ms, rfc3339
from device_sim.errors import FleetError
from device_sim.fleet_link import FleetDevice, Link
from device_sim.geodesy import Frame, Point
from device_sim.wire import stream_address

TICK_S: Final = 0.004
"""Pings due are offered so often."""
BURST_MAX: Final = 2_000
"""Most pings offered at one tick."""
BEHIND_MAX_S: Final = 2.0
"""A fleet later than this gives up what it is late by, and counts it as `behind`."""
CONNECTING_MAX: Final = 100
"""Handshakes at a time."""
CONNECT_TIMEOUT_S: Final = 60.0
CLOSE_TIMEOUT_S: Final = 5.0
SAMPLES_MAX: Final = 20_000
POSITIONS: Final = 8
"""Positions a device moves between; a power of two."""
CENTRE: Final = Point(43.2380, 76.9450)
ALMATY_M: Final = 20_000.0
"""Devices are spread over a square of this side."""
APART_M: Final = 30_000.0
"""Victims and aggressors are spread over two squares so far apart, so that load alone raises nothing."""


class FleetMember(msgspec.Struct):
    """A device of the fleet: its id in gateway mode, its token else, and where it is."""

    device_id: str
    token: str | None = None
    lat: float = CENTRE.lat
    lon: float = CENTRE.lon


class FleetConfig(msgspec.Struct, kw_only=True):
    """What to play. With `gateway_token`, `connections` links speak for all devices; else each has its own link."""

    stream_url: str
    devices: list[FleetMember]
    connections: int = 0
    """0: one a device."""
    gateway_token: str | None = None
    rate: float = 0.0
    """Pings a second."""
    duration_s: float = 0.0
    drain_s: float = 10.0
    """How long acknowledgements are waited for in the end."""

    @classmethod
    def from_seed(
        cls, world: Mapping[str, Any], stream_url: str, *, connections: int, rate: float, seconds: float
    ) -> FleetConfig:
        """All devices of a seed file through its gateway; raises FleetError when the file is not one."""
        try:
            devices, token = spread_pairs(world["pairs"]), str(world["gateway"]["token"])
        except (KeyError, TypeError):
            raise FleetError("A load needs a seed file's pairs and its gateway's token.") from None
        return cls(
            stream_url=stream_url,
            devices=devices,
            gateway_token=token,
            connections=connections,
            rate=rate,
            duration_s=seconds,
        )


class FleetResult(msgspec.Struct, kw_only=True):
    """Figures since the start, except the acknowledgement times: those of the latest samples."""

    elapsed_s: float
    connected: int
    sent: int
    """Pings offered to a link, each counted once."""
    acked: int
    refused: int
    """Refused for their content."""
    resent: int
    """Frames sent again, or late, after a reconnection."""
    held: int
    """Not made, because their link already kept as many as it may."""
    behind: int
    """Not made, because the fleet itself was too slow."""
    waiting: int
    """Not acknowledged yet."""
    reconnects: int
    codes: dict[str, int]
    """Errors seen, by the service's code or the connection's trouble."""
    rate: float
    """Acknowledged pings a second since the start."""
    ack_p50_ms: float | None
    ack_p99_ms: float | None
    cpu_s: float
    """Processor seconds of the fleet's own process."""

    @property
    def acknowledged(self) -> int:
        """Pings the service has durably."""
        return self.acked

    @property
    def seconds(self) -> float:
        """How long it took, to the last acknowledgement."""
        return self.elapsed_s

    @property
    def errors(self) -> int:
        """Errors of any kind."""
        return sum(self.codes.values())


def spread_pairs(pairs: Sequence[Mapping[str, Any]], *, with_tokens: bool = False, seed: int = 1) -> list[FleetMember]:
    """The devices of a seed file's pairs, victims spread over the city, aggressors over one 30 km east of it."""
    random = np.random.default_rng(seed)
    members = []
    for pair in pairs:
        for actor, centre_east_m in (("victim", 0.0), ("aggressor", APART_M)):
            east_m, north_m = random.uniform(-ALMATY_M / 2, ALMATY_M / 2, 2).tolist()
            place = Frame(CENTRE).point(centre_east_m + east_m * 0.9, north_m)
            token = pair[actor]["token"] if with_tokens else None
            members.append(FleetMember(pair[actor]["device_id"], token, place.lat, place.lon))
    return members


def _frames_of(member: FleetMember, by_gateway: bool) -> FleetDevice:
    head = b'{"device_id":"%b","seq":' % member.device_id.encode() if by_gateway else b'{"seq":'
    frame = Frame(Point(member.lat, member.lon))
    tails = []
    for turn in range(POSITIONS):
        angle = 2 * math.pi * turn / POSITIONS
        place = frame.point(20 * math.cos(angle), 20 * math.sin(angle))
        tails.append(
            b',"lat":%.6f,"lon":%.6f,"accuracy_m":9.5,"speed_mps":1.3,"heading_deg":%d,"battery_pct":81,"source":"gps"}'
            % (place.lat, place.lon, 360 * turn // POSITIONS)
        )
    return FleetDevice(head, tuple(tails))


class Fleet:
    """A running load; `start`, change the rate at will, `stop`."""

    def __init__(self, config: FleetConfig) -> None:
        if not config.devices:
            raise FleetError("A fleet needs devices.")
        if config.gateway_token is None and any(member.token is None for member in config.devices):
            raise FleetError("Without a gateway token every device needs its own.")
        if not math.isfinite(config.rate) or config.rate < 0:
            raise FleetError(f"A rate is a number of pings a second, not {config.rate}.")
        self._config = config
        self.sent = self.acked = self.resent = self.reconnects = self.refused = self.held = self.behind = 0
        self.errors: dict[str, int] = {}
        self._samples: deque[float] = deque(maxlen=SAMPLES_MAX)
        self._stopping = asyncio.Event()
        self._links = self._make_links()
        self._tasks: list[asyncio.Task[None]] = []
        self._rate = 0.0
        self._issued = 0.0
        self._since_s = 0.0
        self._begun_s = 0.0

    def _make_links(self) -> list[Link]:
        config = self._config
        address = stream_address(config.stream_url)
        clock = asyncio.get_running_loop().time
        by_gateway = config.gateway_token is not None
        devices = [_frames_of(member, by_gateway) for member in config.devices]
        if config.gateway_token is None:
            tokens = [member.token or "" for member in config.devices]
            wanted = config.connections or len(devices)
            return [
                Link(address, token, [device], self, clock)
                for token, device in itertools.islice(zip(tokens, devices, strict=True), wanted)
            ]
        count = min(config.connections or len(devices), len(devices))
        return [Link(address, config.gateway_token, devices[n::count], self, clock) for n in range(count)]

    def took(self, seconds: float) -> None:
        """A link saw a ping acknowledged after so long."""
        self._samples.append(seconds)

    async def start(self) -> None:
        """Connect every link; raises FleetError when that takes more than CONNECT_TIMEOUT_S."""
        _allow_files(len(self._links) + 100)
        loop = asyncio.get_running_loop()
        gate = asyncio.Semaphore(CONNECTING_MAX)
        self._begun_s = loop.time()
        self._tasks = [asyncio.create_task(link.keep_connected(gate, self._stopping)) for link in self._links]
        while not all(link.connected for link in self._links):
            if loop.time() - self._begun_s > CONNECT_TIMEOUT_S:
                up = sum(link.connected for link in self._links)
                await self.stop(drain_s=0)
                raise FleetError(f"Only {up} of {len(self._links)} links were connected; errors: {self.errors}.")
            await asyncio.sleep(0.02)
        self._begun_s = loop.time()
        self.set_rate(self._config.rate)
        self._tasks.append(asyncio.create_task(self._offer()))

    def set_rate(self, rate: float) -> None:
        """Offer so many pings a second from now on."""
        self._rate, self._issued = rate, 0.0
        self._since_s = asyncio.get_running_loop().time()
        if rate > 0:
            self._samples.clear()  # the figures are those of this rate

    async def _offer(self) -> None:
        loop = asyncio.get_running_loop()
        turn = 0
        while True:
            due = int((loop.time() - self._since_s) * self._rate - self._issued)
            if due > max(BEHIND_MAX_S * self._rate, 1):
                self.behind += due
                self._issued += due
            elif due > 0:
                due = min(due, BURST_MAX)
                at = rfc3339(now_ms()).encode()
                for link in (self._links[(turn + n) % len(self._links)] for n in range(due)):
                    link.offer(at)
                turn = (turn + due) % len(self._links)
                self._issued += due
            for link in self._links if self.resent or self.reconnects else ():
                if link.lagging:
                    link.resend()
            await asyncio.sleep(TICK_S)

    async def drain(self, timeout_s: float) -> bool:
        """Offer nothing and wait until all is acknowledged; whether it was in time."""
        self.set_rate(0)
        loop = asyncio.get_running_loop()
        until_s = loop.time() + timeout_s
        while any(link.waiting for link in self._links):
            if loop.time() >= until_s:
                return False
            await asyncio.sleep(0.02)
        return True

    async def stop(self, drain_s: float | None = None) -> FleetResult:
        """Drain, take the figures, close every link; a second call only takes the figures."""
        if self._tasks and not self._stopping.is_set():
            await self.drain(self._config.drain_s if drain_s is None else drain_s)
        result = self.figures()
        self._stopping.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        for link in self._links:
            link.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*(link.lost.wait() for link in self._links)), CLOSE_TIMEOUT_S)
        return result

    def figures(self) -> FleetResult:
        """The figures now."""
        elapsed_s = asyncio.get_running_loop().time() - self._begun_s
        samples = np.array(self._samples) * 1000
        return FleetResult(
            elapsed_s=elapsed_s,
            connected=sum(link.connected for link in self._links),
            sent=self.sent,
            acked=self.acked,
            refused=self.refused,
            resent=self.resent,
            held=self.held,
            behind=self.behind,
            waiting=sum(link.waiting for link in self._links),
            reconnects=self.reconnects,
            codes=dict(self.errors),
            rate=self.acked / elapsed_s if elapsed_s > 0 else 0.0,
            ack_p50_ms=float(np.percentile(samples, 50)) if samples.size else None,
            ack_p99_ms=float(np.percentile(samples, 99)) if samples.size else None,
            cpu_s=time.process_time(),
        )


async def run_fleet(config: FleetConfig, stopping: asyncio.Event | None = None) -> FleetResult:
    """Play a configuration's rate for its duration (or until `stopping`), then wait for what is unacknowledged."""
    fleet = Fleet(config)
    await fleet.start()
    try:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for((stopping or asyncio.Event()).wait(), config.duration_s)
    finally:
        result = await fleet.stop()
    return result


async def run_controlled(config: FleetConfig) -> FleetResult:
    """Play what standard input says, and print a line of figures a second; its end is the end."""
    fleet = Fleet(config)
    await fleet.start()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    telling = asyncio.create_task(_tell(fleet))
    try:
        while line := await reader.readline():
            command = msgspec.json.decode(line)
            if command.get("stop"):
                break
            fleet.set_rate(float(command["rate"]))
    finally:
        telling.cancel()
        result = await fleet.stop()
    return result


async def _tell(fleet: Fleet) -> None:
    while True:
        _print(fleet.figures())
        await asyncio.sleep(1)


def _print(result: FleetResult) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
    sys.stdout.buffer.flush()


def _allow_files(wanted: int) -> None:
    """Raise this process's limit of open files as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        ceiling = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, ceiling), hard))


def main(arguments: Sequence[str] | None = None) -> int:
    """Play a fleet in a process of its own; the last line printed is the result."""
    parser = argparse.ArgumentParser(prog="python -m device_sim.fleet", description="Play a load of pings.")
    parser.add_argument("--config", type=Path, required=True, help="JSON file of a FleetConfig")
    parser.add_argument("--control", action="store_true", help="take rates from standard input")
    given = parser.parse_args(arguments)
    try:
        config = msgspec.json.decode(given.config.read_bytes(), type=FleetConfig)
        play = run_controlled(config) if given.control else run_fleet(config)
        _print(_run(play))
    except (OSError, msgspec.MsgspecError, FleetError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _run(play: Coroutine[Any, Any, FleetResult]) -> FleetResult:
    """Run on the fastest loop there is."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(play)
    return uvloop.run(play)


if __name__ == "__main__":
    sys.exit(main())
