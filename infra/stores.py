"""Which stores to use: those named in the settings, those a running Qorgan has, or embedded ones of our own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from core.errors import Misconfigured
from core.settings import Settings
from infra.embedded import EmbeddedStores

RUNTIME_FILE = "runtime.json"


class RunningProcess(msgspec.Struct):
    """One process of a running Qorgan."""

    target: str
    index: int
    pid: int


class Running(msgspec.Struct):
    """What a running Qorgan tells other commands on its machine, in `<data directory>/runtime.json` (0600)."""

    pid: int
    """The supervisor's process."""
    database_url: str
    redis_url: str
    api_url: str = ""
    stream_url: str = ""
    processes: list[RunningProcess] = []


def write_running(data_dir: Path, running: Running) -> None:
    """Tell other commands where everything is; replaced in one step.

    The notice of another that runs on this data directory (with stores elsewhere) stays: the first is the one found.
    """
    held = find_running(data_dir)
    if held is not None and held.pid != running.pid:
        return
    path = data_dir / RUNTIME_FILE
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_bytes(msgspec.json.encode(running))
    fresh.replace(path)


def forget_running(data_dir: Path) -> None:
    """Take our notice down; that of another Qorgan on this data directory (with stores elsewhere) stays."""
    running = find_running(data_dir)
    if running is None or running.pid == os.getpid():
        (data_dir / RUNTIME_FILE).unlink(missing_ok=True)


def find_running(data_dir: Path) -> Running | None:
    """The Qorgan that runs on this data directory now, or None."""
    try:
        running = msgspec.json.decode((data_dir / RUNTIME_FILE).read_bytes(), type=Running)
        os.kill(running.pid, 0)
    except (OSError, msgspec.DecodeError):
        return None
    return running


def with_stores(settings: Settings, database_url: str, redis_url: str) -> Settings:
    """The settings, with the stores filled in."""
    return Settings.model_validate(
        settings.model_dump() | {"database_url": database_url, "redis_url": redis_url},
    )


@contextlib.contextmanager
def open_stores(settings: Settings, *, attach: bool = True) -> Iterator[Settings]:
    """Settings whose stores are there: external, those of a running Qorgan (if `attach`), or embedded.

    Embedded stores that were started here are stopped at the end. Raises Misconfigured.
    """
    data_dir = settings.data_dir.expanduser().resolve()
    wants_postgres, wants_valkey = settings.database_url is None, settings.redis_url is None
    database_url = settings.database_url.get_secret_value() if settings.database_url else ""
    redis_url = settings.redis_url.get_secret_value() if settings.redis_url else ""
    if not (wants_postgres or wants_valkey):
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Misconfigured(
                f"The data directory {data_dir} cannot be written ({error.strerror}); "
                "set QORGAN_DATA_DIR to one that can."
            ) from None
        yield with_stores(settings, database_url, redis_url)
        return
    running = find_running(data_dir) if attach else None
    if running is not None:
        yield with_stores(settings, database_url or running.database_url, redis_url or running.redis_url)
        return
    stores = EmbeddedStores(data_dir, postgres=wants_postgres, valkey=wants_valkey)
    stores.start()
    # The directory is ours alone now: a notice still there is of one that was killed, whoever has its number today.
    (data_dir / RUNTIME_FILE).unlink(missing_ok=True)
    try:
        yield with_stores(
            settings,
            stores.database_url if wants_postgres else database_url,
            stores.redis_url if wants_valkey else redis_url,
        )
    finally:
        stores.stop()
