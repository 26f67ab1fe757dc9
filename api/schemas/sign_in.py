"""Signing in, second factors, sessions."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any

from pydantic import ConfigDict, Field, SecretStr

from api.schemas.access import RoleName
from api.schemas.base import Body, Name, View

Code = Annotated[str, Field(min_length=1, max_length=64)]
Credential = Annotated[dict[str, Any], Field(description="The browser's answer, as `PublicKeyCredential.toJSON()`.")]
NewPassword = Annotated[SecretStr, Field(max_length=256)]


class OfferedAgency(View):
    """An agency whose users sign in at its own provider."""

    id: uuid.UUID
    label: str


class SignInOptions(View):
    """What a sign-in page may offer."""

    passkey_host: str | None = Field(description="Host whose pages can use passkeys; null: none here.")
    agencies: list[OfferedAgency]


class PasskeyAnswer(Body):
    """A passkey's answer."""

    credential: Credential


class PasswordByCode(Body):
    """A new password and the code that allows it."""

    model_config = ConfigDict(str_strip_whitespace=False)

    username: Annotated[str, Field(min_length=1, max_length=100)]
    code: Code
    password: NewPassword


class OwnPassword(Body):
    """A new password of your own."""

    model_config = ConfigDict(str_strip_whitespace=False)

    password: NewPassword


class Confirmation(Body):
    """One proof of who you are: any of these."""

    model_config = ConfigDict(str_strip_whitespace=False)

    password: Annotated[SecretStr, Field(max_length=256)] | None = None
    otp: Code | None = None
    passkey: Credential | None = None


class TotpBegun(View):
    """A secret for an authenticator app, told only now."""

    secret: str
    uri: str = Field(description="otpauth:// address, to be shown as a QR code.")


class TotpCode(Body):
    """A code of the app."""

    code: Code


class RecoveryCodes(View):
    """Codes that are good once each, told only now."""

    recovery_codes: list[str]


class NewPasskey(Body):
    """A passkey to be kept."""

    name: Name
    credential: Credential


class PasskeyName(Body):
    """What a passkey is called."""

    name: Name


class PasskeyView(View):
    """A passkey; no key of it."""

    id: uuid.UUID
    name: str
    backed_up: bool = Field(description="Whether its maker keeps it on several devices.")
    created_at: datetime
    last_used_at: datetime | None


class FactorsView(View):
    """What you have beside your password."""

    totp: bool
    passkeys: list[PasskeyView]
    recovery_codes: int = Field(description="How many are unused.")
    required: bool = Field(description="Whether your agency wants a second factor of your role.")
    password: bool = Field(description="Whether you have a password at all.")
    passkey_host: str | None


class SessionView(View):
    """A sign-in that goes on."""

    id: uuid.UUID
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    address: str | None
    user_agent: str | None = Field(description="Browser and system, in two words.")
    method: str
    second_factor: str | None
    enrol_only: bool
    current: bool = Field(False, description="Whether this is the session that asks.")


class SessionList(View):
    """Sessions, the one last seen first."""

    items: list[SessionView]


class PasswordCode(View):
    """A code with which a user sets her password, told only now."""

    code: str
    expires_at: datetime


class SignInPolicy(Body):
    """What an agency wants of its users' sign-in."""

    second_factor_roles: Annotated[list[RoleName], Field(max_length=6)] = Field(
        description="Roles that need a second factor; of the others it is optional."
    )


class ProviderBody(Body):
    """An agency's own sign-in: an OpenID Connect provider."""

    issuer: Annotated[str, Field(min_length=8, max_length=500)]
    client_id: Annotated[str, Field(min_length=1, max_length=500)]
    client_secret: Annotated[SecretStr, Field(max_length=1000)] | None = Field(
        None, description="Absent: as it was, else the file in QORGAN_OIDC_SECRETS_DIR, else none (a public client)."
    )
    label: Annotated[str, Field(min_length=1, max_length=100)]
    scopes: Annotated[str, Field(pattern=r"^openid( [\x21\x23-\x5b\x5d-\x7e]+)*$", max_length=500)] = (
        "openid profile email"
    )
    role_claim: Annotated[str, Field(max_length=200)] | None = Field(None, description="Claim that tells the role.")
    role_map: Annotated[dict[str, RoleName], Field(max_length=100)] = Field(
        default_factory=dict, description="Value of that claim → role; of several the first: admin, supervisor …"
    )
    default_role: RoleName | None = Field(None, description="Role where the claim tells none; null: refused.")
    email_domains: Annotated[list[Annotated[str, Field(max_length=253)]], Field(max_length=100)] = Field(
        default_factory=list, description="Domains of verified addresses that may enter; none: any."
    )
    provision: bool = Field(False, description="Make a user at her first sign-in; else an administrator adds her.")
    trusts_second_factor: bool = Field(False, description="Whether the provider itself asks for a second factor.")
    enabled: bool = True


class ProviderView(View):
    """An agency's own sign-in; its secret is never told."""

    issuer: str
    client_id: str
    has_secret: bool
    label: str
    scopes: str
    role_claim: str | None
    role_map: dict[str, str]
    default_role: str | None
    email_domains: list[str]
    provision: bool
    trusts_second_factor: bool
    enabled: bool
    redirect_uri: str = Field(description="To be entered at the provider.")


class ProviderCode(Body):
    """The end of a sign-in at an agency's provider."""

    otp: Annotated[str, Field(max_length=64)] = ""
    passkey: Credential | None = None
