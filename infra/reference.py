"""Writes the reference pages that are read off the code: settings, routes, metrics, error codes.

`python -m infra.reference` writes them to docs/reference/; a test holds them equal to what this makes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from prometheus_client.metrics import MetricWrapperBase
from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from api.who_may import NAME as ROLES_OF_ROUTE
from core import metrics
from core.actions.users import ROLES as USER_ROLES
from core.errors import CODES
from core.postgres.database import Database
from core.settings import Settings

DOCS = Path(__file__).parent.parent / "docs" / "reference"

MEANINGS = {
    "malformed_json": "The body or frame is no JSON. Mend it and send again.",
    "malformed_request": "The request itself is broken.",
    "validation_failed": "A field has a wrong value; `errors` says which and why.",
    "unknown_field": "The management API knows no such field; `errors` names it.",
    "position_invalid": "`lat` or `lon` is missing, not a number or out of range.",
    "time_invalid": "`at` is missing or no RFC 3339 time.",
    "time_in_future": "`at` is too far ahead; set the device's clock.",
    "time_too_old": "`at` is older than the history that is kept.",
    "device_id_missing": "A gateway's ping has to say whose it is.",
    "geometry_invalid": "The geometry cannot be used; `detail` says where.",
    "order_same_person": "Victim and aggressor of an order are one person.",
    "order_dates_invalid": "`valid_until` is not after `valid_from`.",
    "enrolment_code_invalid": "The enrolment code is wrong, used or expired; ask for a new one.",
    "erasure_code_invalid": "The code is wrong or was tried too often; ask again to get a new one.",
    "cursor_invalid": "The cursor is none of ours; start without one.",
    "outcome_required": "Resolving needs an outcome.",
    "signature_missing": "This device signs its pings; wrap this one in its signature.",
    "signature_invalid": "The signature is not this device's over this text, or the text lacks device_id or seq.",
    "encoding_unsupported": "The body came compressed; send it as it is.",
    "body_too_large": "The body is larger than allowed; send less at once.",
    "frame_too_large": "The frame is larger than allowed; send fewer pings in it.",
    "too_many_pings": "More pings in one call than allowed; send several calls.",
    "credentials_missing": "No bearer token was sent.",
    "credentials_invalid": "The token, user name or password does not hold.",
    "token_expired": "The token has expired; refresh it or sign in again.",
    "token_revoked": "The token was revoked, or its session ended: enrol the device again, or sign in again.",
    "token_replaced": "A newer token stands in its place; if the device did not ask for that, it was copied.",
    "second_factor_required": "The password is right; give one of `factors` too: `otp`, or `passkey`.",
    "second_factor_invalid": "The one-time code, recovery code or passkey does not hold, or was used before.",
    "second_factor_enrolment_required": "Your agency wants a second factor of you; add one, nothing else is open.",
    "pin_invalid": "Send two PINs of four to eight digits that differ.",
    "wrong_pin": "This is not the PIN; try again. Too many wrong tries are not told apart from the right one.",
    "pins_not_set": "Set the PIN and the duress PIN first (`PUT /v1/me/pins`).",
    "confirmation_required": "This wants a recent proof of who you are: `POST /v1/me/confirm`, or sign in again.",
    "password_weak": "Too short, too long, or among the first that are guessed; `detail` says which.",
    "sign_in_code_invalid": "The one-time code is wrong, used or expired; ask your administrator for a new one.",
    "provider_unavailable": "The agency's sign-in does not answer, or not as it should; try again shortly.",
    "device_unknown": "No such device in the sender's agency.",
    "role_forbidden": "The user's role may not do this.",
    "device_forbidden": "This device may not do this.",
    "reason_required": "Where she is opens for a reason alone: send `reason_code` and `reason`.",
    "not_found": "No such thing, or not yours to know of.",
    "method_not_allowed": "The address is right, the method is not.",
    "id_reused": "The id was used for something else; make a new one.",
    "version_stale": "Someone changed it meanwhile; load it again and decide anew.",
    "state_forbids": "Its state does not allow this.",
    "still_inside": "He is still inside; resolve with outcome custody or suspension, or wait.",
    "unit_in_conflict": (
        "A unit is in conflict with a party; send another, or a supervisor sends it with `override_reason`."
    ),
    "already_exists": "It exists already.",
    "person_erased": "The person was erased; nothing is kept of her, and nothing can be.",
    "legal_hold": "What is kept of the person is wanted in court; it is erased once the hold is lifted.",
    "policy_reaches_nobody": "Somebody whom a policy or a rota names cannot be told; the detail says who.",
    "safe_contact_missing": "The person has no safe contact with an address; enter one, then ask again.",
    "in_use": "Something else refers to it, or it refers to something that is not there.",
    "rate_limited": "Too many in a short time; wait as `Retry-After` says.",
    "too_many_connections": "The process has as many connections as it takes; try again shortly.",
    "ingest_unavailable": "Pings cannot be made durable now; keep them and try again.",
    "store_unavailable": "A store does not answer; try again shortly.",
    "ledger_unapplied": "Who was erased is back, or the ledger is missing: run `qorgan migrate`. Panics are served.",
    "request_timeout": "The request took longer than allowed; try again, or ask for less.",
    "service_stopping": "The process is ending; try again, another one answers.",
    "internal_error": "A defect of ours; the log has it under the request's id.",
}


def configuration_page() -> str:
    """Every setting with its default and meaning."""
    lines = [
        "# Settings",
        "",
        "Read once, at start, from environment variables. Units are last in a name. Written by",
        "`python -m infra.reference` from `core/settings.py`.",
        "",
        "| variable | default | meaning |",
        "| --- | --- | --- |",
    ]
    for name, field in Settings.model_fields.items():
        default = "(none)" if field.default in (None, PydanticUndefined) else f"`{field.default}`"
        assert field.description, f"the setting {name} says nothing about itself"
        lines.append(f"| `QORGAN_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(lines) + "\n"


def metrics_page() -> str:
    """Every metric with its kind, labels and meaning."""
    lines = [
        "# Metrics",
        "",
        "Served at `GET /metrics` in Prometheus' text form. Labels are bounded and bear no person, device or",
        "place. Written by `python -m infra.reference` from `core/metrics.py`.",
        "",
        "| metric | kind | labels | meaning |",
        "| --- | --- | --- | --- |",
    ]
    for value in vars(metrics).values():
        if isinstance(value, MetricWrapperBase):
            description = next(iter(value.describe()))
            suffix = "_total" if description.type == "counter" else ""
            labels = ", ".join(f"`{label}`" for label in value._labelnames) or "–"  # noqa: SLF001 - no public way
            lines.append(
                f"| `{description.name}{suffix}` | {description.type} | {labels} | {description.documentation} |"
            )
    return "\n".join(lines) + "\n"


def errors_page() -> str:
    """Every error code with its status and what to do."""
    lines = [
        "# Errors",
        "",
        "Every error is `application/problem+json` (RFC 9457): `type`, `title`, `status`, `code`, `detail`. The",
        '`code` is stable; device frames carry the same codes in `{"error": {…}}`. Written by',
        "`python -m infra.reference` from `core/errors.py`.",
        "",
        "| code | status | what it means and what to do |",
        "| --- | --- | --- |",
    ]
    lines += [f"| `{code}` | {status} | {MEANINGS[code]} |" for code, status in CODES.items()]
    return "\n".join(lines) + "\n"


def routes_page(document: dict[str, Any]) -> str:
    """Every HTTP route of the OpenAPI document; the two WebSockets are named by hand below it."""
    lines = [
        "# Routes",
        "",
        "The full description is the OpenAPI document at `/openapi.json`. Written by",
        "`python -m infra.reference` from the application. *Who* is told there as `x-qorgan-roles`: roles of users,",
        "`enrolling` (also who may only add a second factor yet), `device` (any device's token), `protected_device`",
        "(one that no aggressor wears), `gateway`, `anyone`.",
        "",
        "| method | path | who | what it does |",
        "| --- | --- | --- | --- |",
    ]
    for path, operations in sorted(document["paths"].items()):
        for method, operation in operations.items():
            words = operation.get("description", operation.get("summary", "")).strip().splitlines()
            who = ", ".join(operation.get(ROLES_OF_ROUTE, ["nobody knows"]))
            who = who.replace(", ".join(sorted((*USER_ROLES, "enrolling"))), "any user, enrolling")
            who = who.replace(", ".join(sorted(USER_ROLES)), "any user")
            lines.append(f"| {method.upper()} | `{path}` | {who} | {words[0] if words else ''} |")
    lines += [
        "",
        "WebSockets: `/v1/pings/stream` (devices, on the stream's own port), `/v1/feed` (dispatchers),",
        "`/v1/me/events` (a device's own news).",
        "",
    ]
    return "\n".join(lines)


def openapi_document() -> dict[str, Any]:
    """The OpenAPI document of the application, made without any store."""
    from api.app import create_app
    from api.deps import ApiContext

    settings = Settings(token_key=SecretStr("only to describe the routes, never to sign"))
    return create_app(ApiContext(settings, Database("postgresql://"), redis=None)).openapi()


def pages() -> dict[str, str]:
    """File name → text of every page."""
    return {
        "configuration.md": configuration_page(),
        "errors.md": errors_page(),
        "metrics.md": metrics_page(),
        "routes.md": routes_page(openapi_document()),
    }


def main() -> int:
    """Write the pages; status 0."""
    DOCS.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (DOCS / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
