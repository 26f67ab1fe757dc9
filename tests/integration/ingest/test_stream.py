"""The device stream on real sockets and a real Valkey."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from api.ingest.stream import DEVICE_CONNECTIONS
from core.clock import to_ms, utc_now
from core.domain.ping import FLAG_BACKLOG, FLAG_EXTRA, FLAG_POSITION, FLAG_PRIMARY, NO_SEQ
from core.errors import Misconfigured

Ping = Callable[..., dict[str, Any]]


async def test_a_ping_is_acknowledged_once_it_is_in_the_log(door: Any, fleet: Any, make_ping: Ping) -> None:
    device = await fleet.device((2,), interval_s=15)
    peer = await door.open(device)
    sent = make_ping(7, speed_mps=1.5, battery_pct=80)

    await peer.send(sent)
    assert await peer.answer() == {"ack": 7, "interval_s": 15.0, "commands": []}

    (record,) = await door.records(2)
    assert record["device"] == device.number
    assert record["seq"] == 7
    assert record["at_ms"] == to_ms(datetime.fromisoformat(sent["at"]))
    assert (record["lat"], record["lon"]) == (43.25, 76.95)
    assert record["speed_mps"] == np.float32(1.5)
    assert np.isnan(record["heading_deg"])
    assert record["flags"] & (FLAG_POSITION | FLAG_PRIMARY | FLAG_BACKLOG) == FLAG_POSITION | FLAG_PRIMARY


async def test_without_seq_frames_are_counted(door: Any, fleet: Any, make_ping: Ping) -> None:
    peer = await door.open(await fleet.device())
    await peer.send(make_ping(), make_ping(), [make_ping(), make_ping()])
    assert (await peer.acked(3))["ack"] == 3
    records = await door.records(1)
    assert len(records) == 4
    assert set(records["seq"]) == {NO_SEQ}


async def test_acknowledgements_are_at_most_every_250_ms(door: Any, fleet: Any, make_ping: Ping) -> None:
    peer = await door.open(await fleet.device())
    loop = asyncio.get_running_loop()
    times: list[float] = []

    async def read() -> None:
        while True:
            answer = await peer.answer()
            times.append(loop.time())
            if answer["ack"] == 99:
                return

    reading = asyncio.create_task(read())
    for seq in range(100):
        await peer.send(make_ping(seq))
        await asyncio.sleep(0.008)
    await reading
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(times) <= 6
    assert min(gaps) > 0.15


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ('{"at":', "malformed_json"),
        ("what", "malformed_json"),
        ("", "malformed_json"),
        ("3", "malformed_request"),
        ('{"at":"2026-05-01T00:00:00Z","lat":NaN,"lon":1}', "position_invalid"),
        ('{"at":"2026-05-01T00:00:00Z","lat":Infinity,"lon":1}', "position_invalid"),
        ('{"seq":4,"at":"2026-05-01T00:00:00Z","lat":1e999,"lon":1}', "position_invalid"),
        ('{"seq":4,"at":"2026-05-01T00:00:00Z","lat":90.1,"lon":1}', "position_invalid"),
        ('{"seq":4,"at":"2026-05-01T00:00:00Z","lat":1,"lon":-180.1}', "position_invalid"),
        ('{"seq":4,"at":"NOW","lat":1}', "position_invalid"),
        ('{"seq":4,"lat":1,"lon":1}', "time_invalid"),
        ('{"seq":4,"at":"yesterday","lat":1,"lon":1}', "time_invalid"),
        ('{"seq":4,"at":"2026-05-01T00:00:00","lat":1,"lon":1}', "time_invalid"),
        ('{"seq":4,"at":"2001-05-01T00:00:00Z","lat":1,"lon":1}', "time_too_old"),
        ('{"seq":4,"at":"9999-12-31T23:59:59Z","lat":1,"lon":1}', "time_in_future"),
        ('{"seq":4,"at":"NOW","lat":1,"lon":1,"strap":"cut"}', "validation_failed"),
        ('{"seq":-4,"at":"NOW","lat":1,"lon":1}', "validation_failed"),
    ],
)
async def test_a_bad_ping_is_answered_by_its_error_and_the_next_one_is_taken(
    door: Any, fleet: Any, make_ping: Ping, frame: str, code: str
) -> None:
    peer = await door.open(await fleet.device())
    await peer.send(frame.replace("NOW", utc_now().isoformat()))
    error = await peer.error()
    assert error["code"] == code
    assert error["seq"] == (4 if '"seq":4' in frame else None)
    assert error["detail"]
    await peer.send(make_ping(5))
    await peer.acked(5)
    assert list((await door.records(1))["seq"]) == [5]


async def test_a_bad_ping_alone_is_passed_by_the_acknowledgement(door: Any, fleet: Any) -> None:
    peer = await door.open(await fleet.device())
    await peer.send({"seq": 9, "at": "never"})
    assert (await peer.error())["seq"] == 9
    await peer.acked(9)


async def test_one_bad_ping_of_an_array_harms_no_other(door: Any, fleet: Any, make_ping: Ping) -> None:
    peer = await door.open(await fleet.device())
    await peer.send([make_ping(1), {"seq": 2, "lat": 1, "lon": 1}, make_ping(3, lat=200), make_ping(4)])
    assert [await peer.error() for _ in range(2)] == [
        {"code": "time_invalid", "detail": error["detail"], "seq": seq}
        for error, seq in (({"detail": "Object missing required field `at`."}, 2),)
    ] + [{"code": "position_invalid", "detail": "Expected `float` <= 90.0 - at `$.lat`.", "seq": 3}]
    await peer.acked(4)
    assert list((await door.records(1))["seq"]) == [1, 4]


async def test_a_ping_far_ahead_brings_the_server_time(
    door: Any, fleet: Any, make_ping: Ping, tomorrow: datetime
) -> None:
    peer = await door.open(await fleet.device())
    await peer.send(make_ping(1, at=tomorrow))
    assert (await peer.error())["code"] == "time_in_future"
    answer = await peer.acked(1)
    (command,) = answer["commands"]
    assert command["kind"] == "set_clock"
    assert abs(datetime.fromisoformat(command["at"]) - utc_now()) < timedelta(seconds=30)


async def test_of_an_array_only_the_newest_ping_takes_the_live_lane(door: Any, fleet: Any, make_ping: Ping) -> None:
    peer = await door.open(await fleet.device())
    now = utc_now()
    moments = [now - timedelta(seconds=age_s) for age_s in (30, 0, 20)]
    await peer.send([make_ping(seq, at=at) for seq, at in enumerate(moments)])
    await peer.acked(2)
    backlog = (await door.records(1))["flags"] & FLAG_BACKLOG != 0
    assert list(backlog) == [True, False, True]


async def test_a_device_of_two_shards_is_in_both_logs_and_primary_in_one(
    door: Any, fleet: Any, make_ping: Ping
) -> None:
    device = await fleet.device((3, 0))
    peer = await door.open(device)
    await peer.send(make_ping(1))
    await peer.acked(1)
    (first,), (second,) = await door.records(3), await door.records(0)
    assert first["flags"] & FLAG_PRIMARY
    assert not second["flags"] & FLAG_PRIMARY
    assert first["device"] == second["device"] == device.number


async def test_a_heartbeat_has_no_position(door: Any, fleet: Any, make_ping: Ping) -> None:
    peer = await door.open(await fleet.device())
    await peer.send(make_ping(1, lat=None, lon=None))
    await peer.acked(1)
    (record,) = await door.records(1)
    assert not record["flags"] & FLAG_POSITION
    assert np.isnan(record["lat"])


async def test_what_was_heard_stands_beside_the_record_by_device_number(door: Any, fleet: Any, make_ping: Ping) -> None:
    device, bracelet = await fleet.device(), await fleet.device()
    peer = await door.open(device)
    heard = [{"beacon": str(bracelet.id), "rssi_dbm": -70}, {"beacon": "somebody else's"}]
    await peer.send([make_ping(1), make_ping(2, heard=heard)])
    await peer.acked(2)
    records = await door.records(1)
    assert list(records["flags"] & FLAG_EXTRA != 0) == [False, True]
    assert await door.extras(1) == [{"1": {"heard": [{"beacon": bracelet.number, "rssi_dbm": -70.0}]}}]


async def test_a_gateway_sends_for_the_devices_of_its_agency(door: Any, fleet: Any, make_ping: Ping) -> None:
    first, second = await fleet.device((1,)), await fleet.device((2,))
    stranger = await fleet.device(agency_id=await fleet.agency())
    returned = await fleet.device(status="returned")
    nobodys = await fleet.device(())
    peer = await door.open(await fleet.gateway())
    await peer.send(
        make_ping(1, device_id=str(first.id)),
        make_ping(2, device_id=str(second.id).upper()),
        make_ping(3),
        make_ping(4, device_id=str(stranger.id)),
        make_ping(5, device_id="no id"),
        make_ping(6, device_id=str(returned.id)),
        make_ping(7, device_id=str(nobodys.id)),
    )
    errors = [await peer.error() for _ in range(5)]
    assert [(error["seq"], error["code"]) for error in errors] == [
        (3, "device_id_missing"),
        (4, "device_unknown"),
        (5, "device_unknown"),
        (6, "token_revoked"),
        (7, "device_forbidden"),
    ]
    await peer.acked(7)
    assert list((await door.records(1))["device"]) == [first.number]
    assert list((await door.records(2))["device"]) == [second.number]


async def test_of_a_gateways_array_each_device_has_a_live_ping(door: Any, fleet: Any, make_ping: Ping) -> None:
    devices = [await fleet.device((1,)), await fleet.device((1,))]
    peer = await door.open(await fleet.gateway())
    now = utc_now()
    await peer.send(
        [
            make_ping(number, at=now - timedelta(seconds=10 - number), device_id=str(devices[number % 2].id))
            for number in range(4)
        ]
    )
    await peer.acked(3)
    assert list((await door.records(1))["flags"] & FLAG_BACKLOG != 0) == [True, True, False, False]


async def test_a_device_nobody_carries_is_told_so(door: Any, fleet: Any, make_ping: Ping) -> None:
    peer = await door.open(await fleet.device(()))
    await peer.send(make_ping(1))
    assert (await peer.error())["code"] == "device_forbidden"
    await peer.acked(1)


async def refusal(door: Any, token: str | None, path: str = "/v1/pings/stream") -> tuple[int, dict[str, Any]]:
    """Status and problem of a refused handshake."""
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    with pytest.raises(InvalidStatus) as caught:
        await connect(f"ws://127.0.0.1:{door.stream.port}{path}", additional_headers=headers, proxy=None)
    response = caught.value.response
    assert response.headers["Content-Type"] == "application/problem+json"
    return response.status_code, msgspec.json.decode(response.body or b"{}")


async def test_tokens_that_do_not_hold_are_refused_at_the_handshake(door: Any, fleet: Any) -> None:
    expired = await fleet.device(expires_at=utc_now() - timedelta(seconds=1))
    revoked = await fleet.device()
    await fleet.revoke_token(revoked.token)
    lost = await fleet.device(status="revoked")
    await door.registry.refresh()
    for token, code in [
        (None, "credentials_missing"),
        ("", "credentials_missing"),
        ("qd_forged", "credentials_invalid"),
        (expired.token, "token_expired"),
        (revoked.token, "token_revoked"),
        (lost.token, "token_revoked"),
    ]:
        status, problem = await refusal(door, token)
        assert (status, problem["code"]) == (401, code)
        assert not token or token not in str(problem)
    assert (await refusal(door, revoked.token, "/elsewhere"))[0] == 404


async def test_a_revoked_device_is_put_out_within_a_second(door: Any, fleet: Any, make_ping: Ping) -> None:
    by_token, by_status = await fleet.device(), await fleet.device()
    peers = [await door.open(by_token), await door.open(by_status)]
    for peer in peers:
        await peer.send(make_ping(1))
        await peer.acked(1)
    started = asyncio.get_running_loop().time()
    await fleet.revoke_token(by_token.token)
    await fleet.set_status(by_status.id, "returned")
    for peer in peers:
        assert (await peer.error())["code"] == "token_revoked"
        assert await peer.closed() == 1008
    assert asyncio.get_running_loop().time() - started < 1.5


async def test_a_token_that_runs_out_closes_its_socket(door: Any, fleet: Any) -> None:
    peer = await door.open(await fleet.device(expires_at=utc_now() + timedelta(seconds=1)))
    assert (await peer.error())["code"] == "token_expired"
    assert await peer.closed() == 1008


async def test_changes_of_a_device_reach_its_open_socket(door: Any, fleet: Any, make_ping: Ping) -> None:
    device = await fleet.device((1,), interval_s=30)
    peer = await door.open(device)
    await peer.send(make_ping(1))
    assert (await peer.acked(1))["interval_s"] == 30.0
    async with fleet.database.transaction() as connection:
        await connection.execute(
            "UPDATE device SET routes = '{2}', expected_interval_s = 5, changed_xid = pg_current_xact_id()"
            " WHERE id = $1",
            device.id,
        )
        await connection.execute("NOTIFY registry")
    assert await peer.answer() == {"ack": 1, "interval_s": 5.0, "commands": []}  # unasked
    await peer.send(make_ping(2))
    await peer.acked(2)
    assert [list((await door.records(shard))["seq"]) for shard in (1, 2)] == [[1], [2]]


async def test_an_oversized_frame_is_told_and_closes_the_socket(open_door: Any, fleet: Any) -> None:
    door = await open_door(max_frame_bytes=1000)
    device = await fleet.device()
    peer = await door.open(device)
    await peer.send('{"note":"' + "x" * 1000 + '"}')
    assert (await peer.error())["code"] == "frame_too_large"
    assert await peer.closed() == 1009
    peer = await door.open(device)
    with pytest.raises(ConnectionClosed):
        for _ in range(100):
            await peer.send("x" * 100_000)
    assert await peer.closed() == 1009


async def test_a_fragmented_frame_is_one_frame(door: Any, fleet: Any, make_ping: Ping) -> None:
    peer = await door.open(await fleet.device())
    text = '{"seq":1,"at":"%s","lat":1,"lon":2}' % utc_now().isoformat()  # noqa: UP031 - braces
    await peer.socket.send([text[:10], text[10:20], text[20:]])
    await peer.send(make_ping(2))
    await peer.acked(2)
    assert list((await door.records(1))["seq"]) == [1, 2]


async def test_too_many_pings_in_a_frame_are_refused(open_door: Any, fleet: Any, make_ping: Ping) -> None:
    door = await open_door(max_pings_per_call=3)
    peer = await door.open(await fleet.device())
    await peer.send([make_ping(seq) for seq in range(4)])
    assert (await peer.error())["code"] == "too_many_pings"
    await peer.send([make_ping(seq) for seq in range(4, 7)])
    await peer.acked(6)
    assert len(await door.records(1)) == 3


async def test_a_device_that_sends_too_fast_is_told_and_stays_connected(
    open_door: Any, fleet: Any, make_ping: Ping
) -> None:
    door = await open_door(device_pings_per_second=0.1)
    peer = await door.open(await fleet.device())
    await peer.send(*(make_ping(seq) for seq in range(10)))
    errors = [await peer.error() for _ in range(4)]
    assert [(error["code"], error["seq"]) for error in errors] == [("rate_limited", seq) for seq in range(6, 10)]
    await peer.acked(9)
    assert list((await door.records(1))["seq"]) == list(range(6))


async def test_connections_are_bounded(open_door: Any, fleet: Any) -> None:
    door = await open_door(max_stream_connections=1)
    device = await fleet.device()
    peer = await door.open(device)
    status, problem = await refusal(door, device.token)
    assert (status, problem["code"]) == (503, "too_many_connections")
    await peer.socket.close()
    while door.stream.connections:
        await asyncio.sleep(0)
    await door.open(device)


async def test_a_busy_port_is_said_in_plain_words(open_door: Any, door: Any) -> None:
    with pytest.raises(Misconfigured, match=f"Port {door.stream.port} .* is busy"):
        await open_door(stream_port=door.stream.port)


async def test_a_peer_that_does_not_read_is_cut_off_and_harms_no_other(door: Any, fleet: Any, make_ping: Ping) -> None:
    deaf, other = await door.open(await fleet.device()), await door.open(await fleet.device())
    deaf.socket.transport.pause_reading()
    with pytest.raises((ConnectionClosed, OSError)):
        for _ in range(400):
            await deaf.send([{"seq": seq, "at": "never"} for seq in range(1000)])
    await other.send(make_ping(1))
    await other.acked(1)
    deaf.socket.transport.abort()


async def test_sockets_are_closed_with_going_away_when_the_service_stops(door: Any, fleet: Any) -> None:
    peer = await door.open(await fleet.device())
    await door.stream.stop()
    assert await peer.closed() == 1001


async def test_one_device_holds_few_sockets_and_the_newest_of_them(door: Any, fleet: Any, make_ping: Ping) -> None:
    sender = await fleet.device()
    peers = [await door.open(sender) for _ in range(DEVICE_CONNECTIONS + 1)]
    assert await peers[0].closed() == 1008
    await peers[-1].send(make_ping(1))
    await peers[-1].acked(1)
    gateway = await fleet.gateway()
    many = [await door.open(gateway) for _ in range(DEVICE_CONNECTIONS + 2)]
    device = await fleet.device()
    await door.registry.refresh()
    await many[0].send(make_ping(1, device_id=str(device.id)))
    await many[0].acked(1)
    for peer in (*peers, *many):
        await peer.socket.close()
    async with asyncio.timeout(10):
        while door.stream.connections:
            await asyncio.sleep(0.01)
    assert not door.stream._of_device
