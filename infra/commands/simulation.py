"""`qorgan sim`: simulated bracelets and phones over the public contract."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from core.errors import InvalidInput, Misconfigured
from infra.terminal import address_of, out, until_interrupted

sim_app = typer.Typer(help="Simulated bracelets and phones over the public contract.", no_args_is_help=True)

DEFAULT_SEED_FILE = Path("seed.json")


@sim_app.command("list")
def sim_list() -> None:
    """Name the scenarios there are."""
    from device_sim.scenario import load_scenario, scenario_names

    console = out()
    for name in scenario_names():
        console.print(f"{name:<20} {load_scenario(name).title}")


def read_seed(path: Path) -> dict[str, Any]:
    """The file `qorgan seed` wrote; raises InvalidInput."""
    try:
        world = json.loads(path.read_text())
        if not world["pairs"]:
            raise KeyError("pairs")
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}; make it with `qorgan seed`.") from None
    except (ValueError, KeyError, TypeError):
        raise InvalidInput(f"{path} is not a file of `qorgan seed`; make it anew.") from None
    return dict(world)


@sim_app.command("play")
def sim_play(
    scenario: Annotated[str, typer.Argument(help="A scenario's name, or the path of a TOML file.")],
    seed_file: Annotated[Path, typer.Option("--seed", help="File written by `qorgan seed`.")] = DEFAULT_SEED_FILE,
    pair: Annotated[int, typer.Option(min=0, help="Which pair of the file plays.")] = 0,
    speedup: Annotated[float, typer.Option(min=0.1, max=100, help="How much faster than life.")] = 1.0,
    url: Annotated[str | None, typer.Option(help="Address of the API; else the one running here.")] = None,
) -> None:
    """Play a scenario with one pair's devices."""
    from device_sim.scenario import ActorCredentials, ScenarioError, load_scenario, run_scenario

    try:
        loaded = load_scenario(scenario)
    except ScenarioError as error:
        raise InvalidInput(str(error)) from None
    world = read_seed(seed_file)
    if pair >= len(world["pairs"]):
        raise InvalidInput(f"{seed_file} has {len(world['pairs'])} pairs; --pair counts from 0.")
    actors = {
        role: ActorCredentials(
            device_id=world["pairs"][pair][role]["device_id"], token=world["pairs"][pair][role]["token"]
        )
        for role in ("victim", "aggressor")
    }
    api_url, stream_url = address_of(url)
    stream_url = stream_url or world["stream_url"]
    tell = out().print
    until_interrupted(
        lambda stop: run_scenario(loaded, actors, api_url, stream_url, tell, speedup=speedup, stopping=stop)
    )


@sim_app.command("fleet")
def sim_fleet(
    seed_file: Annotated[Path, typer.Option("--seed", help="File written by `qorgan seed`.")] = DEFAULT_SEED_FILE,
    rate: Annotated[float, typer.Option(min=1, help="Pings a second, all devices together.")] = 1000.0,
    connections: Annotated[int, typer.Option(min=1, max=20_000, help="Open connections.")] = 200,
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="How long.")] = 10.0,
    url: Annotated[str | None, typer.Option(help="Address of the API; else the one running here.")] = None,
) -> None:
    """Send pings of many devices at a steady rate, one ping a frame, and count what was acknowledged."""
    from device_sim.errors import FleetError
    from device_sim.fleet import FleetConfig, run_fleet

    world = read_seed(seed_file)
    stream_url = address_of(url)[1] or world["stream_url"]
    try:
        config = FleetConfig.from_seed(world, stream_url, connections=connections, rate=rate, seconds=seconds)
        result = until_interrupted(lambda stop: run_fleet(config, stop))
    except FleetError as error:
        raise Misconfigured(str(error)) from None
    out().print(
        f"{result.sent:,} pings sent, {result.acknowledged:,} acknowledged, {result.errors:,} refused "
        f"({result.acknowledged / result.seconds:,.0f} a second)"
    )
