"""Who is asking: short-lived signed access tokens for users, bearer tokens for devices.

A user's access token is a JWT (HS256) with the claims `sub`, `agency`, `role`, `name`, `sid`, `iat` and `exp`; it is
checked without any store, and against the sessions that ended lately, which are held in memory. A device's token is 256
random bits, looked up by its digest in the registry in memory.
"""

from __future__ import annotations

import dataclasses
import re
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import Depends, Request
from fastapi.security import HTTPBearer, OAuth2PasswordBearer
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from api.deps import ApiContext, Context
from api.ingest.registry import DeviceIdentity
from core.actions.users import ROLES
from core.clock import from_ms
from core.domain.scope import Scope
from core.errors import InvalidInput, NotAllowed, NotAuthenticated, StoreUnavailable
from core.ids import token_digest

ALGORITHM: Final = "HS256"
MAX_TOKEN_CHARS: Final = 4096
PURPOSE_HEADER: Final = "Qorgan-Purpose"
PURPOSE: Final = re.compile(r"[a-z][a-z_]{0,39}")

RULES: dict[Callable[..., Any], tuple[str, ...]] = {}
"""Dependency of a route → who passes it, as `api.who_may` tells it in the OpenAPI document."""

_user_scheme = OAuth2PasswordBearer(tokenUrl="/v1/auth/token", auto_error=False, scheme_name="user")
_device_scheme = HTTPBearer(auto_error=False, scheme_name="device", description="A device or gateway token.")


@dataclass(frozen=True, slots=True)
class Actor:
    """A signed-in user, as her access token says."""

    user_id: uuid.UUID
    agency_id: uuid.UUID
    role: str
    username: str
    address: str = ""
    """Where the request came from; not part of the token."""
    session_id: uuid.UUID | None = None
    """The sign-in she goes on with; it may be ended."""
    enrol_only: bool = False
    """Her agency wants a second factor of her and she has none yet: she may add one, and nothing else."""
    purpose: str = ""
    """Why she asks, as the header `Qorgan-Purpose` says; the audit keeps it."""

    @property
    def scope(self) -> Scope:
        """For whom the database is asked."""
        return Scope(self.agency_id, self.user_id, self.role, self.address, self.session_id, self.purpose)


def make_access_token(actor: Actor, key: bytes, now: datetime, life_s: int) -> str:
    """A signed token that says who `actor` is until `life_s` from `now`."""
    claims: dict[str, str | int] = {
        "sub": str(actor.user_id),
        "agency": str(actor.agency_id),
        "role": actor.role,
        "name": actor.username,
        "iat": int(now.timestamp()),
        "exp": int((now + timedelta(seconds=life_s)).timestamp()),
    }
    if actor.session_id is not None:
        claims["sid"] = str(actor.session_id)
    if actor.enrol_only:
        claims["enrol"] = True
    return jwt.encode({"alg": ALGORITHM, "typ": "JWT"}, claims, OctKey.import_key(key), [ALGORITHM])


def verify_access_token(token: str, key: bytes, now: datetime) -> Actor:
    """The user a token was made for.

    Raises NotAuthenticated: `credentials_invalid` when it is not one of ours, `token_expired` when it was.
    """
    if len(token) > MAX_TOKEN_CHARS:
        raise NotAuthenticated("The access token is not valid; sign in again.")
    try:
        claims: dict[str, Any] = jwt.decode(token, OctKey.import_key(key), [ALGORITHM]).claims
        expires_at = from_ms(int(claims["exp"]) * 1000)
        actor = Actor(
            user_id=uuid.UUID(claims["sub"]),
            agency_id=uuid.UUID(claims["agency"]),
            role=str(claims["role"]),
            username=str(claims["name"]),
            session_id=uuid.UUID(claims["sid"]) if "sid" in claims else None,
            enrol_only=bool(claims.get("enrol")),
        )
    except (JoseError, KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise NotAuthenticated("The access token is not valid; sign in again.") from error
    if expires_at <= now:
        raise NotAuthenticated("The access token has expired; refresh it.", code="token_expired")
    return actor


def bearer_token(authorization: str | None) -> str:
    """The token of an `Authorization: Bearer …` header; raises NotAuthenticated `credentials_missing`."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise NotAuthenticated("Send a token as Authorization: Bearer …", code="credentials_missing")
    return token.strip()


async def any_user(request: Request, context: Context, _: Annotated[str | None, Depends(_user_scheme)]) -> Actor:
    """The signed-in user of this request, also one who may only add a second factor yet."""
    actor = user_of(bearer_token(request.headers.get("authorization")), context)
    return dataclasses.replace(actor, address=client_address(request), purpose=purpose_of(request))


def purpose_of(request: Request) -> str:
    """Why this is asked, a word of the header `Qorgan-Purpose`; "" when it says none. Raises InvalidInput."""
    return check_purpose(request.headers.get(PURPOSE_HEADER, ""))


def check_purpose(purpose: object) -> str:
    """A purpose as it may be kept. Raises InvalidInput for what is no word."""
    if not isinstance(purpose, str) or (purpose and not PURPOSE.fullmatch(purpose)):
        raise InvalidInput(f"{PURPOSE_HEADER} is one word of small letters and _, of at most 40.")
    return purpose


def user_of(token: str, context: ApiContext) -> Actor:
    """The user an access token speaks for now; raises NotAuthenticated, also when her session was ended."""
    actor = verify_access_token(token, context.token_key, context.clock())
    if context.ended_sessions.has_ended(actor.session_id):
        raise NotAuthenticated("This sign-in was ended; sign in again.", code="token_revoked")
    return actor


def check_whole(actor: Actor) -> None:
    """Raise NotAllowed when the user has to add a second factor before anything else."""
    if actor.enrol_only:
        raise NotAllowed(
            "Your agency wants a second factor of you; add a passkey or an authenticator app first.",
            code="second_factor_enrolment_required",
        )


async def current_user(actor: Annotated[Actor, Depends(any_user)]) -> Actor:
    """The signed-in user of this request."""
    check_whole(actor)
    return actor


def client_address(request: Request) -> str:
    """The address a request came from, as far as the server knows it."""
    return request.client.host if request.client is not None else ""


def require(*roles: str) -> Callable[[Actor], Awaitable[Actor]]:
    """A dependency: the signed-in user, who must have one of `roles`."""

    async def check(actor: Annotated[Actor, Depends(current_user)]) -> Actor:
        if actor.role not in roles:
            raise NotAllowed(f"This needs the role {' or '.join(roles)}; yours is {actor.role}.")
        return actor

    RULES[check] = roles
    return check


async def current_device(request: Request, context: Context, _: Annotated[Any, Depends(_device_scheme)]) -> Any:
    """The device (api.ingest.registry.DeviceIdentity) whose token this request bears, checked from memory."""
    token = bearer_token(request.headers.get("authorization"))
    digest = token_digest(token)
    holder = context.registry.shown(digest)
    if isinstance(holder, DeviceIdentity):
        return holder
    if not context.registry.knows(digest):
        raise StoreUnavailable("The devices are not known yet; ask again shortly.")
    raise unknown_device(holder if isinstance(holder, str) else "unknown")


async def protected_device(device: Annotated[Any, Depends(current_device)]) -> Any:
    """The device that asks, which is no aggressor's; raises NotAllowed `device_forbidden`."""
    if device.role == "aggressor":
        raise NotAllowed("This device has no such page.", code="device_forbidden")
    return device


def unknown_device(why: str) -> NotAuthenticated:
    """The error for a device token that does not hold: `unknown`, `revoked`, `replaced` or `expired`."""
    if why == "replaced":
        return NotAuthenticated(
            "A newer token stands in this one's place. Has this device not asked for it, its token was copied:"
            " enrol it anew.",
            code="token_replaced",
        )
    if why == "revoked":
        return NotAuthenticated("This device's token was revoked; enrol it again.", code="token_revoked")
    if why == "expired":
        return NotAuthenticated("This device's token has expired; enrol it again.", code="token_expired")
    return NotAuthenticated("No device has this token; enrol it.", code="device_unknown")


AnyUser = Annotated[Actor, Depends(any_user)]
"""Any signed-in user, also one who may only add a second factor yet."""
User = Annotated[Actor, Depends(current_user)]
"""Any signed-in user."""
Admin = Annotated[Actor, Depends(require("admin"))]
"""Manages users, the agency and gateways."""
Manager = Annotated[Actor, Depends(require("admin", "supervisor", "caseworker"))]
"""Manages people, orders, devices, zones and contacts."""
Supervisor = Annotated[Actor, Depends(require("admin", "supervisor"))]
Reader = Annotated[Actor, Depends(require("admin", "supervisor", "caseworker", "dispatcher"))]
"""Reads people, orders, devices, zones and contacts whole."""
FieldReader = Annotated[Actor, Depends(require("admin", "supervisor", "caseworker", "dispatcher", "officer"))]
"""Reads what an officer on the street needs too."""
Dispatch = Annotated[Actor, Depends(require("admin", "supervisor", "dispatcher"))]
"""Sends units."""
Reporter = Annotated[Actor, Depends(require("admin", "supervisor", "auditor"))]
Auditor = Annotated[Actor, Depends(require("admin", "auditor"))]
Device = Annotated[Any, Depends(current_device)]
"""The device that asks (api.ingest.registry.DeviceIdentity)."""
ProtectedDevice = Annotated[Any, Depends(protected_device)]
"""The same, and it is no aggressor's."""

RULES |= {
    any_user: (*ROLES, "enrolling"),
    current_user: ROLES,
    current_device: ("device",),
    protected_device: ("protected_device",),
}
