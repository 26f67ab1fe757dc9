"""Push to phones by Firebase Cloud Messaging, HTTP v1, through firebase-admin's asynchronous calls.

Data-only and of high priority, so that the app itself decides what a locked screen may show; without a collapse key,
because FCM throttles collapsible messages. The app drops repeats by `delivery_id`.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import firebase_admin
import google.auth.exceptions
import google.auth.transport.requests
import httpx
import requests
from firebase_admin import _http_client, credentials, exceptions, messaging
from firebase_admin._retry import HttpxRetry
from google.auth.credentials import TokenState

from core.clock import rfc3339
from core.errors import Misconfigured
from core.settings import Settings
from notifier.channels.base import Channel, ChannelError, Message, Permanent, Retryable, Throttled
from notifier.channels.retry_after import retry_after_s

CONCURRENCY: Final = 100
TIME_TO_LIVE: Final = timedelta(hours=1)
"""An alarm that a phone gets later than this would mislead."""
DEFAULT_THROTTLE_S: Final = 60.0
UNAUTHORIZED: Final = 401


class FcmChannel(Channel):
    """Pushes to registration tokens of one Firebase project."""

    name = "fcm"
    concurrency = CONCURRENCY

    def __init__(self, settings: Settings) -> None:
        assert settings.fcm_credentials_file is not None
        self._token = AccessToken(settings.fcm_credentials_file, settings.delivery_timeout_s)
        self._app = firebase_admin.initialize_app(self._token.certificate, name=f"qorgan-{uuid.uuid4()}")
        self._client = connect(self._app, self._token, settings.fcm_api_url, settings.delivery_timeout_s)
        self._closed = False

    async def send(self, message: Message) -> str | None:
        """Push it; returns FCM's message name."""
        try:
            push = compose(message)
            answer = await messaging.send_each_async([push], dry_run=False, app=self._app)
        except ValueError:
            raise Permanent("the push token is malformed") from None
        except exceptions.FirebaseError as error:
            raise _judge(error, message) from None
        (response,) = answer.responses
        if response.exception is not None:
            raise _judge(response.exception, message) from None
        return str(response.message_id)

    async def keep_ready(self) -> None:
        """Have an access token that holds for minutes yet."""
        await self._token.ready()

    async def aclose(self) -> None:
        """Close the connections and forget the app."""
        if self._closed:
            return
        self._closed = True
        await self._client.async_client.aclose()
        # In a thread, for firebase-admin runs an event loop of its own to close what is closed already.
        await asyncio.to_thread(firebase_admin.delete_app, self._app)
        self._token.close()


class AccessToken(httpx.Auth):
    """The service account's access token, always got in a thread: google-auth would block the event loop for it."""

    requires_response_body = False

    def __init__(self, path: Path, timeout_s: float) -> None:
        try:
            self.certificate = credentials.Certificate(str(path))
        except (OSError, ValueError) as error:
            raise Misconfigured(
                f"QORGAN_FCM_CREDENTIALS_FILE {path} is no service account file ({type(error).__name__})."
            ) from None
        self._credential: Any = self.certificate.get_credential()
        self._session = requests.Session()
        self._transport = google.auth.transport.requests.Request(self._session)
        self._timeout_s = timeout_s
        self._lock = asyncio.Lock()

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Add the token; when it is refused, get another one once."""
        token = await self._fresh(None)
        request.headers["authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code == UNAUTHORIZED:
            request.headers["authorization"] = f"Bearer {await self._fresh(token)}"
            yield request

    async def _fresh(self, refused: str | None) -> str:
        """A token that holds for minutes yet and is not the `refused` one; one refresh at a time serves all."""
        async with self._lock:
            credential = self._credential
            if credential.token_state is not TokenState.FRESH or credential.token == refused:
                await asyncio.to_thread(credential.refresh, self._call)
            return str(credential.token)

    async def ready(self) -> None:
        """Have a token at hand that holds for minutes yet. Raises google.auth.exceptions.GoogleAuthError."""
        await self._fresh(None)

    def _call(self, *arguments: Any, **named: Any) -> Any:
        return self._transport(*arguments, **(named | {"timeout": self._timeout_s}))

    def close(self) -> None:
        """Close the connection to the token's issuer."""
        self._session.close()


def connect(app: Any, token: AccessToken, api_url: str | None, timeout_s: float) -> Any:
    """The one seam into firebase-admin's inside (7.7): its messaging service has the address hard-coded, retries by
    itself for longer than our lease, and fetches tokens in the event loop. Returns the HTTP client it will use."""
    service = messaging._get_messaging_service(app)  # noqa: SLF001
    client = _http_client.HttpxAsyncClient(credential=None, retry_config=HttpxRetry(max_retries=0), timeout=timeout_s)
    client.async_client.auth = token
    service._async_client = client  # noqa: SLF001
    if api_url is not None:
        service._fcm_url = f"{api_url.rstrip('/')}/v1/projects/{app.project_id}/messages:send"  # noqa: SLF001
    return client


def compose(message: Message) -> Any:
    """The push: strings only, no type, no place, no name; ValueError when the token is no token."""
    data = {
        "delivery_id": str(message.id),
        "kind": message.template,
        "title": message.subject,
        "body": message.body,
        "short": message.short,
        "language": message.language,
        "at": rfc3339(message.created_at),
    }
    if message.incident_id is not None:
        data["incident_id"] = str(message.incident_id)
    push = messaging.Message(data=data, android=messaging.AndroidConfig(priority="high", ttl=TIME_TO_LIVE))
    # As an attribute, for its parameter warns: registration tokens are what phones have, installation ids are to come.
    push.token = message.address
    return push


def _judge(error: exceptions.FirebaseError, message: Message) -> ChannelError:
    """Ours for theirs. Their words stay out: they quote the token."""
    code = str(error.code)
    if isinstance(error, messaging.UnregisteredError):
        return Permanent("FCM UNREGISTERED: the app is gone from that phone", address_gone=True)
    if isinstance(error, messaging.SenderIdMismatchError):
        return Permanent("FCM SENDER_ID_MISMATCH: the token belongs to another project", address_gone=True)
    if isinstance(error, (exceptions.InvalidArgumentError, exceptions.NotFoundError)):
        return Permanent(f"FCM {code}")
    response = error.http_response
    wait_s = retry_after_s(response.headers.get("retry-after"), message.sent_at) if response is not None else None
    if isinstance(error, (messaging.QuotaExceededError, exceptions.ResourceExhaustedError)):
        return Throttled(f"FCM {code}", DEFAULT_THROTTLE_S if wait_s is None else wait_s)
    if isinstance(error, exceptions.UnavailableError) and wait_s is not None:
        return Throttled(f"FCM {code}", wait_s)
    if isinstance(error.cause, google.auth.exceptions.GoogleAuthError):
        return Retryable("FCM: no access token for our account")
    return Retryable(f"FCM {code}")
