"""Receipts from outside: what gateways, apps and people themselves say became of a message.

The link "I have seen it" needs no login and tells nothing: its page is the same for every token, also for one that is
unknown or too old. Asking for the page confirms nothing, so that what looks into links before people do confirms none
either; its buttons do: "I have seen it", and "I am acting on it".
"""

from __future__ import annotations

import functools
import uuid
from typing import Any, Final, Literal

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from api.auth import Device, User, client_address
from api.bounds import AttemptLimiter
from api.deps import Context
from api.who_may import ANYONE
from core import mail_receipts, sms_callbacks
from core.actions import receipts
from core.actions.unit_of_work import act
from core.errors import NotAuthenticated, NotFound, StoreUnavailable, TooMany
from core.settings import Settings
from core.sms_gateways import Gateway, load_gateways

log = structlog.get_logger(__name__)

router = APIRouter(tags=["receipts"])

State = Literal["delivered", "seen", "acknowledged"]
TOKEN_CHARS_MAX: Final = 100
PRESSES_PER_MINUTE: Final = 30
"""Buttons pressed from one address."""
SAID: Final = "said"
"""Field of the form that names the button; without one it is the first."""
ACTING: Final = "acknowledged"
FORM: Final = "application/x-www-form-urlencoded"
BODY: Final[dict[str, Any]] = {"requestBody": {"content": {FORM: {"schema": {"type": "object"}}}}}

LETTER: Final[dict[str, Any]] = {
    "requestBody": {
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {name: {"type": "string"} for name in ("message_id", "status", "code", "report")},
                }
            }
        }
    }
}

_presses = AttemptLimiter(PRESSES_PER_MINUTE)

PAGE: Final = """<!doctype html>
<html lang="mul">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex, nofollow, noarchive">
<meta name="referrer" content="no-referrer">
<title>…</title>
<style>
body{font:1.1rem/1.5 system-ui,sans-serif;margin:12vh auto 0;max-width:22rem;padding:0 1rem;text-align:center;
color:#1b1b1f;background:#fff}
p{margin:.3rem 0}
button{font:inherit;font-weight:600;width:100%%;margin-top:1.5rem;padding:1rem;border:0;border-radius:.6rem;
background:#1d4f91;color:#fff}
button span{display:block}
button+button,.later button{margin-top:.8rem;border:2px solid #1d4f91;background:transparent;color:#1d4f91}
button:focus-visible{outline:3px solid #f0a500}
@media (prefers-color-scheme:dark){body{color:#eee;background:#16181d}button{background:#8ab4f8;color:#10131a}
button+button,.later button{border-color:#8ab4f8;background:transparent;color:#8ab4f8}}
</style>
</head>
<body>
<main>
%s
</main>
</body>
</html>
"""
I_ACT: Final = f"""<button type="submit" name="{SAID}" value="{ACTING}">
<span lang="kk">Осымен айналысып жатырмын</span>
<span lang="ru">Уже занимаюсь этим</span>
<span lang="en">I am acting on it</span></button>"""
BUTTONS: Final = f"""<form method="post"><button type="submit"><span lang="kk">Көрдім</span>
<span lang="ru">Да, вижу</span>
<span lang="en">I have seen it</span></button>
{I_ACT}</form>"""
QUESTION: Final = (
    PAGE
    % f"""<p lang="kk">Хабарламаны көрдіңіз бе?</p>
<p lang="ru">Вы увидели сообщение?</p>
<p lang="en">Have you seen the message?</p>
{BUTTONS}"""
)
THANK_YOU: Final = """<p lang="kk">Рақмет. Бұл бетті жаба беріңіз.</p>
<p lang="ru">Спасибо. Страницу можно закрыть.</p>
<p lang="en">Thank you. You may close this page.</p>"""
THANKS: Final = {
    "seen": PAGE % f'{THANK_YOU}\n<form method="post" class="later">{I_ACT}</form>',
    ACTING: PAGE % THANK_YOU,
}
"""By what was said: who has only seen it may act on it yet."""
LATER: Final = (
    PAGE
    % f"""<p lang="kk">Қазір болмай тұр. Бір минуттан кейін қайталаңыз.</p>
<p lang="ru">Сейчас не получилось. Повторите через минуту.</p>
<p lang="en">That did not work just now. Try again in a minute.</p>
{BUTTONS}"""
)
HEADERS: Final = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-robots-tag": "noindex, nofollow, noarchive",
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
}


def _page(text: str, status_code: int = 200) -> HTMLResponse:
    return HTMLResponse(text, status_code, HEADERS)


@router.get("/seen/{token}", response_class=HTMLResponse, openapi_extra=ANYONE)
async def ask_seen(token: str) -> HTMLResponse:
    """A page with two buttons, the same for every token; opening it confirms nothing."""
    del token
    return _page(QUESTION)


@router.post(
    "/seen/{token}",
    response_class=HTMLResponse,
    responses={status: {"content": {"text/html": {}}, "description": "Not just now."} for status in (429, 503)},
    openapi_extra=ANYONE | BODY,
)
async def confirm_seen(token: str, request: Request, context: Context) -> HTMLResponse:
    """A button: whoever had the message has seen it, or acts on it (`said=acknowledged`).

    The answer is the same for every token. The incident is not acknowledged by it.
    """
    form = sms_callbacks.read(await request.body(), FORM)
    said = ACTING if form.get(SAID) == ACTING else "seen"
    try:
        _presses.check(client_address(request))
        async with act(context.device_database, context.clock()) as unit:
            await receipts.note_by_link(unit, token[:TOKEN_CHARS_MAX], said)
    except TooMany:
        return _page(LATER, 429)
    except StoreUnavailable:
        return _page(LATER, 503)
    return _page(THANKS[said])


@router.post("/v1/me/deliveries/{delivery_id}/{state}", status_code=204)
async def note_own_delivery(delivery_id: uuid.UUID, state: State, device: Device, context: Context) -> None:
    """The app has what was sent to this device, has shown it, or somebody acts on it. Said twice is said once."""
    async with act(context.device_database, context.clock()) as unit:
        known = await receipts.note_own(unit, device.id, delivery_id, state)
    if not known:
        raise NotFound("Nothing with this id was sent to this device.")


@router.post("/v1/me/messages/{delivery_id}/{state}", status_code=204)
async def note_own_message(delivery_id: uuid.UUID, state: State, actor: User, context: Context) -> None:
    """You have what was sent to you yourself, have seen it, or act on it. Said twice is said once.

    It acknowledges no incident.
    """
    async with act(context.database, context.clock(), actor.scope) as unit:
        known = await receipts.note_users(unit, actor.user_id, delivery_id, state)
    if not known:
        raise NotFound("Nothing with this id was sent to you.")


@functools.lru_cache(maxsize=4)
def _gateways(settings: Settings) -> dict[str, Gateway]:
    return {gateway.name: gateway for gateway in load_gateways(settings)}


@router.post("/v1/receipts/sms/{gateway}", status_code=204, openapi_extra=ANYONE | BODY)
async def note_sms(gateway: str, request: Request, context: Context) -> Response:
    """What an SMS gateway says became of a message; signed as its entry in the gateways' file says."""
    known = _gateways(context.settings).get(gateway)
    callback = known.callback if known is not None else None
    if known is None or callback is None:
        raise NotFound("There is no gateway of this name that tells what became of messages.")
    body = await request.body()
    fields = sms_callbacks.read(body, request.headers.get("content-type", ""))
    query = f"?{request.url.query}" if request.url.query else ""
    base = (context.settings.public_url or str(request.base_url)).rstrip("/")
    url = f"{base}{request.url.path}{query}"
    if not sms_callbacks.is_genuine(known, callback, url, request.headers.get(callback.header), body, fields):
        log.warning("sms_callback_refused", gateway=gateway)
        raise NotAuthenticated("This is not signed by the gateway.", code="credentials_invalid")
    told = sms_callbacks.told_by(known, callback, fields, request.query_params.get("delivery"))
    if told.state is not None:
        async with act(context.device_database, context.clock()) as unit:
            found = await receipts.note_of_gateway(unit, told.provider_id, told.reference, told.state, told.detail)
        if not found:
            # Perhaps our own mark is yet to be written: a gateway that repeats itself finds it then.
            raise NotFound("No such message was sent.")
    return Response(status_code=204)


@router.post("/v1/receipts/email", status_code=204, openapi_extra=ANYONE | LETTER)
async def note_letter(request: Request, context: Context) -> Response:
    """What a mail provider or mail server says became of a letter; signed as Standard Webhooks are."""
    secret = context.settings.email_receipts_secret
    body = await request.body()
    try:
        if not secret:
            raise ValueError
        said = Webhook(secret.get_secret_value()).verify(body, dict(request.headers))
    except (WebhookVerificationError, ValueError):
        log.warning("letter_receipt_refused")
        raise NotAuthenticated("This is not signed with the secret of receipts.", code="credentials_invalid") from None
    told = mail_receipts.told_by(said if isinstance(said, dict) else {})
    if told.state is not None and told.reference is not None:
        async with act(context.device_database, context.clock()) as unit:
            found = await receipts.note_of_letter(unit, told.reference, told.state, told.detail)
        if not found:
            raise NotFound("No such letter was sent.")
    return Response(status_code=204)
