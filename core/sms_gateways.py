"""SMS gateways: how to ask any HTTP provider to send a text message, read from a file.

A gateway is a request with placeholders, how to read the answer, and how to read and check what the provider says
later of the message. `twilio` and `json` are presets; a file may use one as it is, change parts of it, or write a
gateway out whole. docs/notifications.md describes the file.

Placeholders: `{to}`, `{to_digits}`, `{text}`, `{id}` (the delivery's, the same at every attempt), `{callback_url}`, and
each name of the gateway's `values`, `secrets` and `secret_files`.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

from core.errors import Misconfigured
from core.settings import Settings

MAX_FILE_BYTES: Final = 65_536
MAX_GATEWAYS: Final = 20
PLACEHOLDER: Final = re.compile(r"\{([a-z_]+)\}")
OWN: Final = frozenset({"to", "to_digits", "text", "id", "callback_url"})
NUMBER: Final = re.compile(r"\+?[0-9]{3,15}")

Verify = Literal["twilio", "hmac_sha256", "token"]


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to read what the provider answers: names in its JSON, with dots between levels."""

    id: str = ""
    """Where the provider's own id of the message is; "": it gives none."""
    error: str = ""
    """Where a code is when it did not take the message, whatever the HTTP status."""
    retryable: tuple[str, ...] = ()
    """Codes that may pass by themselves."""
    permanent: tuple[str, ...] = ()
    """Codes that never will; any other code: as the HTTP status says, and never with 2xx."""


class Callback(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the provider tells later what became of a message, and how it proves that it is the provider."""

    verify: Verify
    secret: str
    """A text with placeholders: what it proves itself with."""
    header: str = "x-signature"
    id: str = "id"
    """Where its own id of the message is, in form fields or JSON."""
    reference: str = ""
    """Where it says our id again, if it does."""
    status: str = "status"
    delivered: tuple[str, ...] = ("delivered",)
    failed: tuple[str, ...] = ("failed", "undelivered", "rejected", "expired")
    error: str = ""


class Gateway(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One provider."""

    name: str
    preset: Literal["twilio", "json", ""] = ""
    url: str = ""
    method: Literal["POST", "GET", "PUT"] = "POST"
    prefixes: tuple[str, ...] = ()
    """Numbers it takes begin so; none named: all."""
    headers: Mapping[str, str] = {}
    basic: tuple[str, str] | None = None
    """User name and password."""
    query: Mapping[str, str] = {}
    form: Mapping[str, str] | None = None
    json: Any = None
    answer: Answer = Answer()
    callback: Callback | None = None
    values: Mapping[str, str] = {}
    secrets: Mapping[str, str] = {}
    secret_files: Mapping[str, str] = {}
    per_second: float = 10.0
    max_segments: int = 3

    def __repr__(self) -> str:
        return f"<SMS gateway {self.name}>"

    def takes(self, number: str) -> bool:
        """Whether a number is one of its."""
        return not self.prefixes or number.startswith(self.prefixes)

    @property
    def known(self) -> dict[str, str]:
        """Placeholders that are the same for every message."""
        return {**self.values, **self.secrets}

    def fill(self, template: Any, facts: Mapping[str, str]) -> Any:
        """A text, or everything in a list or table, with its placeholders filled in."""
        if isinstance(template, str):
            everything = {**self.known, **facts}
            return PLACEHOLDER.sub(lambda found: everything[found[1]], template)
        if isinstance(template, Mapping):
            return {key: self.fill(value, facts) for key, value in template.items()}
        if isinstance(template, list | tuple):
            return [self.fill(value, facts) for value in template]
        return template


PRESETS: Final[dict[str, dict[str, Any]]] = {
    "twilio": {
        "url": "https://api.twilio.com/2010-04-01/Accounts/{account_sid}/Messages.json",
        "basic": ["{account_sid}", "{auth_token}"],
        "form": {"To": "{to}", "From": "{from}", "Body": "{text}", "StatusCallback": "{callback_url}"},
        "answer": {"id": "sid", "error": "code", "retryable": ["20429", "20500", "20503", "30001"]},
        "callback": {
            "verify": "twilio",
            "secret": "{auth_token}",
            "header": "x-twilio-signature",
            "id": "MessageSid",
            "status": "MessageStatus",
            "delivered": ["delivered", "read"],
            "failed": ["failed", "undelivered"],
            "error": "ErrorCode",
        },
    },
    "json": {
        "headers": {"authorization": "Bearer {token}", "idempotency-key": "{id}"},
        "json": {"to": "{to}", "text": "{text}", "id": "{id}", "callback_url": "{callback_url}"},
        "answer": {"id": "id", "error": "error.code"},
        "callback": {"verify": "hmac_sha256", "secret": "{token}", "reference": "reference", "error": "error"},
    },
}


def load_gateways(settings: Settings) -> tuple[Gateway, ...]:
    """The gateways of the file that is set, in the order they are preferred; none without a file.

    Raises Misconfigured, naming what is wrong and never a secret.
    """
    path = settings.sms_gateways_file
    if path is None:
        return ()
    try:
        raw = path.read_bytes()[: MAX_FILE_BYTES + 1]
        if len(raw) > MAX_FILE_BYTES:
            raise Misconfigured(f"QORGAN_SMS_GATEWAYS_FILE {path} is longer than {MAX_FILE_BYTES} bytes.")
        document = json.loads(raw) if path.suffix == ".json" else tomllib.loads(raw.decode())
    except OSError as error:
        raise Misconfigured(f"QORGAN_SMS_GATEWAYS_FILE {path} cannot be read: {error.strerror}.") from None
    except ValueError:
        raise Misconfigured(f"QORGAN_SMS_GATEWAYS_FILE {path} is neither TOML nor JSON (by its suffix).") from None
    listed = document.get("gateway") if isinstance(document, dict) else None
    if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_GATEWAYS:
        raise Misconfigured(f"QORGAN_SMS_GATEWAYS_FILE {path} names no [[gateway]], or more than {MAX_GATEWAYS}.")
    gateways = tuple(read_gateway(one, path.parent) for one in listed)
    if len({one.name for one in gateways}) < len(gateways):
        raise Misconfigured(f"Two gateways of {path} have the same name.")
    return gateways


def read_gateway(written: Any, directory: Path = Path()) -> Gateway:
    """One gateway as a file writes it, over its preset. Raises Misconfigured."""
    if not isinstance(written, dict):
        raise Misconfigured("A gateway is a table with a name and what it sends.")
    name = written.get("name")
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9_-]{1,40}", name):
        raise Misconfigured("A gateway's name is 1 to 40 small letters, digits, - and _.")
    merged = _over(PRESETS.get(str(written.get("preset", "")), {}), written)
    secrets = dict(merged.get("secrets") or {})
    for secret, file in dict(merged.get("secret_files") or {}).items():
        try:
            secrets[secret] = (directory / str(file)).read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError):
            raise Misconfigured(f"Gateway {name}: the file of its secret {secret} cannot be read.") from None
    try:
        gateway = msgspec.convert({**merged, "secrets": secrets}, Gateway)
    except msgspec.ValidationError as error:
        raise Misconfigured(f"Gateway {name}: {error}.") from None
    _check(gateway)
    return gateway


def _over(preset: Mapping[str, Any], written: Mapping[str, Any]) -> dict[str, Any]:
    """What a file writes over a preset; tables are merged, everything else replaced."""
    merged = dict(preset)
    for name, value in written.items():
        before = merged.get(name)
        merged[name] = _over(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return merged


def _check(gateway: Gateway) -> None:
    if gateway.form is not None and gateway.json is not None:
        raise Misconfigured(f"Gateway {gateway.name} writes both form and json; leave one out.")
    parts = urlsplit(PLACEHOLDER.sub("x", gateway.url))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Misconfigured(f"Gateway {gateway.name} has no http or https url.")
    if not 0 < gateway.per_second <= 1000:
        raise Misconfigured(f"Gateway {gateway.name}: per_second is more than 0 and at most 1000.")
    asked = set(_placeholders([gateway.url, gateway.headers, gateway.basic, gateway.query, gateway.form, gateway.json]))
    if gateway.callback is not None:
        own = set(_placeholders([gateway.callback.secret]))
        if own - set(gateway.known):
            raise Misconfigured(f"Gateway {gateway.name}: its callback's secret names {sorted(own)}, not all given.")
    missing = asked - set(gateway.known) - OWN
    if missing:
        raise Misconfigured(f"Gateway {gateway.name} needs values or secrets for {', '.join(sorted(missing))}.")
    if "text" not in asked or not asked & {"to", "to_digits"}:
        raise Misconfigured(f"Gateway {gateway.name} sends no {{text}}, or to no {{to}}.")


def _placeholders(template: Any) -> Iterable[str]:
    if isinstance(template, str):
        yield from PLACEHOLDER.findall(template)
    elif isinstance(template, Mapping):
        for value in template.values():
            yield from _placeholders(value)
    elif isinstance(template, list | tuple):
        for value in template:
            yield from _placeholders(value)


def at(document: Any, path: str) -> Any:
    """What stands at a path with dots in JSON; a number is an index of a list. None: nothing."""
    for name in path.split(".") if path else ():
        if isinstance(document, Mapping):
            document = document.get(name)
        elif isinstance(document, list) and name.isdigit() and int(name) < len(document):
            document = document[int(name)]
        else:
            return None
    return document


def as_number(address: str) -> str | None:
    """A telephone number without what people write between its digits; None: it is none."""
    number = re.sub(r"[\s().-]", "", address)
    return number if NUMBER.fullmatch(number) else None
