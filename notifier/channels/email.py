"""E-mail by SMTP. `Message-ID` is made from the delivery's id, so that a repeat is the same letter."""

from __future__ import annotations

import email.policy
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Final

import aiosmtplib

from core.settings import Settings
from notifier.channels.base import Channel, Message, Permanent, Retryable

CONCURRENCY: Final = 10
"""Connections to the SMTP server at once; servers refuse who opens more."""
RATE_PER_S: Final = 20.0
"""Letters a second; QORGAN_CHANNEL_RATES says otherwise."""
IMPLICIT_TLS_PORT: Final = 465
GOING_AWAY: Final = 421
PERMANENT_CODES: Final = range(500, 600)


class EmailChannel(Channel):
    """One SMTP connection a letter, at most `concurrency` at once."""

    name = "email"
    concurrency = CONCURRENCY
    rate_per_s = RATE_PER_S

    def __init__(self, settings: Settings) -> None:
        assert settings.smtp_host is not None
        self._settings = settings
        self._host = settings.smtp_host

    async def send(self, message: Message) -> str | None:
        """Hand the letter to the SMTP server; returns its Message-ID."""
        letter = compose(message, self._settings.smtp_from)
        settings = self._settings
        try:
            await aiosmtplib.send(
                letter,
                hostname=self._host,
                port=settings.smtp_port,
                username=settings.smtp_username,
                password=settings.smtp_password.get_secret_value() if settings.smtp_password else None,
                use_tls=settings.smtp_port == IMPLICIT_TLS_PORT,
                start_tls=settings.smtp_starttls and settings.smtp_port != IMPLICIT_TLS_PORT,
                timeout=settings.delivery_timeout_s,
            )
        except aiosmtplib.SMTPAuthenticationError as error:
            # The account is at fault, not the letter: it goes when the operator has mended the account.
            raise Retryable(f"SMTP {error.code}: the server refuses our account") from None
        except aiosmtplib.SMTPRecipientsRefused as error:
            raise _judge(min((refusal.code for refusal in error.recipients), default=450)) from None
        except aiosmtplib.SMTPConnectResponseError as error:
            raise Retryable(f"SMTP {error.code} on connecting") from None
        except aiosmtplib.SMTPResponseException as error:
            raise _judge(error.code) from None
        except (aiosmtplib.SMTPException, OSError) as error:
            raise Retryable(f"no answer: {type(error).__name__}") from None
        except ValueError:
            raise Permanent("the letter cannot be written for SMTP") from None
        return str(letter["Message-ID"])

    async def aclose(self) -> None:
        """Nothing is kept open."""


def _judge(code: int) -> Permanent | Retryable:
    """Of one letter or one address: the server itself answers, so others may fare better, unless it is going away."""
    if code == GOING_AWAY:
        return Retryable(f"SMTP {code}")
    return Permanent(f"SMTP {code}") if code in PERMANENT_CODES else Retryable(f"SMTP {code}", provider_fails=False)


def compose(message: Message, sender: str) -> EmailMessage:
    """The letter: plain text in UTF-8, marked as made by a machine (RFC 3834). Permanent when an address is bad."""
    letter = EmailMessage(policy=email.policy.SMTP)
    try:
        domain = Address(addr_spec=sender).domain
        letter["To"] = Address(addr_spec=message.address)
    except (ValueError, MessageError, IndexError):
        raise Permanent("the e-mail address is malformed") from None
    letter["From"] = sender
    letter["Subject"] = " ".join(message.subject.split())
    letter["Date"] = format_datetime(message.created_at)
    letter["Message-ID"] = f"<{message.id}@{domain or 'localhost'}>"
    letter["Auto-Submitted"] = "auto-generated"
    if message.data.get("severity") == "critical":
        letter["Importance"] = "high"
    letter.set_content(message.body, charset="utf-8", cte="base64")
    letter["Content-Language"] = message.language  # after the content, which takes other Content-… headers away
    return letter
