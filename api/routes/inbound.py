"""`POST /v1/inbound/sms`: text messages, brought by an SMS gateway."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.deps import Context
from api.inbound_sms import is_genuine, take, take_call
from api.who_may import ANYONE
from core import sms_callbacks
from core.clock import to_ms
from core.domain import sms_report
from core.errors import NotAuthenticated
from core.metrics import INBOUND_SMS

router = APIRouter(tags=["panic"])

NUMBER_CHARS_MAX: Final = 40
BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["from", "text"],
                    "properties": {"from": {"type": "string"}, "text": {"type": "string"}},
                }
            },
            "application/x-www-form-urlencoded": {
                "schema": {"type": "object", "properties": {"From": {"type": "string"}, "Body": {"type": "string"}}}
            },
        }
    },
    "responses": {"200": {"description": "Taken, or of no interest: the answer tells not which."}},
}


@router.post("/v1/inbound/sms", openapi_extra=ANYONE | BODY)
async def take_sms(request: Request, context: Context) -> Response:
    """A text message that came in: 200 whatever it says. Signed by the gateway, or by the phone that wrote it."""
    received_ms = to_ms(context.clock())
    body = await request.body()
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    fields = {name: value for name, value in sms_callbacks.read(body, kind).items() if isinstance(value, str)}
    text = fields.get("text") or fields.get("Body") or ""
    number = (fields.get("from") or fields.get("From") or "")[:NUMBER_CHARS_MAX]
    genuine = is_genuine(context, request.headers, _address(request, context), body, fields)
    report = sms_report.read(text)
    outcome = "unsigned" if not genuine else "other"
    if report is not None:
        outcome = await take(context, report, number, received_ms, genuine=genuine)
    elif genuine and sms_report.is_plain_call(text):
        outcome = await take_call(context, text, number, received_ms)
    INBOUND_SMS.labels(outcome).inc()
    if outcome == "unsigned":
        raise NotAuthenticated("This is not signed by a gateway that is known here.", code="credentials_invalid")
    if kind == "application/x-www-form-urlencoded":
        # Twilio takes an answer for a message to send back; this one sends none.
        return Response('<?xml version="1.0" encoding="UTF-8"?><Response/>', media_type="application/xml")
    return Response("{}", media_type="application/json")


def _address(request: Request, context: Context) -> str:
    """The address as the gateway called it: Twilio signs it."""
    base = (context.settings.public_url or str(request.base_url)).rstrip("/")
    query = f"?{request.url.query}" if request.url.query else ""
    return f"{base}{request.url.path}{query}"
