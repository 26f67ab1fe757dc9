"""One-time codes (RFC 6238), recovery codes, and whether a user has to give one."""

from __future__ import annotations

import base64
import hmac
import secrets
from dataclasses import dataclass
from typing import Any, Final

import pyotp

from core.actions.sign_in import note
from core.actions.unit_of_work import Unit
from core.errors import Conflict, NotAuthenticated, NotFound
from core.ids import token_digest
from core.postgres import second_factors, user_secrets
from core.postgres.database import Connection
from core.postgres.table import Record
from core.postgres.user_secrets import TOTP
from core.secret_box import SecretBox

ISSUER: Final = "Qorgan"
STEP_S: Final = 30
DRIFT_STEPS: Final = 1
"""A phone's clock may be so many steps behind or ahead."""
CODE_DIGITS: Final = 6
RECOVERY_CODES: Final = 10
RECOVERY_BYTES: Final = 10
"""80 bits: what one digest, unsalted, keeps from being guessed."""


@dataclass(frozen=True, slots=True)
class Factors:
    """What a user has beside her password, and whether her agency wants something."""

    totp: bool
    passkeys: int
    recovery_codes: int
    required: bool

    @property
    def any(self) -> bool:
        """Whether she has a second factor."""
        return self.totp or self.passkeys > 0

    @property
    def possible(self) -> list[str]:
        """What she may give now, by name."""
        return [
            name
            for name, has in (("passkey", self.passkeys), ("totp", self.totp), ("recovery", self.recovery_codes))
            if has and self.any
        ]


async def factors_of(connection: Connection, user: Record) -> Factors:
    """What this user has and has to have."""
    totp = await second_factors.totp(connection, user["id"])
    return Factors(
        totp=totp is not None and totp["confirmed_at"] is not None,
        passkeys=len(await second_factors.passkeys(connection, user["id"])),
        recovery_codes=await second_factors.recovery_codes_left(connection, user["id"]),
        required=user["role"] in await second_factors.required_roles(connection, user["agency_id"]),
    )


async def begin_totp(unit: Unit, user: Record) -> dict[str, str]:
    """A new secret and the address an authenticator app reads it from; it counts once a code of it was given."""
    secret = pyotp.random_base32()
    sealed = await user_secrets.seal(unit.connection, TOTP, user["id"], user["agency_id"], secret, unit.now)
    if not await second_factors.begin_totp(unit.connection, user, sealed, unit.now):
        raise Conflict("You have an authenticator app already; remove it first.")
    uri = pyotp.TOTP(secret).provisioning_uri(name=user["username"], issuer_name=ISSUER)
    return {"secret": secret, "uri": uri}


async def confirm_totp(unit: Unit, user: Record, code: str, box: SecretBox) -> list[str]:
    """Let the new secret count, as a code of it is right; the recovery codes, told only now.

    Raises Conflict when nothing was begun, NotAuthenticated `second_factor_invalid`.
    """
    found = await second_factors.totp(unit.connection, user["id"], lock=True)
    if found is None or found["confirmed_at"] is not None:
        raise Conflict("There is no authenticator app to confirm; begin with adding one.")
    if not await _use_totp(unit, user, code, box, found):
        raise NotAuthenticated("The code is wrong; wait for the next one.", code="second_factor_invalid")
    await second_factors.confirm_totp(unit.connection, user["id"], unit.now)
    return await new_recovery_codes(unit, user)


async def new_recovery_codes(unit: Unit, user: Record) -> list[str]:
    """Ten codes in place of those before, each good once; only their digests are kept."""
    plain = [base64.b32encode(secrets.token_bytes(RECOVERY_BYTES)).decode().lower() for _ in range(RECOVERY_CODES)]
    await second_factors.replace_recovery_codes(
        unit.connection, user, [_recovery_digest(user, code) for code in plain], unit.now
    )
    return ["-".join(code[start : start + 4] for start in range(0, len(code), 4)) for code in plain]


async def use_code(unit: Unit, user: Record, code: str, box: SecretBox) -> str | None:
    """Which second factor a code is, now used: totp or recovery; None when it is wrong or was used before."""
    plain = "".join(code.split()).replace("-", "").lower()
    if len(plain) == CODE_DIGITS:
        found = await second_factors.totp(unit.connection, user["id"], lock=True)
        if found is None or found["confirmed_at"] is None:
            return None
        return "totp" if await _use_totp(unit, user, plain, box, found) else None
    used = await second_factors.use_recovery_code(unit.connection, user["id"], _recovery_digest(user, plain), unit.now)
    if not used:
        return None
    left = await second_factors.recovery_codes_left(unit.connection, user["id"])
    await note(unit, user, "user.recovery_code_used", "", left=left)
    return "recovery"


async def remove_totp(unit: Unit, user: Record) -> None:
    """Forget the authenticator app. Raises NotFound, and Conflict when the agency wants it of her."""
    factors = await factors_of(unit.connection, user)
    if factors.required and factors.totp and not factors.passkeys:
        raise Conflict("Your agency wants a second factor of you; add a passkey first.")
    if not await second_factors.remove_totp(unit.connection, user["id"]):
        raise NotFound("There is no authenticator app.")


async def remove_passkey(unit: Unit, user: Record, passkey_id: Any) -> None:
    """Forget a passkey. Raises NotFound, and Conflict when it is the last factor and the agency wants one."""
    factors = await factors_of(unit.connection, user)
    if not await second_factors.remove_passkey(unit.connection, user["id"], passkey_id):
        raise NotFound("There is no passkey with this id.")
    if factors.required and factors.passkeys == 1 and not factors.totp:
        raise Conflict("Your agency wants a second factor of you; add another first.")


async def _use_totp(unit: Unit, user: Record, code: str, box: SecretBox, found: Record) -> bool:
    secret = await user_secrets.open_secret(unit.connection, TOTP, user["id"], found["secret_sealed"], box)
    app = pyotp.TOTP(secret, interval=STEP_S, digits=CODE_DIGITS)
    present = int(unit.now.timestamp()) // STEP_S
    right = None
    for step in range(present - DRIFT_STEPS, present + DRIFT_STEPS + 1):
        # Every step is computed and compared, so that the time taken tells nothing.
        if hmac.compare_digest(app.generate_otp(step).encode(), code.encode(errors="replace")):
            right = step
    return right is not None and await second_factors.use_step(unit.connection, user["id"], right)


def _recovery_digest(user: Record, code: str) -> bytes:
    return token_digest(f"{user['id']}:{code}")
