"""Errors on the wire: `application/problem+json` (RFC 9457) with a stable `code`, whatever went wrong.

No answer repeats what was sent: a value may be a secret or somebody's position. An unexpected error is logged in
full and answered by a bare 500.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from core.errors import CODES, InvalidInput, QorganError

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 1
"""What a 429 or 503 says when the error itself does not."""
MAX_ERRORS: Final = 20
"""Field errors told in one answer."""
NAME: Final = re.compile(r"[A-Za-z_][\w\[\], ()-]{0,59}", re.ASCII)
"""What reads like the name of a field."""

CODE_OF_STATUS: Final[dict[int, str]] = {
    400: "malformed_request",
    401: "credentials_missing",
    403: "role_forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    422: "validation_failed",
    429: "rate_limited",
    503: "store_unavailable",
}
"""The code of an error that the framework raised by its bare status."""

log = structlog.get_logger(__name__)


def problem(code: str, detail: str, **members: object) -> dict[str, Any]:
    """A problem document: type, title, status, detail, code, then what else there is to say."""
    status = CODES[code]
    return {
        "type": f"urn:qorgan:error:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        **members,
    }


def problem_headers(code: str, members: Mapping[str, object]) -> dict[str, str]:
    """Headers that go with a problem: how to sign in, or when to come back."""
    status = CODES[code]
    if status == HTTPStatus.UNAUTHORIZED:
        return {"WWW-Authenticate": "Bearer"}
    if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        wait_s = members.get("retry_after_s", RETRY_AFTER_S)
        return {"Retry-After": str(max(1, round(wait_s)) if isinstance(wait_s, int | float) else RETRY_AFTER_S)}
    return {}


def problem_response(
    code: str, detail: str, members: Mapping[str, object] | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """A problem document as an HTTP answer."""
    return Response(
        msgspec.json.encode(problem(code, detail, **(members or {}))),
        status_code=CODES[code],
        media_type=MEDIA_TYPE,
        headers={**problem_headers(code, members or {}), **(headers or {})},
    )


def error_response(error: QorganError) -> Response:
    """The HTTP answer to one of our own errors."""
    return problem_response(error.code, error.detail, error.context)


def _path(parts: Sequence[int | str]) -> str:
    """Where in a body something is wrong. What was sent as a name and reads like none is not repeated."""
    return ".".join(str(part) if isinstance(part, int) or NAME.fullmatch(part) else "?" for part in parts)


def describe_validation(errors: Sequence[Mapping[str, Any]]) -> InvalidInput:
    """One error out of a model's many: where and what, never the value that was sent."""
    told = [{"field": _path(error["loc"]), "problem": str(error["msg"])} for error in errors[:MAX_ERRORS]]
    kinds = {error["type"] for error in errors}
    if "json_invalid" in kinds:
        return InvalidInput("The body is not JSON; send one JSON document in UTF-8.", code="malformed_json")
    if "extra_forbidden" in kinds:
        unknown = ", ".join(_path(error["loc"]) for error in errors if error["type"] == "extra_forbidden")
        return InvalidInput(f"Unknown field: {unknown}; leave it out.", code="unknown_field", errors=told)
    first = told[0] if told else {"field": "body", "problem": "not valid"}
    return InvalidInput(f"{first['field']}: {first['problem']}.", code="validation_failed", errors=told)


def add_handlers(app: FastAPI) -> None:
    """Answer every error of `app` by a problem document."""

    async def on_qorgan_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, QorganError)
        if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.warning("request_failed", code=error.code, detail=error.detail)
        return error_response(error)

    async def on_invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return error_response(describe_validation(error.errors()))

    async def on_http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = CODE_OF_STATUS.get(
            error.status_code, "malformed_request" if error.status_code < 500 else "internal_error"
        )
        detail = {
            "not_found": "There is nothing at this address.",
            "method_not_allowed": f"This address does not take {request.method}.",
            "malformed_request": "The request cannot be read; check its body and content type.",
        }.get(code, HTTPStatus(CODES[code]).phrase + ".")
        return problem_response(code, detail, headers=error.headers)

    app.add_exception_handler(QorganError, on_qorgan_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http_error)
