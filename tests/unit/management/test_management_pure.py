"""The pure parts of the management API: limits, keys, tokens, texts and judgements."""

from __future__ import annotations

import stat
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr, ValidationError

from api.auth import Actor, bearer_token, make_access_token, verify_access_token
from api.bounds import AttemptLimiter
from api.errors import describe_validation, problem
from api.routes.me import judge
from api.schemas.base import Body, Change, Moment, check_storable
from core.actions.devices import CODE_ALPHABET, code_digest, make_code
from core.actions.orders import check_order, complete
from core.domain.policy import Policy
from core.errors import CODES, InvalidInput, Misconfigured, NotAuthenticated, TooMany
from core.settings import Settings
from core.token_key import load_token_key

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = b"k" * 32
ACTOR = Actor(uuid.UUID(int=1), uuid.UUID(int=2), "dispatcher", "Айгерім")


class TestAttemptLimiter:
    def test_a_full_window_refuses_and_says_how_long(self) -> None:
        now = [0.0]
        limiter = AttemptLimiter(3, monotonic=lambda: now[0])
        for second in (0, 10, 20):
            now[0] = second
            limiter.check("address", "name")
        now[0] = 30
        with pytest.raises(TooMany) as refused:
            limiter.check("address", "name")
        assert refused.value.context["retry_after_s"] == 30
        limiter.check("address", "other name")
        now[0] = 60
        limiter.check("address", "name")

    def test_what_it_remembers_is_bounded(self) -> None:
        limiter = AttemptLimiter(1, max_tracked=10)
        for number in range(100):
            limiter.check(str(number))
        assert len(limiter._attempts) == 10

    @given(st.lists(st.floats(0, 300), min_size=1, max_size=200))
    def test_no_minute_ever_holds_more_than_allowed(self, moments: list[float]) -> None:
        now = [0.0]
        limiter = AttemptLimiter(5, monotonic=lambda: now[0])
        allowed = []
        for moment in sorted(moments):
            now[0] = moment
            try:
                limiter.check("key")
            except TooMany:
                continue
            allowed.append(moment)
        for start in allowed:
            assert sum(start <= moment < start + 60 for moment in allowed) <= 5


class TestAccessTokens:
    def test_a_token_says_who_it_was_made_for(self) -> None:
        token = make_access_token(ACTOR, KEY, NOW, 900)
        assert verify_access_token(token, KEY, NOW) == ACTOR

    def test_it_ends_when_it_says(self) -> None:
        token = make_access_token(ACTOR, KEY, NOW, 900)
        verify_access_token(token, KEY, NOW + timedelta(seconds=899))
        with pytest.raises(NotAuthenticated) as expired:
            verify_access_token(token, KEY, NOW + timedelta(seconds=900))
        assert expired.value.code == "token_expired"

    @given(st.text(max_size=300))
    def test_no_text_is_taken_for_a_token(self, text: str) -> None:
        with pytest.raises(NotAuthenticated) as refused:
            verify_access_token(text, KEY, NOW)
        assert refused.value.code == "credentials_invalid"

    @given(st.integers(0, 400), st.sampled_from("AZaz09-_.="))
    def test_a_token_changed_anywhere_is_no_token(self, place: int, letter: str) -> None:
        token = make_access_token(ACTOR, KEY, NOW, 900)
        place %= len(token) - 1  # the last letter of a signature may carry unused bits
        if token[place] == letter:
            return
        with pytest.raises(NotAuthenticated):
            verify_access_token(token[:place] + letter + token[place + 1 :], KEY, NOW)

    @pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer  ", "Basic abc", "abc"])
    def test_a_header_without_a_bearer_token_is_missing_credentials(self, header: str | None) -> None:
        with pytest.raises(NotAuthenticated) as missing:
            bearer_token(header)
        assert missing.value.code == "credentials_missing"


class TestTokenKey:
    def test_it_is_made_once_and_readable_by_its_owner_alone(self, tmp_path: Path) -> None:
        settings = Settings(data_dir=tmp_path / "new")
        key = load_token_key(settings)
        assert len(key) == 32
        assert load_token_key(settings) == key
        assert stat.S_IMODE((tmp_path / "new" / "token.key").stat().st_mode) == 0o600
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["token.key"]

    def test_a_short_one_is_refused_by_name(self, tmp_path: Path) -> None:
        with pytest.raises(Misconfigured, match="QORGAN_TOKEN_KEY"):
            load_token_key(Settings(data_dir=tmp_path, token_key=SecretStr("short")))
        (tmp_path / "token.key").write_bytes(b"cut")
        with pytest.raises(Misconfigured, match=r"token\.key"):
            load_token_key(Settings(data_dir=tmp_path))

    def test_a_data_directory_that_is_a_file_is_a_clear_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(Misconfigured, match="cannot be read or made"):
            load_token_key(Settings(data_dir=tmp_path / "file"))


class TestErrors:
    def test_every_code_makes_a_whole_problem(self) -> None:
        for code, status in CODES.items():
            told = problem(code, "detail")
            assert told["status"] == status
            assert told["title"]

    def test_a_validation_error_names_the_field_and_not_its_value(self) -> None:
        class Model(BaseModel):
            number: int

        with pytest.raises(ValidationError) as wrong:
            Model.model_validate({"number": "hunter2"})
        error = describe_validation(wrong.value.errors())
        assert "hunter2" not in str(problem(error.code, error.detail, **error.context))
        assert error.context["errors"] == [{"field": "number", "problem": error.context["errors"][0]["problem"]}]  # type: ignore[index]


class TestSchemas:
    @pytest.mark.parametrize("value", ["a\x00b", "\ud800", {"a\x00": 1}, [["\udfff"]], float("nan"), float("inf")])
    def test_text_and_numbers_no_store_can_hold_are_refused(self, value: Any) -> None:
        with pytest.raises(ValueError, match="has a"):
            check_storable({"value": value})

    def test_a_time_needs_an_offset_and_a_sane_year(self) -> None:
        class When(Body):
            at: Moment

        assert When.model_validate({"at": "2026-03-01T17:00:00+05:00"}).at == NOW
        for text in ("2026-03-01T12:00:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00", "yesterday"):
            with pytest.raises(ValidationError):
                When.model_validate({"at": text})

    def test_a_change_tells_absent_from_null(self) -> None:
        class Some(Change):
            nullable = frozenset({"gone"})
            kept: str | None = None
            gone: str | None = None

        assert Some.model_validate({"gone": None}).values() == {"gone": None}
        assert Some.model_validate({}).values() == {}
        with pytest.raises(ValidationError, match="kept must not be null"):
            Some.model_validate({"kept": None})


class TestOrders:
    @given(st.floats(0, 5000), st.one_of(st.none(), st.floats(10, 5000)))
    def test_a_completed_order_is_never_below_its_legal_distance(self, legal_m: float, alert_m: float | None) -> None:
        values = {"victim_id": 1, "aggressor_id": 2, "legal_m": legal_m, "alert_m": alert_m}
        order = complete(values, Policy(), "Asia/Almaty")
        if alert_m is not None and alert_m < legal_m:
            with pytest.raises(InvalidInput):
                check_order({**order, "valid_from": NOW})
        else:
            check_order({**order, "valid_from": NOW})
            assert order["legal_m"] <= order["alert_m"] <= order["warning_m"]
            assert order["warning_m"] == order["alert_m"] + max(order["alert_m"], 1000)


class TestEnrolmentCodes:
    def test_a_code_can_be_read_aloud_and_typed_as_one_likes(self) -> None:
        code = make_code()
        assert len(code) == 14
        assert set(code) <= {*CODE_ALPHABET, "-"}
        assert code_digest(code) == code_digest(f" {code.lower().replace('-', ' ')}")
        assert make_code() != code


class TestProtection:
    FRESH: dict[str, Any] = {"last_seen_at": NOW, "expected_interval_s": 60.0, "battery_pct": 80.0}  # noqa: RUF012
    STALE: dict[str, Any] = {**FRESH, "last_seen_at": NOW - timedelta(minutes=5)}  # noqa: RUF012
    WELL: dict[str, Any] = {"in_force": 1, "suspended": 0, "unseen": 0}  # noqa: RUF012

    @pytest.mark.parametrize(
        ("devices", "orders", "status", "reasons"),
        [
            ([FRESH], WELL, "protected", []),
            ([FRESH, STALE], WELL, "degraded", ["one_of_your_devices_silent"]),
            ([STALE], WELL, "unprotected", ["your_device_silent"]),
            ([{**FRESH, "last_seen_at": None}], WELL, "unprotected", ["your_device_silent"]),
            ([{**FRESH, "battery_pct": 5.0}], WELL, "degraded", ["battery_low"]),
            ([{**FRESH, "battery_pct": None}], WELL, "protected", []),
            ([FRESH], {**WELL, "unseen": 1}, "degraded", ["his_device_not_heard"]),
            ([FRESH], {**WELL, "suspended": 1}, "degraded", ["order_suspended"]),
            ([FRESH], {**WELL, "in_force": 0, "suspended": 1}, "unprotected", ["order_suspended"]),
            ([FRESH], {**WELL, "in_force": 0}, "unprotected", ["no_order_in_force"]),
        ],
    )
    def test_she_is_told_why(self, devices: list[Any], orders: dict[str, Any], status: str, reasons: list[str]) -> None:
        assert judge(devices, orders, NOW) == {"status": status, "reasons": reasons}
