"""`qorgan user`: people who sign in to the console."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer

from core.clock import rfc3339, utc_now
from core.settings import Settings
from infra.stores import open_stores
from infra.terminal import load_settings, out

user_app = typer.Typer(help="People who sign in to the console.", no_args_is_help=True)

Username = Annotated[str, typer.Argument(help="What she signs in with.")]


def _with_database(work: Callable[[Any, Settings], Awaitable[Any]]) -> Any:
    """What `work` answers, over a database that is open for its length."""
    from core.postgres.database import Database

    async def run(settings: Settings) -> Any:
        assert settings.database_url is not None
        database = Database(settings.database_url.get_secret_value(), size=2, application="qorgan-user")
        try:
            return await work(database, settings)
        finally:
            await database.close()

    with open_stores(load_settings()) as settings:
        return asyncio.run(run(settings))


@user_app.command("add")
def user_add(
    username: Username,
    role: Annotated[str, typer.Option(help="admin, supervisor, dispatcher, officer, caseworker or auditor.")],
    agency: Annotated[str, typer.Option(help="Name of her agency; it is made if there is none.")],
    password: Annotated[
        str | None, typer.Option(envvar="QORGAN_NEW_PASSWORD", help="Asked for when absent.", show_envvar=True)
    ] = None,
) -> None:
    """Add a user."""
    from core.actions.users import add_user_by_agency_name

    if password is None:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    secret = password

    async def work(database: Any, _: Settings) -> None:
        await add_user_by_agency_name(database, username, secret, role, agency, utc_now())

    _with_database(work)
    out().print(f"{username} may sign in as {role} of {agency!r}.")


@user_app.command("reset")
def user_reset(
    username: Username,
    second_factors: Annotated[
        bool, typer.Option("--second-factors", help="Forget her authenticator app, recovery codes and passkeys too.")
    ] = False,
) -> None:
    """Print a code with which a user sets a new password, good once; her sessions end."""
    from core.actions.sign_in import note
    from core.actions.unit_of_work import act
    from core.actions.users import forget_second_factors, make_password_code, user_named

    async def work(database: Any, settings: Settings) -> tuple[str, Any]:
        user = await user_named(database, username)
        async with act(database, utc_now()) as unit:
            if second_factors:
                await forget_second_factors(unit, user["agency_id"], user["id"])
            code = await make_password_code(unit, user, settings.password_code_s)
            await note(unit, user, "user.password_reset", "", known=False, by="command line", factors=second_factors)
            return code

    code, expires_at = _with_database(work)
    out().print(f"{username} sets a password by the code  {code}  until {rfc3339(expires_at)}.")


@user_app.command("sessions")
def user_sessions(
    username: Username,
    end: Annotated[bool, typer.Option("--end", help="End them all.")] = False,
) -> None:
    """Show where a user is signed in, or end it."""
    from core.actions.sign_in import note
    from core.actions.unit_of_work import act
    from core.actions.users import user_named
    from core.postgres import sessions

    async def work(database: Any, _: Settings) -> Any:
        user = await user_named(database, username)
        async with act(database, utc_now()) as unit:
            found = await sessions.open_of_user(unit.connection, user["id"], unit.now)
            if end:
                ended = await sessions.end_of_user(unit.connection, user["id"], unit.now, "ended_by_admin")
                await note(unit, user, "user.sessions_ended", "", known=False, by="command line", count=len(ended))
            return found

    for session in _with_database(work):
        how = " + ".join(word for word in (session["method"], session["second_factor"]) if word)
        where = "  ".join(word for word in (session["address"], session["user_agent"]) if word)
        out().print(f"{rfc3339(session['last_seen_at'])}  {how}  {where}{'  ended' if end else ''}")
