"""Who somebody is whom her agency's own sign-in has vouched for: found, linked or made, with the role it tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from core.actions.sign_in import note
from core.actions.unit_of_work import Unit
from core.actions.users import MAX_USERNAME_CHARS, ROLES, add_user, change_user
from core.errors import Conflict
from core.postgres import users
from core.postgres.table import Record

SECOND_FACTOR_METHODS: Final = frozenset({"mfa", "otp", "hwk"})
"""Authentication methods (RFC 8176) that are, or include, a second factor."""
MAX_SUBJECT_CHARS: Final = 255


class NotAdmitted(Exception):  # noqa: N818 - it is what the sentence says
    """The provider vouches for her, the agency does not let her in; `reason` is one of a closed list."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def has_second_factor(provider: Mapping[str, Any], claims: Mapping[str, Any]) -> bool:
    """Whether the provider has asked for a second factor: it always does, or says so of this sign-in."""
    methods = claims.get("amr")
    told = set(methods) if isinstance(methods, list) and all(isinstance(one, str) for one in methods) else set()
    return bool(provider["trusts_second_factor"] or told & SECOND_FACTOR_METHODS)


def role_of(provider: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    """The role the provider's claim means; raises NotAdmitted `no_role`."""
    held = _claim(claims, provider["role_claim"]) if provider["role_claim"] else None
    values = {str(one) for one in held} if isinstance(held, list) else {str(held)} if held is not None else set()
    meant = {role for value, role in provider["role_map"].items() if value in values}
    for role in ROLES:  # of several the one that comes first here
        if role in meant:
            return role
    if provider["default_role"] in ROLES:
        return str(provider["default_role"])
    raise NotAdmitted("no_role")


def email_of(provider: Mapping[str, Any], claims: Mapping[str, Any]) -> str | None:
    """Her verified address; raises NotAdmitted `domain` where the agency admits only some and hers is none of them."""
    email = claims.get("email")
    verified = email.casefold() if isinstance(email, str) and claims.get("email_verified") is True else None
    if provider["email_domains"]:
        domain = verified.rpartition("@")[2] if verified else ""
        if domain not in {str(one).casefold() for one in provider["email_domains"]}:
            raise NotAdmitted("domain")
    return verified


async def admit(unit: Unit, provider: Mapping[str, Any], claims: Mapping[str, Any], address: str) -> Record:
    """The user somebody is; her role follows the provider's where it tells one. Raises NotAdmitted."""
    agency_id = provider["agency_id"]
    email = email_of(provider, claims)
    role = role_of(provider, claims)
    subject = f"{provider['issuer']} {claims['sub']}"
    if not claims["sub"] or len(claims["sub"]) > MAX_SUBJECT_CHARS or "\x00" in subject:
        raise NotAdmitted("token_invalid")
    user = await users.by_subject(unit.connection, agency_id, subject)
    if user is None and email is not None:
        # Somebody whom an administrator has added by her address: it is she, as the agency's own sign-in says so.
        same = await users.by_username(unit.connection, email)
        if same is not None and same["agency_id"] == agency_id and same["provider_subject"] is None:
            user = await users.USERS.update(unit.connection, agency_id, same["id"], {"provider_subject": subject})
            await note(unit, user, "user.linked", address)
    if user is None:
        return await _provision(unit, provider, claims, email, role, subject, address)
    if user["disabled_at"] is not None:
        raise NotAdmitted("disabled")
    if provider["role_claim"] and user["role"] != role:
        user = await change_user(unit, agency_id, user["id"], {"role": role})
        await note(unit, user, "user.role_by_provider", address, role=role)
    return user


async def _provision(
    unit: Unit,
    provider: Mapping[str, Any],
    claims: Mapping[str, Any],
    email: str | None,
    role: str,
    subject: str,
    address: str,
) -> Record:
    if not provider["provision"]:
        raise NotAdmitted("unknown_user")
    preferred = claims.get("preferred_username")
    name = email or (preferred if isinstance(preferred, str) else "") or str(claims["sub"])
    display_name = claims.get("name")
    if len(name) > MAX_USERNAME_CHARS or not name.isprintable() or not name.strip():
        raise NotAdmitted("name_unusable")
    try:
        user = await add_user(
            unit,
            provider["agency_id"],
            name,
            None,
            role,
            provider_subject=subject,
            display_name=display_name[:200] if isinstance(display_name, str) and display_name.isprintable() else None,
        )
    except Conflict:
        raise NotAdmitted("name_taken") from None
    await note(unit, user, "user.created_by_provider", address, role=role)
    return user


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    """A claim by its name, or by a path of names with dots (`realm_access.roles`)."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found
