"""What every way of signing in has in common: who visits, which browser is known, the second factor, the tokens."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from fastapi import Request, Response

from api.auth import Actor, client_address, make_access_token
from api.deps import ApiContext
from api.sign_in_gate import KNOWN_LIFE, BucketFull
from core.actions import passkeys, second_factors, sign_in
from core.actions.passkeys import Site
from core.actions.sign_in import Opened, Proof, Visit
from core.actions.unit_of_work import Unit, act
from core.actions.users import MAX_USERNAME_CHARS
from core.domain.password_rules import MAX_CHARS as MAX_PASSWORD_CHARS
from core.domain.scope import Scope
from core.errors import InvalidInput, NotAuthenticated
from core.postgres import sign_in_codes, users
from core.postgres.table import Record
from core.postgres.users import USERS

KNOWN_COOKIE: Final = "qorgan_known"
COOKIE_PATH: Final = "/v1/auth"
TOLD_AGAIN: Final = timedelta(hours=1)
"""A user is told at most so often that somebody guesses at her password."""
MAX_CODE_CHARS: Final = 64

_BROWSERS: Final = (
    ("Edg", "Edge"), ("OPR", "Opera"), ("YaBrowser", "Yandex"), ("SamsungBrowser", "Samsung Internet"),
    ("Firefox", "Firefox"), ("FxiOS", "Firefox"), ("CriOS", "Chrome"), ("Chrome", "Chrome"),
    ("HeadlessChrome", "Chrome"), ("Safari", "Safari"),
    ("python", "Python"), ("curl", "curl"),
)  # fmt: skip
_SYSTEMS: Final = (
    ("Windows", "Windows"), ("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"), ("Linux", "Linux"),
)  # fmt: skip


def user_agent_words(header: str) -> str:
    """Browser and system of a User-Agent header, in two words; "" for one that tells neither."""
    browser = next((words for mark, words in _BROWSERS if re.search(rf"\b{mark}", header)), "")
    system = next((words for mark, words in _SYSTEMS if mark in header), "")
    return " · ".join(word for word in (browser, system) if word)


def visit_of(request: Request) -> Visit:
    """From where this request comes."""
    return Visit(client_address(request), user_agent_words(request.headers.get("user-agent", "")))


def scope_of(user: Record, visit: Visit) -> Scope:
    """The scope in which a user's own sign-in is written."""
    return Scope(user["agency_id"], user["id"], user["role"], visit.address)


def passkey_site(context: ApiContext) -> Site | None:
    """Where passkeys are good: at the public address, else at localhost; None where a browser would refuse them."""
    settings = context.settings
    url = settings.public_url or f"http://localhost:{settings.port}"
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not host or re.fullmatch(r"[\d.]+|.*:.*", host) or (parts.scheme != "https" and host != "localhost"):
        return None
    return Site(host, (f"{parts.scheme}://{parts.netloc}",))


def required_site(context: ApiContext) -> Site:
    """The same; raises InvalidInput where there are no passkeys."""
    site = passkey_site(context)
    if site is None:
        raise InvalidInput("Passkeys need QORGAN_PUBLIC_URL to be an https address with a host name.")
    return site


def is_secure(context: ApiContext, request: Request) -> bool:
    """Whether browsers come over TLS: their cookies go nowhere else then."""
    return (context.settings.public_url or str(request.url)).startswith("https:")


def give_known(context: ApiContext, request: Request, response: Response, user: Record) -> None:
    """Have this browser known as one in which the user has signed in."""
    response.set_cookie(
        KNOWN_COOKIE,
        context.gate.make_known(user["id"]),
        max_age=int(KNOWN_LIFE.total_seconds()),
        path=COOKIE_PATH,
        secure=is_secure(context, request),
        httponly=True,
        samesite="strict",
    )


async def check_password(
    context: ApiContext, request: Request, username: str, password: str
) -> tuple[Record, str | None]:
    """The user whose password this is, and the mark of her known browser. Raises NotAuthenticated, TooMany.

    A name or password that no user can have takes the same road, and the same time, as a wrong one.
    """
    visit = visit_of(request)
    possible = (
        "\x00" not in username and 0 < len(username) <= MAX_USERNAME_CHARS and len(password) <= MAX_PASSWORD_CHARS
    )
    user = None
    if possible:
        async with context.database.connection() as connection:
            user = await users.by_username(connection, username.strip())
    known = context.gate.known_mark(request.cookies.get(KNOWN_COOKIE, ""), user["id"] if user else None)
    context.passwords.check_room(known=known is not None)
    buckets = context.gate.password_buckets(visit.address, username[:MAX_USERNAME_CHARS], known)
    try:
        place = await context.gate.enter(buckets)
    except BucketFull as full:
        if user is not None and full.kind == "name":
            await tell_attempts(context, user, visit, "password")
        raise
    stored = user["password_hash"] if user else None
    verdict = await context.passwords.check(password[:MAX_PASSWORD_CHARS], stored, known=known is not None)
    if user is None or not verdict.right or user["disabled_at"] is not None:
        if user is not None:
            async with act(context.database, context.clock(), scope_of(user, visit)) as unit:
                await sign_in.note_refusal(unit, user, visit.address, "disabled" if verdict.right else "password")
        else:  # the same work, so that the time it takes tells no name; and the audit has it too
            async with act(context.device_database, context.clock()) as unit:
                await sign_in.note_unknown(unit, visit.address)
        raise NotAuthenticated("The user name or the password is wrong.")
    await context.gate.leave(place)
    if verdict.rehashed is not None and stored is not None:
        async with act(context.database, context.clock(), scope_of(user, visit)) as unit:
            await users.replace_hash(unit.connection, user["id"], stored, verdict.rehashed)
    return user, known


async def tell_attempts(context: ApiContext, user: Record, visit: Visit, what: str) -> None:
    """Tell the user and her supervisors, once an hour, that somebody guesses at her `what` (password, code)."""
    now = context.clock()
    async with act(context.database, now, scope_of(user, visit)) as unit:
        if await users.note_attempts(unit.connection, user["id"], now, now - TOLD_AGAIN):
            await sign_in.note(unit, user, "user.sign_in_attempts", visit.address, known=False, what=what)
            unit.emit(
                user["agency_id"],
                "notice.sign_in_attempts",
                {"user_id": str(user["id"]), "username": user["username"], "what": what},
            )


async def finish(
    context: ApiContext,
    request: Request,
    response: Response,
    user: Record,
    proof: Proof,
    *,
    otp: str = "",
    passkey: str = "",
    known: str | None = None,
    code: bytes | None = None,
) -> dict[str, Any]:
    """The tokens of a new session, the second factor having been given where there is one.

    `code`: digest of the one-time code of a provider's sign-in, which is used up by it.

    Raises NotAuthenticated `second_factor_required` (with `factors` and `passkey_options`), `second_factor_invalid`.
    """
    visit = visit_of(request)
    given = otp.strip() or passkey
    place = None
    if proof.second_factor is None and given:
        try:
            place = await context.gate.enter(context.gate.code_buckets(user["id"], known))
        except BucketFull:
            await tell_attempts(context, user, visit, "code")
            raise
    outcome: Opened | NotAuthenticated
    async with act(context.database, context.clock(), scope_of(user, visit)) as unit:
        outcome = await _finish(unit, context, user, proof, visit, otp.strip(), passkey, code)
    if isinstance(outcome, NotAuthenticated):
        raise outcome
    if place is not None:
        await context.gate.leave(place)
    give_known(context, request, response, user)
    return tokens_of(context, outcome)


async def _finish(
    unit: Unit,
    context: ApiContext,
    user: Record,
    proof: Proof,
    visit: Visit,
    otp: str,
    passkey: str,
    code: bytes | None,
) -> Opened | NotAuthenticated:
    present = await USERS.find(unit.connection, user["agency_id"], user["id"])
    if present is None or present["disabled_at"] is not None:
        return NotAuthenticated("This user may not sign in.", code="token_revoked")
    factors = await second_factors.factors_of(unit.connection, present)
    second = proof.second_factor
    if second is None and factors.any:
        if not otp and not passkey:
            return await _ask(unit, context, present, factors)
        second = await _check_second(unit, context, present, otp, passkey)
        if second is None:
            await sign_in.note_refusal(unit, present, visit.address, "second_factor")
            return NotAuthenticated("The code or passkey was not accepted.", code="second_factor_invalid")
    if code is not None and await sign_in_codes.use(unit.connection, code, "provider", unit.now) is None:
        return NotAuthenticated("This sign-in was finished already; begin again.")
    enrol_only = factors.required and second is None
    whole = Proof(proof.method, second, enrol_only)
    return await sign_in.open_session(unit, present, whole, visit, context.settings.refresh_token_s)


async def _ask(unit: Unit, context: ApiContext, user: Record, factors: second_factors.Factors) -> NotAuthenticated:
    site = passkey_site(context)
    possible = [name for name in factors.possible if name != "passkey" or site is not None]
    more: dict[str, Any] = {"factors": possible}
    if site is not None and factors.passkeys:
        more["passkey_options"] = await passkeys.request_options_of(unit, user, site, context.token_key)
    return NotAuthenticated("Give your second factor too.", code="second_factor_required", **more)


async def _check_second(unit: Unit, context: ApiContext, user: Record, otp: str, passkey: str) -> str | None:
    if otp:
        return await second_factors.use_code(unit, user, otp[:MAX_CODE_CHARS], context.box)
    credential, site = read_credential(passkey), passkey_site(context)
    if site is None:
        return None
    refused = await passkeys.check(unit, user, credential, site, context.token_key, alone=False)
    return None if refused else "passkey"


def read_credential(text: str) -> dict[str, Any]:
    """A passkey's answer out of a form field; raises InvalidInput."""
    try:
        credential = json.loads(text[: passkeys.MAX_CREDENTIAL_CHARS])
    except (ValueError, RecursionError):
        credential = None
    if not isinstance(credential, dict):
        raise InvalidInput("passkey is the browser's answer as JSON.")
    return credential


def tokens_of(context: ApiContext, opened: Opened) -> dict[str, Any]:
    """What the client gets of a session."""
    life_s = context.settings.access_token_s
    user = opened.user
    actor = Actor(
        user["id"],
        user["agency_id"],
        user["role"],
        user["username"],
        session_id=opened.session_id,
        enrol_only=opened.enrol_only,
    )
    return {
        "access_token": make_access_token(actor, context.token_key, context.clock(), life_s),
        "refresh_token": opened.refresh_token,
        "expires_in": life_s,
        "must_enrol": opened.enrol_only,
    }
