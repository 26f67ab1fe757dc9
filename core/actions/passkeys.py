"""Passkeys (WebAuthn level 3): registering one, and signing in with one, alone or after a password.

Alone it has to verify its user (a fingerprint, a PIN): it is both factors then. After a password its presence is
enough. Attestation is not asked for: what a passkey is made by is no ground for refusing it, and would tell the maker's
device apart.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import webauthn
from webauthn.helpers import base64url_to_bytes, parse_client_data_json
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    AuthenticatorTransport,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from core.actions.unit_of_work import Unit
from core.challenges import check_challenge, make_challenge
from core.errors import Conflict, InvalidInput, NotAuthenticated
from core.ids import new_id, token_digest
from core.postgres import second_factors, sign_in_codes
from core.postgres.table import Record

NAME: Final = "Qorgan"
MAX_PASSKEYS: Final = 20
MAX_CREDENTIAL_CHARS: Final = 20_000
REGISTER: Final = "passkey.register"
ALONE: Final = "passkey.alone"
AFTER: Final = "passkey.after"
MALFORMED: Final = (WebAuthnException, ValueError, KeyError, TypeError, AttributeError, IndexError)
"""What the library raises for answers that are wrong or are none at all."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where passkeys are good: a host name, and the origins of its pages."""

    rp_id: str
    origins: tuple[str, ...]


async def creation_options(unit: Unit, user: Record, site: Site, key: bytes) -> dict[str, Any]:
    """What the browser needs to make a passkey for this user."""
    have = await second_factors.passkeys(unit.connection, user["id"])
    if len(have) >= MAX_PASSKEYS:
        raise Conflict(f"You have {MAX_PASSKEYS} passkeys; remove one first.")
    options = webauthn.generate_registration_options(
        rp_id=site.rp_id,
        rp_name=NAME,
        user_id=user["id"].bytes,
        user_name=user["username"],
        user_display_name=user["display_name"] or user["username"],
        challenge=make_challenge(key, REGISTER, unit.now, user["id"].bytes),
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.PREFERRED, user_verification=UserVerificationRequirement.PREFERRED
        ),
        exclude_credentials=_descriptors(have),
    )
    return _plain(options)


async def register(unit: Unit, user: Record, name: str, credential: dict[str, Any], site: Site, key: bytes) -> Record:
    """Keep a new passkey; raises InvalidInput when the answer does not fit, Conflict when it is there already."""
    try:
        challenge = await _spend(unit, credential, REGISTER, key, user["id"].bytes)
        verified = webauthn.verify_registration_response(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=site.rp_id,
            expected_origin=list(site.origins),
        )
    except (NotAuthenticated, *MALFORMED):
        raise InvalidInput("The passkey's answer does not fit; begin again.") from None
    known = {one.value for one in AuthenticatorTransport}
    return await second_factors.PASSKEYS.insert(
        unit.connection,
        {
            "id": new_id(),
            "agency_id": user["agency_id"],
            "user_id": user["id"],
            "credential_id": verified.credential_id,
            "public_key": verified.credential_public_key,
            "sign_count": verified.sign_count,
            "name": name,
            "transports": [one for one in _transports(credential) if one in known],
            "backed_up": verified.credential_backed_up,
            "created_at": unit.now,
        },
    )


def request_options(site: Site, key: bytes, now: Any) -> dict[str, Any]:
    """What the browser needs to sign somebody in by passkey alone; whom is not known yet."""
    return _plain(
        webauthn.generate_authentication_options(
            rp_id=site.rp_id,
            challenge=make_challenge(key, ALONE, now),
            user_verification=UserVerificationRequirement.REQUIRED,
        )
    )


async def request_options_of(unit: Unit, user: Record, site: Site, key: bytes) -> dict[str, Any]:
    """What the browser needs for one of this user's passkeys, her password having been right."""
    return _plain(
        webauthn.generate_authentication_options(
            rp_id=site.rp_id,
            challenge=make_challenge(key, AFTER, unit.now, user["id"].bytes),
            allow_credentials=_descriptors(await second_factors.passkeys(unit.connection, user["id"])),
            user_verification=UserVerificationRequirement.DISCOURAGED,
        )
    )


def credential_id_of(credential: dict[str, Any]) -> bytes:
    """Which credential an answer claims to be of; raises NotAuthenticated when it claims none."""
    try:
        return base64url_to_bytes(str(credential["rawId"]))
    except MALFORMED:
        raise NotAuthenticated("This passkey is not known here.") from None


async def check(
    unit: Unit, user: Record, credential: dict[str, Any], site: Site, key: bytes, *, alone: bool
) -> NotAuthenticated | None:
    """None when one of the user's passkeys has answered; else the error, returned so that what it spent is kept."""
    refused = NotAuthenticated("The passkey was not accepted.", code="second_factor_invalid")
    found = await second_factors.lock_passkey(unit.connection, user["id"], credential_id_of(credential))
    if found is None:
        return refused
    try:
        challenge = await _spend(unit, credential, ALONE if alone else AFTER, key, b"" if alone else user["id"].bytes)
        verified = webauthn.verify_authentication_response(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=site.rp_id,
            expected_origin=list(site.origins),
            credential_public_key=found["public_key"],
            credential_current_sign_count=found["sign_count"],
            require_user_verification=alone,
        )
        handle = credential["response"].get("userHandle")
        if handle and base64url_to_bytes(handle) != user["id"].bytes:
            return refused
    except (NotAuthenticated, *MALFORMED):
        return refused
    await second_factors.use_passkey(
        unit.connection, found["id"], verified.new_sign_count, unit.now, backed_up=verified.credential_backed_up
    )
    return None


async def _spend(unit: Unit, credential: dict[str, Any], purpose: str, key: bytes, owner: bytes) -> bytes:
    """The challenge an answer is to, ours and answered for the first time; raises NotAuthenticated or of MALFORMED."""
    client_data = base64url_to_bytes(credential["response"]["clientDataJSON"])
    challenge = parse_client_data_json(client_data).challenge
    until = check_challenge(key, challenge, purpose, unit.now, owner)
    digest = token_digest(challenge.hex())
    if not await sign_in_codes.spend_challenge(unit.connection, digest, unit.now, until):
        raise NotAuthenticated("This was answered before; begin again.")
    return challenge


def _descriptors(passkeys: list[Record]) -> list[PublicKeyCredentialDescriptor]:
    return [
        PublicKeyCredentialDescriptor(
            id=passkey["credential_id"], transports=[AuthenticatorTransport(one) for one in passkey["transports"]]
        )
        for passkey in passkeys
    ]


def _transports(credential: dict[str, Any]) -> list[str]:
    found = credential.get("response", {}).get("transports")
    return [str(one) for one in found][:10] if isinstance(found, list) else []


def _plain(options: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(webauthn.options_to_json(options))
    return found
