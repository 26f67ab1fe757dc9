"""`qorgan user`: people who sign in to the console."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from core.clock import utc_now
from core.settings import Settings
from infra.stores import open_stores
from infra.terminal import load_settings, out

user_app = typer.Typer(help="People who sign in to the console.", no_args_is_help=True)


@user_app.command("add")
def user_add(
    username: Annotated[str, typer.Argument(help="What she signs in with.")],
    role: Annotated[str, typer.Option(help="admin, supervisor, dispatcher, officer, caseworker or auditor.")],
    agency: Annotated[str, typer.Option(help="Name of her agency; it is made if there is none.")],
    password: Annotated[
        str | None, typer.Option(envvar="QORGAN_NEW_PASSWORD", help="Asked for when absent.", show_envvar=True)
    ] = None,
) -> None:
    """Add a user."""
    from core.actions.users import add_user_by_agency_name
    from core.postgres.database import Database
    from core.vault import load_vault

    if password is None:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    secret = password

    async def work(settings: Settings) -> None:
        assert settings.database_url is not None
        url = settings.database_url.get_secret_value()
        database = Database(url, size=2, application="qorgan-user", vault=load_vault(settings))
        try:
            await add_user_by_agency_name(database, username, secret, role, agency, utc_now())
        finally:
            await database.close()

    with open_stores(load_settings()) as settings:
        asyncio.run(work(settings))
    out().print(f"{username} may sign in as {role} of {agency!r}.")
