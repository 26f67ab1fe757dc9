"""`qorgan keys`: the keys that wrap the keys that seal."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer
from rich.table import Table

from core.actions import keys as actions
from core.errors import Misconfigured
from core.key_rings import KEY_ID, key_path, make_key_file, new_key_line, read_key_file
from core.postgres.database import Database
from core.settings import Settings
from infra.stores import open_stores
from infra.terminal import load_settings, out, progress

keys_app = typer.Typer(help="The keys that wrap the keys that seal.", no_args_is_help=True)
Result = TypeVar("Result")


def _with_database(work: Callable[[Database], Awaitable[Result]]) -> Result:
    from core.vault import load_vault

    async def run(settings: Settings) -> Result:
        assert settings.database_url is not None
        vault = load_vault(settings)
        url = settings.database_url.get_secret_value()
        database = Database(url, size=2, application="qorgan-keys", command_timeout_s=300, vault=vault)
        try:
            return await work(database)
        finally:
            await database.close()
            await vault.aclose()

    with open_stores(load_settings()) as settings:
        return asyncio.run(run(settings))


@keys_app.command("status")
def keys_status() -> None:
    """Tell which key-encryption key wraps how many data keys, and what is not sealed yet."""
    found: actions.KeyStatus = _with_database(actions.status)
    table = Table("key-encryption key", "data keys", "")
    for key_id in dict.fromkeys((found.current_id, *found.wrapped)):
        mark = "current" if key_id == found.current_id else "`qorgan keys rotate` wraps them anew"
        table.add_row(key_id, f"{found.wrapped.get(key_id, 0):,}", mark)
    out().print(table)
    for name, rows in found.plain.items():
        out().print(f"{rows:,} rows of {name} are not sealed yet; `qorgan migrate` seals them.")


@keys_app.command("new")
def keys_new(
    key_id: Annotated[str | None, typer.Argument(help="Its id; else the next of k1, k2, …")] = None,
) -> None:
    """Put a new key-encryption key before the others in the key file; it wraps from now on."""
    settings = load_settings()
    if settings.kms_url is not None or settings.keys is not None:
        raise Misconfigured(
            "The keys are not in a file: rotate the key in the key service, or put a new one first in QORGAN_KEYS."
        )
    path = key_path(settings)
    there = read_key_file(path) if path.exists() else {}
    if key_id is None:
        numbers = [int(match[1]) for known in there if (match := re.fullmatch(r"k(\d+)", known))]
        key_id = f"k{max(numbers, default=0) + 1}"
    if key_id in there or not KEY_ID.fullmatch(key_id):
        raise typer.BadParameter("an id is letters, digits, dots, dashes, at most 64, and not one that is there")
    before = path.read_text("ascii") if there else ""
    make_key_file(path, f"{new_key_line(key_id)}\n{before}", replace=bool(there))
    out().print(f"{key_id} wraps from now on. Keep a copy of {path} apart from the backups, then `qorgan keys rotate`.")


@keys_app.command("rotate")
def keys_rotate() -> None:
    """Wrap every data key with the current key-encryption key; everything goes on meanwhile."""

    async def work(database: Database) -> int:
        with progress() as bar:
            task = bar.add_task("Wrapping anew", total=None)
            return await actions.rotate(database, lambda done: bar.update(task, completed=done))

    done = _with_database(work)
    out().print(f"{done:,} data keys were wrapped anew; the earlier keys wrap nothing that this database holds.")


@keys_app.command("retire")
def keys_retire(key_id: Annotated[str, typer.Argument(help="Its id.")]) -> None:
    """Remove a key-encryption key from the key file, once nothing is wrapped with it."""
    settings = load_settings()
    path = key_path(settings)
    there = read_key_file(path)
    if key_id not in there:
        raise Misconfigured(f"There is no key {key_id!r} in {path}.")
    found: actions.KeyStatus = _with_database(actions.status)
    if key_id == found.current_id or found.wrapped.get(key_id):
        raise Misconfigured(f"{key_id} is in use; `qorgan keys new` and `qorgan keys rotate` come first.")
    lines = [line for line in path.read_text("ascii").splitlines() if line.partition(":")[0].strip() != key_id]
    make_key_file(path, "\n".join(lines) + "\n", replace=True)
    out().print(f"{key_id} is gone from {path}; backups from before the rotation need it, if you keep any.")
