"""Guessing passwords: it gets nowhere, and it locks nobody out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from api.app import create_app
from api.sign_in_gate import BucketFull, SignInGate, site_of
from core.redis.client import connect
from tests.integration.management.visitor import Visitor


async def test_a_thousand_wrong_tries_from_elsewhere_do_not_stop_the_right_user_at_her_browser(office: Any) -> None:
    app = create_app(office.context)
    async with Visitor(office.context, app=app) as dispatcher:
        assert (await dispatcher.sign_in()).status_code == 200
        codes = []
        for number in range(1000):
            async with Visitor(office.context, f"203.0.{number // 250}.{number % 250}", app) as attacker:
                codes.append((await attacker.sign_in(password=f"guess number {number}")).status_code)
        # Thirty were looked at; the rest were refused unread, and not one costs more than a look into Redis.
        assert codes.count(401) == office.context.settings.login_failures_per_user
        assert set(codes) == {401, 429}
        async with Visitor(office.context, "203.0.113.99") as attacker:
            assert (await attacker.sign_in()).status_code == 429, "knowing the password helps nobody in the flood"
        assert (await dispatcher.sign_in()).status_code == 200
        assert (await dispatcher.sign_in("supervisor")).status_code == 200, "other users are not slowed at all"


async def test_a_known_browser_has_its_own_bound(office: Any) -> None:
    async with Visitor(office.context) as stolen:
        await stolen.sign_in()
        limit = office.context.settings.login_attempts_per_minute
        for _ in range(limit):
            assert (await stolen.sign_in(password="not the right one")).status_code == 401
        assert (await stolen.sign_in()).status_code == 429


async def test_a_known_browser_is_known_for_its_user_alone_and_not_for_ever(office: Any, hands: Any) -> None:
    gate = office.context.gate
    hers = office.users["dispatcher"]["id"]
    cookie = gate.make_known(hers)
    assert gate.known_mark(cookie, hers) is not None
    assert gate.known_mark(cookie, office.users["admin"]["id"]) is None
    assert gate.known_mark(cookie, None) is None
    for forged in ("", "nonsense", "é", cookie[:-2] + "AA", "A" * 86, cookie * 4):
        assert gate.known_mark(forged, hers) is None
    hands.forward(days=181)
    assert gate.known_mark(cookie, hers) is None


async def test_one_address_is_bounded_over_all_names_and_right_sign_ins_do_not_count(office: Any) -> None:
    limit = office.context.settings.login_failures_per_address
    async with Visitor(office.context) as sprayer:
        for number in range(limit):
            assert (await sprayer.sign_in(f"user{number}")).status_code == 401
        assert (await sprayer.sign_in("another")).status_code == 429
    async with Visitor(office.context, "192.0.2.200") as office_door:
        for _ in range(limit + 1):
            office_door.client.cookies.clear()
            assert (await office_door.sign_in()).status_code == 200


async def test_the_bounds_are_shared_by_all_processes_and_hold_without_redis(office: Any, settings: Any) -> None:
    key, clock = b"k" * 32, office.context.clock
    first, second = (SignInGate(settings, office.context.redis, key, clock) for _ in range(2))
    buckets = first.password_buckets("192.0.2.1", "somebody", None)
    for number in range(settings.login_attempts_per_minute):
        await (first, second)[number % 2].enter(buckets)
    for gate in (first, second):
        with pytest.raises(BucketFull):
            await gate.enter(buckets)
    away = connect("redis://127.0.0.1:1")
    alone = SignInGate(settings, away, key, clock)
    for _ in range(settings.login_attempts_per_minute):
        await alone.enter(buckets)
    with pytest.raises(BucketFull) as full:
        await alone.enter(buckets)
    assert 1 <= full.value.context["retry_after_s"] <= 60
    await away.aclose()


async def test_a_success_gives_its_places_back(office: Any, settings: Any) -> None:
    away = connect("redis://127.0.0.1:1")
    for client in (office.context.redis, away):
        gate = SignInGate(settings, client, b"k" * 32, office.context.clock)
        buckets = gate.password_buckets("192.0.2.1", "somebody", None)
        for _ in range(settings.login_failures_per_address * 2):
            await gate.leave(await gate.enter(buckets))
    await away.aclose()


async def test_redis_holds_no_name_and_no_address(office: Any) -> None:
    async with Visitor(office.context, "198.51.100.77") as attacker:
        await attacker.sign_in(password="guess number one")
    keys = await office.context.redis.keys("*")
    assert keys
    for key in keys:
        held = key + b"".join(await office.context.redis.zrange(key, 0, -1)) if key.startswith(b"attempts") else key
        assert b"dispatcher" not in held
        assert b"198.51.100" not in held


async def test_the_user_and_her_supervisors_are_told_once_an_hour(office: Any, hands: Any) -> None:
    app = create_app(office.context)
    for hour in range(2):
        for number in range(40):
            async with Visitor(office.context, f"203.0.113.{number}", app) as attacker:
                await attacker.sign_in(password=f"guess number {number}")
        lines = (await office.get("/v1/audit?limit=200", "auditor")).json()["items"]
        told = [line for line in lines if line["action"] == "user.sign_in_attempts"]
        assert len(told) == hour + 1
        assert told[0]["actor_kind"] == "unknown"
        assert "guess number" not in json.dumps(lines)
        hands.forward(hours=1, seconds=1)


def test_an_ipv6_site_counts_as_one_address() -> None:
    assert site_of("2001:db8:1:2:aaaa::1") == site_of("2001:db8:1:2:bbbb::9") != site_of("2001:db8:1:3::1")
    assert site_of("::ffff:192.0.2.1") == site_of("192.0.2.1") == "192.0.2.1"
    assert site_of("unix") == "unix"
