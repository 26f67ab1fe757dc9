"""The demo: everything at once on embedded stores, with a breach and a panic that arrive before your eyes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import tempfile
import uuid
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from core.clock import utc_now
from core.ids import new_id
from core.postgres.agencies import ROUTES
from core.postgres.database import Database
from core.settings import Settings
from core.vault import load_vault
from device_sim.scenario import ActorCredentials, load_scenario, run_scenario
from infra.opening import open_database
from infra.receivers import MailReceiver, SmsReceiver, WebhookReceiver
from infra.seed import seed_demo
from infra.stores import forget_running, open_stores
from infra.supervisor import Supervisor
from infra.watch import FeedPrinter, watch_feed
from infra.wiring import TARGETS

DEVICES_STOP_S = 8.0
"""How long the simulated devices may take to be switched off."""


def run_demo(settings: Settings, console: Console, *, scenario: str = "demo") -> None:
    """Run the demo until Ctrl-C; its data is thrown away at the end unless QORGAN_DATA_DIR was set."""
    with contextlib.ExitStack() as stack:
        if "data_dir" not in settings.model_fields_set:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="qorgan-demo-"))
            settings = settings.model_copy(update={"data_dir": Path(folder)})
        console.print("[bold]Qorgan demo[/bold]: starting PostgreSQL and Valkey …", highlight=False)
        settings = stack.enter_context(open_stores(settings, attach=False))
        with asyncio.Runner() as runner:
            runner.run(_demo(settings, console, scenario))
        console.print("Stopping the stores …")
    console.print("Everything is stopped.")


async def _demo(settings: Settings, console: Console, scenario_name: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    assert settings.database_url is not None
    await open_database(settings)

    def tell(line: str) -> None:
        loop.call_soon_threadsafe(lambda: console.print(f"[cyan]→ {line}[/cyan]", highlight=False))

    hook, mail, sms = WebhookReceiver(tell), MailReceiver(tell), SmsReceiver(tell)
    hook.start()
    sms.start()
    await mail.start()
    try:
        settings = settings.model_copy(
            update={
                "forbidden_networks": "",  # its receivers are on this machine
                "smtp_host": "127.0.0.1",
                "smtp_port": mail.port,
                "smtp_from": "qorgan@example.org",
                "sms_gateways_file": _gateways_file(settings, sms),
            }
        )
        world = await _seed(settings, hook)
        log_path = settings.data_dir / "logs" / "qorgan.log"
        supervisor = Supervisor(settings, list(TARGETS), log_path=log_path, on_event=console.print)
        console.print("Starting the services …")
        if not await supervisor.start_unless(stop):
            return
        try:
            await _show(settings, console, world, supervisor, scenario_name, stop)
        finally:
            console.print("\nStopping the services …")
            await supervisor.stop()
            forget_running(settings.data_dir)
    finally:
        await mail.stop()
        await asyncio.to_thread(hook.stop)
        await asyncio.to_thread(sms.stop)


def _gateways_file(settings: Settings, sms: SmsReceiver) -> Path:
    path = (settings.data_dir / "demo-sms.json").resolve()
    path.write_text(json.dumps({"gateway": [sms.gateway]}))
    path.chmod(0o600)
    return path


async def _seed(settings: Settings, hook: WebhookReceiver) -> dict[str, Any]:
    """The demo's agency, told of everything by webhook, and of the gravest by text message."""
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    database = Database(url, size=2, application="qorgan-demo", vault=load_vault(settings))
    try:
        world = await seed_demo(database, settings, utc_now())
        async with database.transaction() as connection:
            await ROUTES.insert(
                connection,
                {
                    "id": new_id(),
                    "agency_id": uuid.UUID(world["agency"]["id"]),
                    "name": "Dispatch system",
                    "channel": "webhook",
                    "address": hook.url,
                    "secret": hook.secret,
                    "min_severity": "high",
                    "created_at": utc_now(),
                },
            )
            await ROUTES.insert(
                connection,
                {
                    "id": new_id(),
                    "agency_id": uuid.UUID(world["agency"]["id"]),
                    "name": "Duty telephone",
                    "channel": "sms",
                    "address": "+77000000102",
                    "min_severity": "critical",
                    "created_at": utc_now(),
                },
            )
    finally:
        await database.close()
    return world


async def _show(
    settings: Settings,
    console: Console,
    world: dict[str, Any],
    supervisor: Supervisor,
    scenario_name: str,
    stop: asyncio.Event,
) -> None:
    dispatcher = world["users"]["dispatcher"]
    table = Table.grid(padding=(0, 2))
    table.add_row("Console", f"[bold]{supervisor.api_url}/console/[/bold]")
    table.add_row("User", f"{dispatcher['username']}   password  {dispatcher['password']}")
    table.add_row("API", f"{supervisor.api_url}/v1   (described at {supervisor.api_url}/openapi.json)")
    table.add_row("Log", str(settings.data_dir / "logs" / "qorgan.log"))
    console.print(Panel(table, title="Qorgan is running", subtitle="Ctrl-C ends it all", expand=False))
    printer = FeedPrinter(console)
    feed = asyncio.create_task(
        watch_feed(supervisor.api_url, dispatcher["username"], dispatcher["password"], printer, stop), name="feed"
    )
    connected, stopped = asyncio.create_task(printer.connected.wait()), asyncio.create_task(stop.wait())
    await asyncio.wait({connected, stopped, feed}, return_when=asyncio.FIRST_COMPLETED)
    for waiting in (connected, stopped):
        waiting.cancel()
    scenario = load_scenario(scenario_name)
    actors = {
        role: ActorCredentials(device_id=pair["device_id"], token=pair["token"])
        for role, pair in world["pairs"][0].items()
        if role in ("victim", "aggressor")
    }
    drama = asyncio.create_task(
        run_scenario(
            scenario,
            actors,
            supervisor.api_url,
            supervisor.stream_url,
            lambda line: console.print(f"[dim]· {line}[/dim]", highlight=False),
            stopping=stop,
        ),
        name="scenario",
    )
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({drama, stopping, feed}, return_when=asyncio.FIRST_COMPLETED)
    if drama.done() and not stop.is_set():
        drama.result()
        console.print("[dim]· the scenario is over; Qorgan stays up. Ctrl-C ends it.[/dim]")
    await asyncio.wait({stopping, feed}, return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    await asyncio.wait({drama}, timeout=DEVICES_STOP_S)
    for task in (drama, feed, stopping):
        task.cancel()
    results = await asyncio.gather(drama, feed, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result
