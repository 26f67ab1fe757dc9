"""The `qorgan` command.

Exit status: 0 done, 1 failed with one clear line on standard error, 2 wrong usage.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from core.clock import utc_now
from core.errors import Misconfigured, QorganError
from core.settings import Settings
from infra.commands.audit import audit_app
from infra.commands.erasures import erasure_app
from infra.commands.evidence import evidence_app
from infra.commands.feasibility import feasibility
from infra.commands.keys import keys_app
from infra.commands.logins import logins
from infra.commands.outage_sheet import outage_sheet
from infra.commands.retention import retention_app
from infra.commands.simulation import sim_app
from infra.commands.statistics import statistics
from infra.commands.users import user_app
from infra.stores import find_running, forget_running, open_stores
from infra.terminal import address_of, fail, load_settings, out, progress, until_interrupted

app = typer.Typer(
    name="qorgan",
    help="Qorgan: keeps a protected person and the person a court keeps away from her apart.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

app.add_typer(user_app, name="user")

app.add_typer(keys_app, name="keys")
app.add_typer(erasure_app, name="erasure")
app.add_typer(audit_app, name="audit")
app.add_typer(evidence_app, name="evidence")
app.add_typer(retention_app, name="retention")
app.add_typer(sim_app, name="sim")
app.command()(feasibility)
app.command()(logins)
app.command("outage-sheet")(outage_sheet)
app.command()(statistics)


@app.command()
def demo(
    port: Annotated[
        int | None, typer.Option(help="Port of the API and the console; the stream takes the next.")
    ] = None,
    scenario: Annotated[str, typer.Option(help="Scenario to play; `qorgan sim list` names them.")] = "demo",
) -> None:
    """Show the main job: a breach and a panic arrive on the feed, the console and a real channel."""
    from infra.demo import run_demo

    run_demo(load_settings(port=port), out(), scenario=scenario)


@app.command()
def run(
    only: Annotated[
        str | None, typer.Option(help="Comma-separated targets: api,ingest,geo,historian,notifier.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port of the API; the device stream takes the next one.")] = None,
    processes: Annotated[int | None, typer.Option(help="Processes for each of api and ingest.")] = None,
) -> None:
    """Run the services until interrupted: one process a target, and the stores unless they are elsewhere."""
    from infra.wiring import TARGETS

    targets = [name.strip() for name in only.split(",")] if only else list(TARGETS)
    unknown = [name for name in targets if name not in TARGETS]
    if unknown:
        raise typer.BadParameter(f"no target {unknown[0]!r}; the targets are {', '.join(TARGETS)}", param_hint="--only")
    settings = load_settings(port=port, processes=processes)
    console = Console(stderr=True, highlight=False)
    with open_stores(settings, attach=False) as ready:
        try:
            with asyncio.Runner() as runner:
                runner.run(_run(ready, targets, console))
        finally:
            forget_running(ready.data_dir)


async def _run(settings: Settings, targets: list[str], console: Console) -> None:
    from infra.opening import open_database
    from infra.supervisor import Supervisor

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    assert settings.database_url is not None
    await open_database(settings, serve_anyway=True)
    supervisor = Supervisor(settings, targets, on_event=console.print)
    if not await supervisor.start_unless(stop):
        return
    try:
        where = "  ".join(word for word in (supervisor.api_url, supervisor.stream_url) if word)
        console.print(f"Qorgan is running: {', '.join(targets)}  {where}")
        await stop.wait()
        console.print("Stopping …")
    finally:
        await supervisor.stop()


@app.command()
def migrate() -> None:
    """Bring the database to the newest schema, erase again who stands in the erasure ledger, and seal what an older
    version left plain.

    Services wait for the schema alone: what is wrong with the ledger, or a key service that is away, is said and stops
    nothing here. The api shows nobody until it is right.
    """
    from infra.opening import open_database

    with open_stores(load_settings()) as settings, progress() as bar:
        task = bar.add_task("Sealing", total=None, visible=False)
        opening = open_database(
            settings, lambda done: bar.update(task, completed=done, visible=True), serve_anyway=True
        )
        shards = asyncio.run(opening)
    out().print(f"The schema is up to date ({shards} shards).")


@app.command()
def seed(
    pairs: Annotated[int, typer.Option(min=1, max=1_000_000, help="Victims, aggressors and orders to make.")],
    file: Annotated[Path, typer.Option("--out", help="File that gets the ids, tokens and passwords (mode 0600).")],
    agency: Annotated[str, typer.Option(help="Name of the agency they belong to.")] = "Qorgan trial",
) -> None:
    """Make victims, aggressors, bracelets, phones and orders (alert 500 m), and one user a role."""
    from core.postgres.database import Database
    from core.vault import load_vault
    from infra.opening import open_database
    from infra.seed import seed as make

    async def work(settings: Settings) -> dict[str, Any]:
        assert settings.database_url is not None
        url = settings.database_url.get_secret_value()
        await open_database(settings)
        database = Database(url, size=2, application="qorgan-seed", command_timeout_s=300, vault=load_vault(settings))
        with progress() as bar:
            task = bar.add_task("Seeding", total=pairs)
            try:
                return await make(
                    database, settings, pairs, agency, utc_now(), lambda done: bar.update(task, completed=done)
                )
            finally:
                await database.close()

    settings = load_settings()
    running = find_running(settings.data_dir.expanduser().resolve())
    with open_stores(settings) as ready:
        if running is not None:
            ready = ready.model_copy(
                update={"public_url": running.api_url or None, "public_stream_url": running.stream_url or None}
            )
        world = asyncio.run(work(ready))
    try:
        file.touch(mode=0o600)
        file.chmod(0o600)  # also when it was there before
        file.write_text(json.dumps(world))
    except OSError as error:
        raise Misconfigured(f"{file} cannot be written: {error.strerror}; choose another with --out.") from None
    out().print(f"{pairs:,} pairs are in {agency!r}; ids, tokens and passwords are in {file}.")


@app.command()
def watch(
    username: Annotated[str, typer.Option(help="Who watches.")],
    password: Annotated[str | None, typer.Option(envvar="QORGAN_PASSWORD", help="Asked for when absent.")] = None,
    url: Annotated[str | None, typer.Option(help="Address of the API; else the one running here.")] = None,
    after: Annotated[str | None, typer.Option(help="Cursor to resume from.")] = None,
) -> None:
    """Show the feed in this terminal until interrupted."""
    from infra.watch import FeedPrinter, watch_feed

    secret = password if password is not None else typer.prompt("Password", hide_input=True)

    async def work(stop: asyncio.Event) -> None:
        feed = asyncio.create_task(watch_feed(address_of(url)[0], username, secret, FeedPrinter(out()), stop, after))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({feed, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in (feed, stopping):
            task.cancel()
        result = (await asyncio.gather(feed, return_exceptions=True))[0]
        if isinstance(result, Exception):
            raise result

    until_interrupted(work)


@app.command()
def bench(
    what: Annotated[str, typer.Argument(help="ingest, panic, detect or all.")],
    file: Annotated[Path | None, typer.Option("--json", help="File that gets the figures.")] = None,
    quick: Annotated[bool, typer.Option(help="A minute instead of several; coarser figures.")] = False,
    full: Annotated[bool, typer.Option(help="Evaluate the detection whole and write docs/detection.")] = False,
) -> None:
    """Measure, each figure beside a bare baseline of the same run."""
    from infra.bench import NAMES, run_bench

    if what not in (*NAMES, "all"):
        raise typer.BadParameter(f"no benchmark {what!r}; there are {', '.join(NAMES)} and all", param_hint="WHAT")
    run_bench(list(NAMES) if what == "all" else [what], file, load_settings(), quick=quick, thorough=full)


@app.command()
def replay(
    orders: Annotated[Path, typer.Option(help="Orders file (JSON).")],
    pings: Annotated[Path, typer.Option(help="Pings file (one JSON object a line, in order of arrival).")],
    policy: Annotated[Path | None, typer.Option(help="Policy values to try (JSON).")] = None,
) -> None:
    """Run the engine over a file of pings and print the transitions, one JSON object a line."""
    from geo.replay import replay as play

    for line in play(orders, pings, policy):
        sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")


def main() -> None:
    """Entry of the `qorgan` command."""
    try:
        app()
    except QorganError as error:
        fail(error.detail)
    except BrokenPipeError:
        # The reader (head, less) went away: not an error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        fail(f"{error.strerror or error}: {error.filename or ''}")


if __name__ == "__main__":
    main()
