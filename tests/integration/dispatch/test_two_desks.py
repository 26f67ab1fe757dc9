"""Two processes take panics and wishes to cancel of one phone while PostgreSQL is away: neither undoes the other."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest

from api.cancel_turns import PANIC_WAIT_S
from api.last_known import LastKnown
from api.live.own_view import panic_json
from api.panic_desk import PanicDesk, PanicDrain
from api.panic_index import CANCELS_MAX
from api.panic_outage import PanicOutage
from core.actions.panics import PanicResult
from core.clock import now_ms, utc_now
from core.domain.delivery import Delivery
from core.domain.panic import CancelIn, PanicIn
from core.domain.told import Posted
from core.errors import StoreUnavailable
from core.ids import token_digest
from core.key_rings import LocalRing
from core.redis import keys
from core.redis import panics as panic_stream
from core.redis.client import connect
from core.vault import Traveller, Vault

Query = Callable[..., Any]
PIN, DURESS_PIN = "258036", "91191147"
WAIT_S = 20.0


@dataclass
class Refusing:
    """Providers that take nothing yet, and ask to be tried again at once."""

    arrived: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    async def send(self, delivery: Delivery, created_at: datetime, attempt: int) -> Posted:
        """Remember for whom it was."""
        assert created_at <= utc_now()
        assert attempt > 0
        self.arrived.put_nowait(delivery.audience)
        return Posted(sent=False, again_in_s=0.03)

    async def aclose(self) -> None:
        """Nothing is open."""

    async def audiences(self, count: int) -> list[str]:
        """For whom the next messages are."""
        async with asyncio.timeout(WAIT_S):
            return [await self.arrived.get() for _ in range(count)]


class Desks:
    """Opens desks that share a PostgreSQL behind a gate, and Redis unless a test says otherwise."""

    def __init__(self, settings: Any, database: Any, client: Any) -> None:
        self._settings = settings
        self._database = database
        self._client = client
        self.moment = [1000.0]
        """The desks' monotonic clock."""

    @contextlib.asynccontextmanager
    async def open(
        self, *, client: Any = None, post: Refusing | None = None, tail: Any = None
    ) -> AsyncIterator[PanicDesk]:
        """A desk that nothing drains but the test; with a post it tells by the routes last known."""
        outage = known = None
        if post is not None:
            known = LastKnown(self._settings, self._database, utc_now)
            await known.start()
            outage = PanicOutage(known, post, utc_now, staff_after_s=900)
        desk = PanicDesk(
            self._settings, self._database, client or self._client, None, tail, utc_now, outage=outage,
            monotonic=lambda: self.moment[0],
        )  # fmt: skip
        await desk.open()
        try:
            yield desk
        finally:
            await desk.close()
            if known is not None:
                await known.stop()


@pytest.fixture
async def desks(
    settings: Any, database: Any, posts_at: Any, gated_database: Any, redis_client: Any, serve: Any, pair: Any
) -> Desks:
    async with serve(settings, database, redis_client) as api, api.client(pair.phone_token) as phone:
        assert (await phone.put("/v1/me/pins", json={"pin": PIN, "duress_pin": DURESS_PIN})).status_code == 204
    return Desks(settings, posts_at(gated_database.url).device, redis_client)


@pytest.fixture
async def no_redis() -> AsyncIterator[Any]:
    away = connect("unix:///nonexistent/valkey.sock", timeout_s=1)
    yield away
    await away.aclose()


def press(pair: Any, **values: Any) -> PanicIn:
    return PanicIn(**{
        "id": uuid.uuid4(), "client_id": None, "received_ms": now_ms(), "source": "s", "device_id": pair.phone_id,
        "token_digest": token_digest(pair.phone_token).hex(), "person_id": pair.victim_id,
        "agency_id": pair.agency_id, **values,
    })  # fmt: skip


def wish_of(panic: PanicIn, pin: str = "") -> CancelIn:
    assert panic.device_id is not None
    return CancelIn(
        id=uuid.uuid4(), panic_id=str(panic.id), device_id=panic.device_id, received_ms=now_ms(), pin=pin
    )  # fmt: skip


async def incidents(query: Query) -> list[Any]:
    return list(await query("SELECT id, state, detail FROM incident"))


async def test_a_wish_that_reaches_another_process_keeps_contacts_from_being_told(
    desks: Desks, gate: Any, pair: Any
) -> None:
    post, panic = Refusing(), press(pair)
    async with desks.open(post=post) as first, desks.open() as second:
        await gate.shut()
        assert (await first.take(panic)).incident_id is None
        tried: set[str] = set()
        while not {"contact", "dispatcher"} <= tried:
            tried |= set(await post.audiences(1))
        assert await second.cancel(wish_of(panic)) is True
        await first.sweep(whole=False)
        while not post.arrived.empty():
            post.arrived.get_nowait()
        assert await post.audiences(4) == ["dispatcher"] * 4


async def test_so_does_one_that_is_judged_elsewhere_while_keys_alone_are_away(
    desks: Desks, pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    post, panic = Refusing(), press(pair)
    async with desks.open(post=post) as first, desks.open() as second:
        commit = first._rows.commit

        async def without_keys(*arguments: Any) -> PanicResult:
            return dataclasses.replace(await commit(*arguments), complete=False)

        monkeypatch.setattr(first._rows, "commit", without_keys)
        await first.take(panic)
        while "contact" not in await post.audiences(1):
            pass
        await first.drain(orphans=False)
        assert await second.cancel(wish_of(panic, DURESS_PIN)) is True
        await first.drain(orphans=False)
        while not post.arrived.empty():
            post.arrived.get_nowait()
        assert await post.audiences(4) == ["dispatcher"] * 4


async def test_her_phone_is_told_the_same_by_either_process(desks: Desks, gate: Any, pair: Any) -> None:
    panic = press(pair)
    async with desks.open() as first, desks.open() as second:
        await gate.shut()
        await first.take(panic)
        for desk in (first, second):
            with pytest.raises(StoreUnavailable):
                await desk.find(str(panic.id), pair.phone_id)
            assert desk.waiting(str(panic.id), pair.phone_id) == panic
            assert not desk.cancels_waiting(panic)
        await second.cancel(wish_of(panic))
        for desk in (first, second):
            with pytest.raises(StoreUnavailable):
                await desk.find(str(panic.id), pair.phone_id)
            assert desk.cancels_waiting(panic)
        await gate.open()
        await first.drain(orphans=False)
        found = await second.find(str(panic.id), pair.phone_id)
        assert found is not None
        assert panic_json(*found)["state"] == "cancelled", "also while it is yet to be judged"


async def test_a_wrong_pin_is_called_wrong_once_the_panic_is_a_row(desks: Desks, gate: Any, pair: Any) -> None:
    panic = press(pair)
    async with desks.open() as first, desks.open() as second:
        await gate.shut()
        await first.take(panic)
        assert await second.cancel(wish_of(panic, "0000")) is True
        await gate.open()
        await first.drain(orphans=False)
        assert await second.cancel(wish_of(panic, "0001")) is False, "though Redis still has it"


async def test_a_wish_that_comes_before_telling_begins_keeps_contacts_from_being_told(
    desks: Desks, gate: Any, pair: Any
) -> None:
    post, panic = Refusing(), press(pair)
    async with desks.open(post=post) as desk:
        await desk.rehearse()
        gate.hold()
        taking = asyncio.create_task(desk.take(panic))
        while desk.waiting(str(panic.id), pair.phone_id) is None:
            await asyncio.sleep(0)
        assert await desk.cancel(wish_of(panic)) is True
        assert (await taking).incident_id is None
        assert await post.audiences(4) == ["dispatcher"] * 4


@pytest.mark.parametrize(("pin", "marked"), [(PIN, "close_by"), (DURESS_PIN, "duress")])
async def test_a_wish_waits_for_a_panic_that_another_process_is_yet_to_bring(
    desks: Desks, gate: Any, pair: Any, query: Query, no_redis: Any, pin: str, marked: str
) -> None:
    panic = press(pair)
    async with desks.open(client=no_redis) as first, desks.open() as second:
        await gate.shut()
        await first.take(panic)
        assert await second.cancel(wish_of(panic, pin)) is True
        await gate.open()
        await second.drain(orphans=True)
        assert await incidents(query) == []
        await first.drain(orphans=False)
        await second.drain(orphans=True)
        [incident] = await incidents(query)
        assert len(await query("SELECT 1 FROM panic")) == 1, "no hidden one beside her own press"
    assert incident["state"] == "open"
    assert marked in incident["detail"]


async def test_it_does_not_wait_for_ever_and_a_duress_pin_is_heard(
    desks: Desks, gate: Any, pair: Any, query: Query
) -> None:
    async with desks.open() as desk:
        await gate.shut()
        await desk.cancel(wish_of(press(pair), DURESS_PIN))
        await gate.open()
        await desk.drain(orphans=True)
        desks.moment[0] += PANIC_WAIT_S / 2
        await desk.drain(orphans=True)
        assert await incidents(query) == []
        desks.moment[0] += PANIC_WAIT_S
        await desk.drain(orphans=True)
        [incident] = await incidents(query)
    assert incident["detail"]["duress"] is True


async def test_a_flood_of_wishes_is_bounded_and_holds_up_no_other_panic(
    desks: Desks, gate: Any, pair: Any, another_pair: Any, query: Query, redis_client: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    other = await another_pair()
    mine, hers = press(pair), press(other)
    async with desks.open() as desk:
        await gate.shut()
        await desk.take(mine)
        for number in range(CANCELS_MAX + 9):
            await desk.cancel(wish_of(mine, str(number)))
        await desk.cancel(wish_of(mine, DURESS_PIN))
        await desk.take(hers)
        assert desk._journal.count() == CANCELS_MAX + 2
        await desk.sweep()
        assert await redis_client.xlen(keys.PANICS) == CANCELS_MAX + 2
        await gate.open()
        judged: list[int] = []

        async def judge(_: CancelIn, __: object) -> bool:
            judged.append(len(await query("SELECT 1 FROM panic")))
            desks.moment[0] += 0.4
            return True

        monkeypatch.setattr(desk._rows, "commit_cancel", judge)
        await desk.drain(orphans=False)
        assert judged == [2, 2, 2], "both panics first, and but a second of wishes a round"


class Boards:
    """What is shown on a process's consoles."""

    def __init__(self) -> None:
        self.shown: list[tuple[uuid.UUID, str]] = []

    def publish_provisional(self, agency_id: uuid.UUID, incident: dict[str, Any]) -> None:
        """Remember it."""
        self.shown.append((agency_id, incident["id"]))


async def test_a_panic_of_nobody_known_is_shown_on_every_process_s_consoles(desks: Desks, gate: Any, pair: Any) -> None:
    stranger = press(pair, person_id=None, device_id=None, agency_id=None, token_digest=None, doubts=["no_token"])
    boards = [Boards(), Boards()]
    async with (
        desks.open(post=Refusing(), tail=boards[0]) as first,
        desks.open(post=Refusing(), tail=boards[1]) as other,
    ):
        await gate.shut()
        await first.take(stranger)
        await first.take(press(pair))  # shown by the tail of each
        drain = PanicDrain(other)
        for _ in range(2):
            await drain._once(orphans=True, rehearse=False)
    assert [agency_id for agency_id, _ in boards[1].shown] == [pair.agency_id]
    assert boards[1].shown == boards[0].shown[:1]


async def test_what_waits_is_found_without_opening_it(
    desks: Desks, gate: Any, pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    panics = [press(pair) for _ in range(20)]
    async with desks.open() as desk:
        await gate.shut()
        for panic in panics:
            await desk.take(panic)
        monkeypatch.setattr(Traveller, "_decrypted", None)
        assert desk.waiting(str(panics[-1].id), pair.phone_id) == panics[-1]
        assert not desk.cancels_waiting(panics[-1])


async def test_entries_that_nobody_can_open_hide_none_behind_them(
    desks: Desks, gate: Any, pair: Any, query: Query, redis_client: Any
) -> None:
    traveller = Vault(LocalRing({"other": bytes(32)})).traveller
    await traveller.prepare()
    lost = traveller.seal(b"{}")
    async with redis_client.pipeline(transaction=False) as pipe:
        for _ in range(panic_stream.PENDING_BOUND + 1):
            pipe.xadd(keys.PANICS, {panic_stream.FIELD: lost})
        await pipe.execute()
    panic = press(pair)
    async with desks.open() as first:
        await gate.shut()
        await first.take(panic)
        await gate.open()
        async with desks.open() as second:
            await second.drain(orphans=True)
            assert len(await query("SELECT 1 FROM panic")) == 1
    assert await redis_client.xlen(keys.PANICS) == panic_stream.PENDING_BOUND + 1, "kept: the key may be put back"


async def test_redis_holds_a_bounded_number_of_what_is_on_a_disk_as_well(
    desks: Desks, gate: Any, pair: Any, redis_client: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(panic_stream, "COPIES_BOUND", 3)
    async with desks.open() as desk:
        await gate.shut()
        for _ in range(5):
            assert (await desk.take(press(pair))).incident_id is None
        assert await redis_client.xlen(keys.PANICS) == 3
    (tmp_path / "no-directory").write_text("")
    desks._settings = desks._settings.model_copy(update={"data_dir": tmp_path / "no-directory"})
    diskless = PanicDesk(desks._settings, desks._database, redis_client, None, None, utc_now)
    assert (await diskless.take(press(pair))).incident_id is None
    assert await redis_client.xlen(keys.PANICS) == 4, "nowhere else is it"
    await diskless.close()
