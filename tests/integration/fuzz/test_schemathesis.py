"""The whole API against its own OpenAPI document: what is sent is made of it, and what is answered is held to it."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import hypothesis
import pytest
import requests
import schemathesis
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.integration.fuzz.conftest import Served

pytestmark = [pytest.mark.xdist_group("fuzz"), pytest.mark.timeout(400)]
CHECKS: Final = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES: Final = 6
ELSEWHERE: Final = {"put /v1/sign-in-provider"}
"""Asks a machine elsewhere: tests/integration/management/test_oidc.py."""
AWAY: Final = {"get /readyz", "get /watchdog"}
"""Say 503 in this test, rightly: nobody detects."""
ENDS: Final = {
    "delete /v1/me/sessions", "delete /v1/me/sessions/{session_id}", "post /v1/me/token", "post /v1/me/token/confirm",
}  # fmt: skip
"""Would end who asks: last."""


ASKERS: Final = ("admin", "dispatcher", "victim")


def faults(served: Served, mode: GenerationMode) -> list[str]:
    """Whatever an operation answered that its description does not say.

    What is asked takes longer to think of than to ask: each question is put by every asker.
    """
    tokens = {asker: served.world.tokens[asker] if asker == "victim" else served.token(asker) for asker in ASKERS}
    document = served.app.openapi()
    found: list[str] = []
    session = requests.Session()
    schema = schemathesis.openapi.from_dict(document)
    operations: list[Any] = [result.ok() for result in schema.get_all_operations()]  # type: ignore[union-attr]
    for operation in sorted(operations, key=lambda one: f"{one.method} {one.path}" in ENDS):
        name = f"{operation.method} {operation.path}"
        if name in ELSEWHERE or name in AWAY:
            continue
        if message := _ask(operation, served, tokens, session, mode):
            found.append(f"{name}: {message}")
    session.close()
    return found


def _ask(
    operation: Any, served: Served, tokens: dict[str, str], session: requests.Session, mode: GenerationMode
) -> str:
    world = served.world.places
    asking = ""
    parameters = {one.name: world[one.name] for one in operation.path_parameters if one.name in world}

    @hypothesis.settings(
        max_examples=EXAMPLES, derandomize=True, database=None, deadline=None,
        phases=[hypothesis.Phase.generate], suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        nonlocal asking
        if mode is GenerationMode.POSITIVE and parameters:
            case.path_parameters.update(parameters)
        for asker, token in tokens.items():
            asking = asker
            case.call_and_validate(
                base_url=served.url, session=session, headers={"Authorization": f"Bearer {token}"}, checks=CHECKS,
                timeout=20, allow_redirects=False,
            )  # fmt: skip

    try:
        ask()
    except hypothesis.errors.Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE, "nothing was asked"  # it takes nothing that could be wrong
    except BaseExceptionGroup as group:
        return f"as {asking}: " + " | ".join(_words(one) for one in group.exceptions)
    except Exception as error:
        return f"as {asking}: {_words(error)}"
    return ""


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())[:600]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
async def test_every_answer_is_as_described(served: Served, mode: GenerationMode) -> None:
    found = await asyncio.to_thread(faults, served, mode)
    assert not found, f"{len(found)} operations:\n" + "\n".join(found)
