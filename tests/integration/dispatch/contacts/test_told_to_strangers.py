"""Whatever an aggressor's device or somebody who has not consented can be sent tells nothing of her.

Every message that is queued for one of them is rendered as each channel sends it, and searched for anything of hers.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from core.actions.unit_of_work import act
from core.clock import rfc3339, utc_now
from core.domain.delivery import PRIORITY_REST, Delivery
from core.domain.incident import SEVERITY_RANK, TYPES
from core.postgres.database import Database
from core.postgres.deliveries import claim_due
from notifier.channels.email import compose as compose_letter
from notifier.channels.fcm import compose as compose_push
from notifier.channels.webhook import webhook_body
from notifier.outgoing import message_of
from tests.integration.dispatch.contacts.conftest import Ask, Query

HER = {"name": "Айнұр Бекова", "phone": "+77071112233", "iin": "900101400123", "address": "Сейфуллин 501"}
PLACE = {"lat": 43.23812, "lon": 76.94561, "accuracy_m": 11.0}
PUBLIC = "https://qorgan.example.kz"


@pytest.fixture
async def traces(pair: Any, query: Query) -> set[str]:
    """What must not be found: who she is, where, and every id that leads to her."""
    await query("UPDATE person SET identity = $2 WHERE id = $1", pair.victim_id, HER)
    ids = (pair.victim_id, pair.aggressor_id, pair.case_id, pair.order_id, pair.phone_id, pair.bracelet_id)
    return {*HER.values(), "43.2", "76.9", *(str(one) for one in ids)}


async def sent(database: Database, *, audience: str) -> list[str]:
    """Every message that waits for an audience, as each channel would send it."""
    shown = []
    async with act(database, utc_now()) as unit:
        rows = await unit.connection.fetch("SELECT DISTINCT channel FROM delivery WHERE state = 'queued'")
        for row in rows:
            now = utc_now()
            for one in await claim_due(
                unit.connection, channel=row["channel"], now=now, leased_until=now, holder="test", limit=100
            ):
                if one.audience != audience:
                    continue
                message = message_of(one, now, PUBLIC)
                shown.append(f"{message.subject}\n{message.body}\n{message.short}")
                shown.append(json.dumps(webhook_body(message), ensure_ascii=False))
                if "@" in message.address:
                    letter = compose_letter(message, "desk@example.kz")
                    shown.append(f"{letter['Subject']} {letter['Message-ID']} {letter.get_content()}")
                else:
                    shown.append(json.dumps(compose_push(message).data, ensure_ascii=False))
    return shown


def telling(shown: list[str], traces: set[str]) -> list[str]:
    return [f"{trace} in {text}" for text in shown for trace in traces if trace.lower() in text.lower()]


async def test_who_has_not_consented_learns_nothing_of_her_from_any_message_or_answer(
    invited: Any, ask: Ask, letters: Any, press: Any, phone: Any, database: Database, traces: set[str], query: Query
) -> None:
    _, token = await invited()
    answers = [await ask("", token), await ask("/code", token, way=0)]
    incident_id = str((await phone.post("/v1/panic", json={"id": str(uuid.uuid4()), **PLACE})).json()["incident_id"])
    answers += [await ask("", token), await ask("/verify", token, way=0, code="000000")]
    code = (await letters("code_contact"))[-1]["data"]["code"]
    answers += [await ask("/verify", token, way=0, code=code), await ask("/refuse", token), await ask("", token)]
    await query("UPDATE delivery SET state = 'queued' WHERE audience = 'contact'")  # also what was cancelled since
    shown = await sent(database, audience="contact")
    assert len(shown) >= 6
    told = [*shown, *(json.dumps(answer, ensure_ascii=False) for answer in answers)]
    assert not telling(told, traces | {incident_id})
    alarm = {"тревог", "полици", "дабыл", "alarm", "police", "panic"}
    assert not telling(told, alarm)


async def test_his_phone_reads_the_same_and_nothing_of_her_whatever_the_cause(
    pair: Any, posts: Any, database: Database, traces: set[str], press: Any
) -> None:
    incident_id = await press()
    async with act(posts.device, utc_now()) as unit:
        for severity in SEVERITY_RANK:
            for kind in sorted(TYPES):
                facts = {
                    "type": kind, "severity": severity, "incident_id": incident_id, "distance_m": 312.0,
                    "order_id": str(pair.order_id), "occurred_at": rfc3339(utc_now()), "do_not_call": True,
                }  # fmt: skip
                unit.queue(
                    Delivery(
                        agency_id=pair.agency_id, incident_id=None, cause=uuid.uuid4(), audience="aggressor",
                        recipient=f"device:{pair.bracelet_id}", channel="fcm", address="push", language="ru",
                        template="warning_aggressor", data=facts, priority=PRIORITY_REST, person_id=pair.aggressor_id,
                    )
                )  # fmt: skip
    shown = await sent(database, audience="aggressor")
    texts = set(shown[::3])
    assert len(shown) == 3 * len(SEVERITY_RANK) * len(TYPES)
    assert len(texts) == 1, "one text whatever the cause"
    pushes = [json.loads(text) for text in shown[2::3]]
    assert {tuple(sorted(push)) for push in pushes} == {
        ("at", "body", "delivery_id", "kind", "language", "short", "title")
    }
    assert not telling([*texts, *(json.dumps(push, ensure_ascii=False) for push in pushes)], traces | {incident_id})
