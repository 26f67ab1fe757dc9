"""What every command shares: where it writes, its settings, and how it ends."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from core.errors import Misconfigured
from core.settings import Settings
from infra.stores import find_running

T = TypeVar("T")


def out() -> Console:
    """Where results go; colours only on a terminal."""
    return Console(highlight=False)


def progress() -> Progress:
    """A progress bar on standard error, shown only on a terminal."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def load_settings(**changes: Any) -> Settings:
    """The settings of the environment with a command's options on top; Misconfigured says which one is wrong."""
    from pydantic import ValidationError

    wanted = {name: value for name, value in changes.items() if value is not None}
    try:
        return Settings(**wanted)
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        raise Misconfigured(f"QORGAN_{name} is not usable: {first['msg']}.") from None


def until_interrupted(work: Callable[[asyncio.Event], Coroutine[Any, Any, T]]) -> T:
    """What `work` comes to; an interrupt sets its event, so that it ends cleanly and by itself."""

    async def main() -> T:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        return await work(stop)

    return asyncio.run(main())


def address_of(url: str | None) -> tuple[str, str]:
    """API and stream addresses: given, those of the running Qorgan, or the settings' own."""
    settings = load_settings()
    running = find_running(settings.data_dir.expanduser().resolve())
    if url is not None:
        return url.rstrip("/"), ""
    if running is not None and running.api_url:
        return running.api_url, running.stream_url
    host = settings.public_url or f"http://{settings.host}:{settings.port}"
    return host, settings.public_stream_url or f"ws://{settings.host}:{settings.resolved_stream_port}/v1/pings/stream"


def fail(message: str) -> NoReturn:
    """End with status 1 and one line on standard error."""
    sys.stderr.write(f"qorgan: {' '.join(message.split())}\n")
    sys.exit(1)
