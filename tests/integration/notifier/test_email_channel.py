"""The e-mail channel against a real SMTP server on the loopback."""

from __future__ import annotations

import asyncio
import email
import email.policy
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from core.clock import utc_now
from core.settings import Settings
from notifier.channels.base import Message, Permanent, Retryable
from notifier.channels.email import EmailChannel

Make = Callable[..., Message]


@pytest.fixture
async def channel(bare_settings: Settings, mailbox: Any) -> AsyncIterator[EmailChannel]:
    made = EmailChannel(
        bare_settings.model_copy(
            update={"smtp_host": "127.0.0.1", "smtp_port": mailbox.port, "smtp_from": "alarm@qorgan.test"}
        )
    )
    yield made
    await made.aclose()


async def test_the_letter_arrives_whole_in_kazakh_and_says_that_a_machine_wrote_it(
    channel: EmailChannel, mailbox: Any, make_message: Make
) -> None:
    message = make_message(address="desk@police.test", subject="Жақындауға тыйым\nбұзылды", body="Әрекет етіңіз\nІске")
    provider_id = await channel.send(message)
    (envelope,) = mailbox.letters
    letter: Any = email.message_from_bytes(envelope.content, policy=email.policy.default)
    assert envelope.rcpt_tos == ["desk@police.test"]
    assert envelope.mail_from == "alarm@qorgan.test"
    assert letter["Subject"] == "Жақындауға тыйым бұзылды"
    assert letter.get_content().replace("\r\n", "\n").strip() == "Әрекет етіңіз\nІске"
    assert letter.get_content_charset() == "utf-8"
    assert letter["Auto-Submitted"] == "auto-generated"
    assert letter["Message-ID"] == provider_id == f"<{message.id}@qorgan.test>"
    assert letter["Importance"] == "high"
    assert letter["Content-Language"] == "kk"


async def test_a_repeat_is_the_same_letter(channel: EmailChannel, mailbox: Any, make_message: Make) -> None:
    message = make_message(address="desk@police.test")
    await channel.send(message)
    await channel.send(message)
    first, second = (email.message_from_bytes(one.content) for one in mailbox.letters)
    assert first["Message-ID"] == second["Message-ID"]
    assert first["Date"] == second["Date"]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [("450 busy", Retryable), ("421 later", Retryable), ("550 who is that", Permanent), ("552 full", Permanent)],
)
async def test_a_refused_recipient_is_judged_by_its_code_and_its_words_stay_out(
    channel: EmailChannel, mailbox: Any, make_message: Make, answer: str, kind: type[Exception]
) -> None:
    mailbox.refusals["nobody@police.test"] = answer
    with pytest.raises(kind) as failure:
        await channel.send(make_message(address="nobody@police.test"))
    assert str(failure.value) == f"SMTP {answer[:3]}"


@pytest.mark.parametrize(("answer", "kind"), [("451 try later", Retryable), ("554 no spam", Permanent)])
async def test_a_refused_letter_is_judged_by_its_code(
    channel: EmailChannel, mailbox: Any, make_message: Make, answer: str, kind: type[Exception]
) -> None:
    mailbox.data_answer = answer
    with pytest.raises(kind):
        await channel.send(make_message(address="desk@police.test"))
    assert mailbox.letters == []


@pytest.mark.parametrize(
    "address",
    [
        "",
        "desk",
        "a@",
        "@b",
        "a@b\nBcc: c@d",
        "a b@c.test",
        "a@b.test, c@d.test",
        "\r\n",
        "<a@b.test>",
        "Desk <a@b.test>",
    ],
)
async def test_a_malformed_address_is_refused_for_good_before_any_connection(
    channel: EmailChannel, mailbox: Any, make_message: Make, address: str
) -> None:
    with pytest.raises(Permanent, match="malformed"):
        await channel.send(make_message(address=address))
    assert mailbox.letters == []


async def test_a_server_that_is_away_or_silent_is_worth_another_try(
    bare_settings: Settings, make_message: Make
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        changed = {"smtp_host": "127.0.0.1", "smtp_port": port, "delivery_timeout_s": 0.1}
        channel = EmailChannel(bare_settings.model_copy(update=changed))
        with pytest.raises(Retryable):
            await channel.send(make_message(address="desk@police.test"))
    with pytest.raises(Retryable):
        await channel.send(make_message(address="desk@police.test"))


async def test_a_server_without_starttls_or_with_another_account_is_for_the_operator_to_mend(
    bare_settings: Settings, mailbox: Any, make_message: Make
) -> None:
    here = {"smtp_host": "127.0.0.1", "smtp_port": mailbox.port}
    for changed in ({"smtp_starttls": True}, {"smtp_username": "qorgan", "smtp_password": None}):
        channel = EmailChannel(bare_settings.model_copy(update=here | changed))
        with pytest.raises(Retryable):
            await channel.send(make_message(address="desk@police.test"))
    assert mailbox.letters == []


async def test_letters_side_by_side_all_arrive(channel: EmailChannel, mailbox: Any, make_message: Make) -> None:
    messages = [make_message(address=f"desk-{n}@police.test") for n in range(channel.concurrency)]
    await asyncio.gather(*(channel.send(message) for message in messages))
    assert len(mailbox.letters) == len(messages)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of the loopback's own, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    now = utc_now()
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "loopback.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


@pytest.mark.parametrize(("password", "arrives"), [("right", True), ("wrong", False)])
async def test_by_starttls_and_an_account_it_arrives_or_waits_for_the_account_to_be_mended(
    bare_settings: Settings,
    open_mailbox: Any,
    certificate: Path,
    make_message: Make,
    monkeypatch: pytest.MonkeyPatch,
    password: str,
    arrives: bool,
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    box = await open_mailbox(
        tls_context=context,
        require_starttls=True,
        auth_required=True,
        authenticator=lambda *given: AuthResult(success=given[-1].password == b"right", handled=False),
    )
    changed = {"smtp_host": "127.0.0.1", "smtp_port": box.port, "smtp_starttls": True, "smtp_username": "qorgan"}
    channel = EmailChannel(bare_settings.model_copy(update=changed | {"smtp_password": SecretStr(password)}))
    message = make_message(address="desk@police.test")
    with pytest.raises(Retryable, match="no answer"):
        await channel.send(message)  # a certificate nobody vouches for
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    if arrives:
        await channel.send(message)
    else:
        with pytest.raises(Retryable, match="account"):
            await channel.send(message)
    assert len(box.letters) == arrives
