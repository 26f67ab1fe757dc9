"""Scenarios: a story of a victim and an aggressor, played against the real service.

Model: each actor has a device with a task that sends and a task that moves it; events wait for their moment. All
moments of a script are scenario seconds; `speedup` makes them pass faster (people move faster, pings come
oftener), while the pings bear the true time of day.

Ends at its duration, when `stopping` is set, or when a token is refused; each device then waits a little for
what is in flight.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from device_sim.battery import BRACELET, PHONE, Battery
from device_sim.clock import now_ms
from device_sim.device import ActorCredentials, Counts, Device
from device_sim.errors import PanicRefused, ScenarioError, SimulatorError
from device_sim.geodesy import Point, distance_m
from device_sim.phone import PanicAnswer, PanicButton
from device_sim.routes import Route
from device_sim.script import (
    ActorScript,
    EventScript,
    Script,
    make_noise,
    make_radio,
    make_route,
    read_script,
    script_names,
)

SHORTEST_INTERVAL_S: Final = 0.05
"""Wall-clock seconds between two pings of one device, however much a scenario is sped up."""
MOST_SPEEDUP: Final = 1000.0
DISTANCE_NEWS_S: Final = 5.0
"""Wall-clock seconds between two lines that tell the true distance."""

__all__ = [
    "ActorCredentials",
    "Scenario",
    "ScenarioError",
    "ScenarioResult",
    "load_scenario",
    "run_scenario",
    "scenario_names",
]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A checked scenario."""

    name: str
    script: Script

    @property
    def title(self) -> str:
        """One line about it."""
        return self.script.title

    @property
    def actors(self) -> tuple[str, ...]:
        """Whose credentials it needs."""
        return tuple(self.script.actors)

    @property
    def duration_s(self) -> float:
        """How long it plays, in scenario seconds."""
        return self.script.duration_s


@dataclass(slots=True)
class ScenarioResult:
    """What came of it."""

    name: str
    elapsed_s: float = 0.0
    counts: dict[str, Counts] = field(default_factory=dict)
    unacked: dict[str, int] = field(default_factory=dict)
    """Pings that were not acknowledged when it ended, by actor."""
    panics: list[PanicAnswer] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether everything sent was acknowledged and nothing went wrong."""
        return not self.problems and not any(self.unacked.values())


def scenario_names() -> tuple[str, ...]:
    """Names of the scenarios that come with the simulator."""
    return script_names()


def load_scenario(name_or_path: str | Path) -> Scenario:
    """A scenario by name or TOML file; raises ScenarioError, which lists the known names."""
    return Scenario(*read_script(name_or_path))


async def run_scenario(
    scenario: Scenario,
    actors: Mapping[str, ActorCredentials],
    base_url: str,
    stream_url: str,
    on_event: Callable[[str], None] = lambda _: None,
    speedup: float = 1.0,
    stopping: asyncio.Event | None = None,
) -> ScenarioResult:
    """Play a scenario to its end, or until `stopping`.

    `actors`: credentials by actor name, as in a pair of the seed file. Raises ScenarioError when one is
    missing or the speed-up is not a number between 0 and MOST_SPEEDUP.
    """
    if missing := set(scenario.actors) - set(actors):
        raise ScenarioError(f"The scenario {scenario.name} needs credentials of {', '.join(sorted(missing))}.")
    if not 0 < speedup <= MOST_SPEEDUP:
        raise ScenarioError(f"The speed-up must be above 0 and at most {MOST_SPEEDUP:g}, not {speedup:g}.")
    stage = _Stage(scenario, actors, base_url, stream_url, on_event, speedup)
    return await stage.play(stopping or asyncio.Event(), held=scenario.script.hold and stopping is not None)


class _Actor:
    """One actor on the stage: a route, a receiver, a radio and a device."""

    def __init__(self, name: str, script: ActorScript, scenario: Script, device: Device) -> None:
        seed = scenario.seed * 1000 + (0 if name == "victim" else 1)
        self.name = name
        self.script = script
        self.route: Route = make_route(scenario, script, seed)
        self.noise = make_noise(script, seed)
        self.radio = make_radio(script, seed)
        self.device = device
        self.device.battery_pct = script.battery_pct
        energy = PHONE if name == "victim" else BRACELET
        self.battery = Battery(energy, hours=script.battery_hours, interval_s=script.interval_s)
        self.offline = False
        self.silent = False

    @property
    def interval_s(self) -> float:
        """Scenario seconds to the next ping."""
        asked_s = self.device.asked_interval_s
        if not self.script.obey or asked_s is None:
            return self.script.interval_s
        return min(self.script.interval_s, asked_s)

    def drain_battery(self, elapsed_s: float, *, fixed: bool) -> None:
        """Take from the battery what time, a fix and its transmission need; on a charger nothing goes."""
        drained_pct = self.battery.drained_pct(elapsed_s, fixed=fixed, sent=fixed and self.device.radio_up)
        if not self.device.charging:
            self.device.battery_pct = max(0.0, self.device.battery_pct - drained_pct)


class _Stage:
    def __init__(
        self,
        scenario: Scenario,
        credentials: Mapping[str, ActorCredentials],
        base_url: str,
        stream_url: str,
        on_event: Callable[[str], None],
        speedup: float,
    ) -> None:
        self._scenario = scenario
        self._base_url = base_url
        self._tell = on_event
        self._speedup = speedup
        self._result = ScenarioResult(scenario.name)
        self._over = asyncio.Event()
        """Set when the actors stop moving; devices then send what they still have."""
        self._panics: set[asyncio.Task[None]] = set()
        self._begun_s = 0.0
        self._actors: dict[str, _Actor] = {}
        for name, script in scenario.script.actors.items():
            device = Device(
                credentials[name],
                base_url=base_url,
                stream_url=stream_url,
                by_http=script.road == "http",
                on_news=lambda news, name=name: on_event(f"{name}: {news}"),  # type: ignore[misc]
            )
            self._actors[name] = _Actor(name, script, scenario.script, device)

    @property
    def _elapsed_s(self) -> float:
        """Scenario seconds since the start."""
        return (asyncio.get_running_loop().time() - self._begun_s) * self._speedup

    async def play(self, stopping: asyncio.Event, *, held: bool) -> ScenarioResult:
        self._begun_s = asyncio.get_running_loop().time()
        self._tell(f"{self._scenario.name}: {self._scenario.title}")
        lives = [asyncio.create_task(self._live(actor)) for actor in self._actors.values()]
        moves = [asyncio.create_task(self._move(actor)) for actor in self._actors.values()]
        moves += [asyncio.create_task(self._happenings()), asyncio.create_task(self._tell_distances())]
        stopper = asyncio.create_task(stopping.wait())
        ended: asyncio.Future[Any] = asyncio.gather(*lives)
        either: list[asyncio.Future[Any]] = [stopper, ended]
        try:
            length_s = None if held else self._scenario.duration_s / self._speedup
            await asyncio.wait(either, timeout=length_s, return_when=asyncio.FIRST_COMPLETED)
            await self._settle(moves)
            await ended
        finally:
            for task in (stopper, *moves, *lives, *self._panics):
                task.cancel()
            await asyncio.gather(stopper, *moves, *lives, *self._panics, return_exceptions=True)
        self._result.elapsed_s = asyncio.get_running_loop().time() - self._begun_s
        for name, actor in self._actors.items():
            self._result.counts[name] = actor.device.counts
            self._result.unacked[name] = actor.device.unacked
        return self._result

    async def _settle(self, moves: list[asyncio.Task[None]]) -> None:
        """Stop moving; let pressed panics be answered."""
        for task in moves:
            task.cancel()
        for outcome in await asyncio.gather(*moves, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome
        if self._panics:
            await asyncio.wait(self._panics, timeout=5)
        self._over.set()

    async def _live(self, actor: _Actor) -> None:
        """The device's own task; a refused token ends the device, and is told."""
        try:
            await actor.device.run(self._over)
        except SimulatorError as error:
            self._result.problems.append(f"{actor.name}: {error}")
            self._tell(f"{actor.name}: {error}")

    async def _move(self, actor: _Actor) -> None:
        """Ping, wait the interval, ping again."""
        loop = asyncio.get_running_loop()
        while True:
            elapsed_s = self._elapsed_s
            actor.device.set_radio(not actor.offline and actor.radio.is_up(elapsed_s))
            silent = actor.silent or actor.device.battery_pct <= 0
            actor.drain_battery(elapsed_s, fixed=not silent)
            if not silent:
                motion = actor.route.at(elapsed_s)
                fix = actor.noise.fix(motion.point, elapsed_s)
                late_s = (actor.radio.release_s(elapsed_s) - elapsed_s) / self._speedup
                if late_s > 0:
                    loop.call_later(late_s, actor.device.record, fix, motion, now_ms())
                else:
                    actor.device.record(fix, motion, now_ms())
            await asyncio.sleep(max(SHORTEST_INTERVAL_S, actor.interval_s / self._speedup))

    async def _happenings(self) -> None:
        for event in sorted(self._scenario.script.events, key=lambda event: event.at_s):
            await asyncio.sleep(max(0.0, (event.at_s - self._elapsed_s) / self._speedup))
            self._happen(self._actors[event.actor], event)

    def _happen(self, actor: _Actor, event: EventScript) -> None:
        device = actor.device
        match event.kind:
            case "panic":
                self._tell(f"{actor.name}: presses the panic button ({event.mode})")
                task = asyncio.create_task(self._press(actor, event))
                self._panics.add(task)
                task.add_done_callback(self._panics.discard)
                return
            case "strap_open" | "strap_close":
                device.strap = "open" if event.kind == "strap_open" else "closed"
            case "casing_open":
                device.casing = "open"
            case "offline" | "online":
                actor.offline = event.kind == "offline"
            case "silence" | "resume":
                actor.silent = event.kind == "silence"
            case "battery":
                device.battery_pct = event.battery_pct
            case "jamming":
                device.jamming = True
        self._tell(f"{actor.name}: {event.kind.replace('_', ' ')}")
        if not actor.silent:  # a bracelet says at once what happens to it
            motion = actor.route.at(self._elapsed_s)
            device.set_radio(not actor.offline)
            device.record(actor.noise.fix(motion.point, self._elapsed_s), motion, now_ms())

    async def _press(self, actor: _Actor, event: EventScript) -> None:
        place = actor.route.at(self._elapsed_s).point
        button = PanicButton(actor.device.credentials, self._base_url)
        try:
            answer = await button.press(place, accuracy_m=10.0, mode=event.mode, note=event.note)
        except PanicRefused as error:
            self._result.problems.append(f"{actor.name}: {error}")
            self._tell(f"{actor.name}: {error}")
            return
        self._result.panics.append(answer)
        incident = f"incident {answer.incident_id}" if answer.incident_id else "incident follows"
        self._tell(f"{actor.name}: panic answered in {answer.elapsed_ms:.0f} ms, {incident}")

    def _places(self) -> list[Point]:
        return [actor.route.at(self._elapsed_s).point for actor in self._actors.values()]

    async def _tell_distances(self) -> None:
        last_m: float | None = None
        while len(self._actors) == 2:
            apart_m = distance_m(*self._places())
            if last_m is None or abs(apart_m - last_m) >= 1:
                self._tell(f"truly {apart_m:,.0f} m apart")
            last_m = apart_m
            await asyncio.sleep(DISTANCE_NEWS_S)
