"""Scripts: a scenario as its TOML file writes it, checked, and turned into routes, noise and radios.

title = "One line about it"
duration_s = 60
origin = [43.2380, 76.9450]         # the metres below are east and north of it
hold = true                         # go on after the last second until told to stop

[actors.victim]
interval_s = 5
noise = "city"                      # city | open_sky | exact
route = { kind = "stay", points_m = [[0, 0]] }

[[events]]
at_s = 22
actor = "victim"
kind = "panic"
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final, Literal

import msgspec

from device_sim.errors import ScenarioError
from device_sim.geodesy import Frame, Point
from device_sim.noise import CITY, OPEN_SKY, CityNoise, Exact, Noise
from device_sim.radio import Radio
from device_sim.routes import DRIVING_MPS, WALKING_MPS, Loiter, Route, Stay
from device_sim.routes import Path as Way

SCENARIOS: Final = Path(__file__).parent / "scenarios"
ACTORS: Final = ("victim", "aggressor")
SCRIPT_BYTES_MAX: Final = 1_048_576
DURATION_MAX_S: Final = 30 * 86_400.0

EventKind = Literal[
    "panic", "strap_open", "strap_close", "casing_open", "offline", "online", "silence", "resume", "battery", "jamming"
]


class RouteScript(msgspec.Struct, forbid_unknown_fields=True):
    """Where an actor goes; `points` in degrees (lat, lon) or `points_m` in metres (east, north) of the origin."""

    kind: Literal["stay", "walk", "drive", "loiter"]
    points: list[tuple[float, float]] = []
    points_m: list[tuple[float, float]] = []
    speed_mps: float | None = None
    start_s: float = 0.0
    loop: bool = False
    radius_m: float = 100.0
    rest_s: float = 20.0


class RadioScript(msgspec.Struct, forbid_unknown_fields=True):
    """When an actor's device reaches the network."""

    dropouts: list[tuple[float, float]] = []
    mean_up_s: float | None = None
    mean_down_s: float = 30.0
    delay_s: float = 0.0


class ActorScript(msgspec.Struct, forbid_unknown_fields=True):
    """One actor: how she moves and what her device is like."""

    route: RouteScript
    interval_s: float = 5.0
    obey: bool = True
    """Whether the device follows the interval the service asks for, when it is shorter."""
    noise: Literal["city", "open_sky", "exact"] = "city"
    road: Literal["stream", "http"] = "stream"
    battery_pct: float = 90.0
    battery_hours: float = 48.0
    """How long a full battery lasts at `interval_s`; asked for more pings it lasts less (`device_sim.battery`)."""
    radio: RadioScript = msgspec.field(default_factory=RadioScript)


class EventScript(msgspec.Struct, forbid_unknown_fields=True):
    """Something that happens to an actor at a moment."""

    at_s: float
    actor: str
    kind: EventKind
    mode: Literal["silent", "audible"] = "silent"
    note: str | None = None
    battery_pct: float = 5.0


class Script(msgspec.Struct, forbid_unknown_fields=True):
    """A scenario file."""

    title: str
    duration_s: float
    origin: tuple[float, float]
    actors: dict[str, ActorScript]
    events: list[EventScript] = []
    seed: int = 1
    hold: bool = False
    """Whether it goes on after `duration_s` until told to stop."""


def script_names() -> tuple[str, ...]:
    """Names of the scenarios that come with the simulator."""
    return tuple(sorted(path.stem for path in SCENARIOS.glob("*.toml")))


def read_script(name_or_path: str | Path) -> tuple[str, Script]:
    """A scenario's name and script, by its name or from a TOML file; raises ScenarioError."""
    text, name = _text(name_or_path)
    try:
        script = msgspec.convert(tomllib.loads(text), Script)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"The scenario {name} is not valid TOML: {error}.") from None
    except msgspec.ValidationError as error:
        raise ScenarioError(f"The scenario {name} cannot be played: {error}.") from None
    _check(name, script)
    return name, script


def _text(name_or_path: str | Path) -> tuple[str, str]:
    given = str(name_or_path)
    path = SCENARIOS / f"{given}.toml" if given in script_names() else Path(given)
    if path.suffix != ".toml" and not path.is_file():
        known = ", ".join(script_names())
        raise ScenarioError(f"There is no scenario {given!r}; known are {known}, or give a .toml file.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ScenarioError(f"The scenario file {given} cannot be read ({error.strerror}).") from None
    if len(content) > SCRIPT_BYTES_MAX:
        raise ScenarioError(f"The scenario file {given} is larger than {SCRIPT_BYTES_MAX} bytes.")
    try:
        return content.decode(), path.stem
    except UnicodeDecodeError:
        raise ScenarioError(f"The scenario file {given} is not UTF-8 text.") from None


def _check(name: str, script: Script) -> None:
    """What the types cannot say; raises ScenarioError."""
    problem = None
    if not 0 < script.duration_s <= DURATION_MAX_S:
        problem = f"duration_s must be above 0 and at most {DURATION_MAX_S:g}"
    elif not script.actors or set(script.actors) - set(ACTORS):
        problem = f"actors must be one or more of {', '.join(ACTORS)}"
    elif unknown := {event.actor for event in script.events} - set(script.actors):
        problem = f"an event names {', '.join(sorted(unknown))}, who is not among its actors"
    elif any(not 0 <= event.at_s <= script.duration_s for event in script.events):
        problem = "an event lies outside its duration"
    elif any(actor.interval_s <= 0 or actor.battery_hours <= 0 for actor in script.actors.values()):
        problem = "interval_s and battery_hours must be above 0"
    if problem is not None:
        raise ScenarioError(f"The scenario {name} cannot be played: {problem}.")
    for actor, actor_script in script.actors.items():
        try:
            make_route(script, actor_script, 0)
            make_radio(actor_script, 0)
        except ValueError as error:
            raise ScenarioError(f"The scenario {name} cannot be played: {actor}: {error}") from None


def make_route(script: Script, actor: ActorScript, seed: int) -> Route:
    """The actor's route; raises ValueError when it cannot be."""
    frame = Frame(Point(*script.origin))
    told = actor.route
    points = [Point(*point) for point in told.points] + [frame.point(*point) for point in told.points_m]
    if not points:
        raise ValueError("A route needs points or points_m.")
    if told.kind == "stay":
        return Stay(points[0])
    if told.kind == "loiter":
        return Loiter(points[0], told.radius_m, told.speed_mps or WALKING_MPS, rest_s=told.rest_s, seed=seed)
    usual_mps = WALKING_MPS if told.kind == "walk" else DRIVING_MPS
    speed_mps = usual_mps if told.speed_mps is None else told.speed_mps
    return Way(points, speed_mps, start_s=told.start_s, loop=told.loop)


def make_noise(actor: ActorScript, seed: int) -> Noise:
    """The actor's receiver."""
    if actor.noise == "exact":
        return Exact()
    return CityNoise(seed, CITY if actor.noise == "city" else OPEN_SKY)


def make_radio(actor: ActorScript, seed: int) -> Radio:
    """The actor's radio; raises ValueError when it cannot be."""
    told = actor.radio
    return Radio(
        dropouts=told.dropouts,
        mean_up_s=told.mean_up_s,
        mean_down_s=told.mean_down_s,
        delay_s=told.delay_s,
        seed=seed,
    )
