"""Every error Qorgan raises on purpose.

    QorganError
    ├── InvalidInput        what was sent cannot be right            (422 unless the table says otherwise)
    ├── NotAuthenticated    no credential, or none that holds        (401)
    ├── NotAllowed          known, but may not                       (403)
    ├── NotFound            no such thing, or not yours to know of   (404)
    ├── Conflict            true once, no longer                     (409)
    ├── TooLarge            beyond a stated bound                    (413)
    ├── TooMany             beyond a stated rate                     (429)
    ├── Unavailable         a store or a peer is away; try again     (503)
    │   └── StoreUnavailable
    │       └── KeyUnavailable  what is sealed opens or closes for nobody now   (503)
    ├── Misconfigured       the operator has to change something     (exit status 1)
    └── LeaseLost           another worker owns the shard now        (internal)

A `code` is stable and documented in `docs/errors.md`; `CODES` is the one table of codes and statuses. The
detail is one sentence that says what to do and never repeats a secret.
"""

from __future__ import annotations

from typing import Final

CODES: Final[dict[str, int]] = {
    # what was sent
    "malformed_json": 400,
    "malformed_request": 400,
    "validation_failed": 422,
    "unknown_field": 422,
    "position_invalid": 422,
    "time_invalid": 422,
    "time_in_future": 422,
    "time_too_old": 422,
    "device_id_missing": 422,
    "geometry_invalid": 422,
    "order_same_person": 422,
    "order_dates_invalid": 422,
    "enrolment_code_invalid": 422,
    "erasure_code_invalid": 422,
    "pin_invalid": 422,
    "cursor_invalid": 422,
    "outcome_required": 422,
    "encoding_unsupported": 415,
    "body_too_large": 413,
    "frame_too_large": 413,
    "too_many_pings": 413,
    "signature_missing": 422,
    "signature_invalid": 422,
    # who sent it
    "credentials_missing": 401,
    "credentials_invalid": 401,
    "token_expired": 401,
    "token_revoked": 401,
    "token_replaced": 401,
    "second_factor_required": 401,
    "second_factor_invalid": 401,
    "second_factor_enrolment_required": 403,
    "confirmation_required": 403,
    "wrong_pin": 403,
    "password_weak": 422,
    "sign_in_code_invalid": 422,
    "provider_unavailable": 503,
    "device_unknown": 401,
    "role_forbidden": 403,
    "device_forbidden": 403,
    "reason_required": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    # what is so
    "id_reused": 409,
    "version_stale": 409,
    "state_forbids": 409,
    "still_inside": 409,
    "unit_in_conflict": 409,
    "already_exists": 409,
    "in_use": 409,
    "person_erased": 409,
    "legal_hold": 409,
    "safe_contact_missing": 409,
    "policy_reaches_nobody": 422,
    "pins_not_set": 409,
    # how much, and whether now
    "rate_limited": 429,
    "too_many_connections": 503,
    "ingest_unavailable": 503,
    "store_unavailable": 503,
    "ledger_unapplied": 503,
    "service_stopping": 503,
    "request_timeout": 503,
    "internal_error": 500,
}


class QorganError(Exception):
    """Base of every deliberate error: a stable `code` and one sentence of `detail`."""

    code = "internal_error"

    def __init__(self, detail: str, *, code: str | None = None, **context: object) -> None:
        super().__init__(detail)
        self.detail = detail
        self.context = context
        """Extra members of the problem document; never a secret, never a position."""
        if code is not None:
            self.code = code
        assert self.code in CODES, f"{self.code} is missing from core.errors.CODES"

    @property
    def status(self) -> int:
        """The HTTP status of this error's code."""
        return CODES[self.code]


class InvalidInput(QorganError):  # noqa: N818 - the tree above is read as sentences
    """What was sent cannot be right."""

    code = "validation_failed"


class NotAuthenticated(QorganError):  # noqa: N818
    """No credential, or none that holds."""

    code = "credentials_invalid"


class NotAllowed(QorganError):  # noqa: N818
    """Known, but may not."""

    code = "role_forbidden"


class NotFound(QorganError):  # noqa: N818
    """No such thing, or not the asker's to know of: the two are never told apart."""

    code = "not_found"


class Conflict(QorganError):  # noqa: N818
    """True once, no longer."""

    code = "state_forbids"


class TooLarge(QorganError):  # noqa: N818
    """Beyond a stated bound."""

    code = "body_too_large"


class TooMany(QorganError):  # noqa: N818
    """Beyond a stated rate."""

    code = "rate_limited"


class Unavailable(QorganError):  # noqa: N818
    """A store or a peer is away; the same request may succeed later."""

    code = "service_stopping"


class StoreUnavailable(Unavailable):
    """PostgreSQL or Redis did not answer in time."""

    code = "store_unavailable"


class KeyUnavailable(StoreUnavailable):
    """A data key cannot be had: the key service is away, or the key was lost; PostgreSQL itself may be well."""


class Misconfigured(QorganError):  # noqa: N818
    """The operator has to change something before this can run; shown as one line, exit status 1."""


class LeaseLost(QorganError):  # noqa: N818
    """Another worker owns the shard now: stop writing for it."""
