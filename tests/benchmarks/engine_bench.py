"""How many pings a second the engine alone takes, on one core, at some number of orders.

Run it: `python -m tests.benchmarks.engine_bench` or `python tests/benchmarks/engine_bench.py`; `measure_all` is
what `qorgan bench detect` calls. Two bare baselines of the same pings: unpacking them and turning degrees into vectors,
and what a straightforward service would do instead, one geodesic of `geopy` a ping to where the other was last.
"""

from __future__ import annotations

import json
import statistics
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from geopy.distance import geodesic
from numpy.typing import NDArray

from core.domain.case import Case, CaseDevice, CaseOrder, CasePerson, encode_cases
from core.domain.log import CONFIGURATION, PINGS, TICK, Entry
from core.domain.ping import FLAG_POSITION, FLAG_PRIMARY, RECORD, Source, unpack_records
from geo.engine import Engine, Hall, process_together
from geo.frame import to_vectors
from geo.memory import DEVICE_BYTES, PAIR_KEY

START_MS: Final = 1_760_000_000_000
CASES_AN_ENTRY: Final = 200
NEAR_SHARE: Final = 0.1
"""Share of pairs that live within two kilometres of each other; the others are tens of kilometres apart."""
ENTRIES_A_CYCLE: Final = 100
"""Entries handed over at once when batches are large: what a busy owner finds waiting."""
RECORDS_AN_ENTRY: Final = 50
WALK_RADIUS_M: Final = 40.0
WALK_MPS: Final = 1.2
POOR_SHARE: Final = 0.03
DEGREE_M: Final = 111_200.0
SETTLING_PINGS: Final = 3
"""Pings that each device has given before the clock starts: by then its estimate has settled. With fewer there would be
nothing but first and second fixes where there are many orders, and none of them where there are few."""
SLICES: Final = 12
"""Parts that the large batches are timed in; the middle of their costs is told, so that one disturbance is none."""
GEOPY_PINGS: Final = 3_000
"""Of the same batch: a geodesic takes some 100 µs, so all of them would take a minute."""
ORDERS: Final = (1_000, 10_000, 100_000, 200_000)
SHARDS: Final = 8
SHARD_ORDERS: Final = 600
SHARD_RECORDS: Final = 10
"""What a cycle of 10 ms finds in each shard's log at 8,000 pings/s."""


def cases(orders: int) -> Iterator[Case]:
    """Pairs with one device each: victim 2k + 1, aggressor 2k + 2."""
    for k in range(orders):
        people = [
            CasePerson(
                number=2 * k + side + 1,
                id=uuid.UUID(int=(1 << 64) + 2 * k + side),
                role=role,
                devices=[
                    CaseDevice(number=2 * k + side + 1, id=uuid.UUID(int=(2 << 64) + 2 * k + side), kind=kind),
                ],
            )
            for side, (role, kind) in enumerate((("victim", "phone"), ("aggressor", "bracelet")))
        ]
        order = CaseOrder(
            number=k + 1,
            id=uuid.UUID(int=(3 << 64) + k),
            victim=2 * k + 1,
            aggressor=2 * k + 2,
            alert_m=500.0,
            warning_m=1500.0,
        )
        yield Case(
            number=k + 1,
            id=uuid.UUID(int=(4 << 64) + k),
            agency_id=uuid.UUID(int=5 << 64),
            version=1,
            people=people,
            orders=[order],
        )


def walk(orders: int, pings: int, seed: int, rate: float) -> NDArray[np.void]:
    """Pings of devices in random order, each walking in a circle about its home; the rate sets their times.

    Where orders are few a device gives many pings a second, so places follow from the time and are not drawn anew:
    nobody jumps. Some pings are poor, and say so.
    """
    random = np.random.default_rng(seed)
    devices = 2 * orders
    near = random.random(orders) < NEAR_SHARE
    home = np.empty((devices, 2))
    home[0::2] = np.column_stack([random.uniform(42, 52, orders), random.uniform(52, 80, orders)])
    offset = np.where(near, random.uniform(0.002, 0.018, orders), random.uniform(0.1, 0.5, orders))
    home[1::2] = home[0::2] + np.column_stack([offset, np.zeros(orders)])
    rounds = -(-pings // devices)
    device = np.concatenate([random.permutation(devices) for _ in range(rounds)])[:pings]
    records = np.zeros(pings, dtype=RECORD)
    records["device"] = device + 1
    records["flags"] = FLAG_POSITION | FLAG_PRIMARY | (Source.GPS << 4)
    records["at_ms"] = START_MS + 1000 + (np.arange(pings) * (1000.0 / rate)).astype(np.int64)
    records["seq"] = np.arange(pings)
    poor = random.random(pings) < POOR_SHARE
    sigma_m = np.where(poor, 60.0, 0.5)
    angle = random.uniform(0, 2 * np.pi, devices)[device] + records["at_ms"] / 1000 * (WALK_MPS / WALK_RADIUS_M)
    north_m = WALK_RADIUS_M * np.sin(angle) + sigma_m * random.standard_normal(pings)
    east_m = WALK_RADIUS_M * np.cos(angle) + sigma_m * random.standard_normal(pings)
    records["lat"] = home[device, 0] + north_m / DEGREE_M
    records["lon"] = home[device, 1] + east_m / DEGREE_M / np.cos(np.radians(home[device, 0]))
    records["accuracy_m"] = np.where(poor, 90.0, random.uniform(5, 25, devices)[device])
    records["speed_mps"] = WALK_MPS
    records["battery_pct"] = 80
    return records


def log(records: NDArray[np.void]) -> list[Entry]:
    """Entries of `RECORDS_AN_ENTRY` records in the order of their times, and a tick each second."""
    out: list[Entry] = []
    at, second = 0, START_MS
    while at < len(records):
        part = records[at : at + RECORDS_AN_ENTRY]
        now_ms = int(part["at_ms"][-1])
        while second + 1000 <= now_ms:
            second += 1000
            out.append(Entry(second, 0, TICK, b""))
        out.append(Entry(now_ms, 1, PINGS, part.tobytes()))
        at += RECORDS_AN_ENTRY
    return out


def through_geopy(records: NDArray[np.void], alert_m: float = 500.0) -> tuple[float, int]:
    """CPU seconds a ping of comparing each with where the other was last, and how many were near."""
    lat, lon, devices = (records[name].tolist() for name in ("lat", "lon", "device"))
    last: dict[int, tuple[float, float]] = dict(zip(devices, zip(lat, lon, strict=True), strict=True))
    count = min(GEOPY_PINGS, len(devices))
    near = compared = 0
    begun = time.process_time()
    for device, place in zip(devices[:count], zip(lat, lon, strict=False), strict=False):
        other = last.get(((device - 1) ^ 1) + 1)
        if other is not None:
            near += geodesic(place, other).meters <= alert_m
            compared += 1
        last[device] = place
    return (time.process_time() - begun) / max(compared, 1), near


def flatness(figures: dict[str, dict[str, Any]]) -> float:
    """Greatest over least cost a ping of several numbers of orders: 1.2 is flat within 20 %."""
    costs: list[float] = [each["microseconds_a_ping"] for each in figures.values()]
    return round(max(costs) / min(costs), 2)


class Sized:
    """An engine with `orders` orders whose devices have all given `SETTLING_PINGS`, and the pings it is timed by.

    Times are process CPU seconds. Large batches are what a busy owner finds waiting, small ones a single entry (50
    records); each half of the pings is timed in `SLICES`.
    """

    def __init__(self, orders: int, pings: int, seed: int) -> None:
        self.orders = orders
        self._engine = Engine(0)
        everything = list(cases(orders))
        payloads = [encode_cases(everything[k : k + CASES_AN_ENTRY]) for k in range(0, orders, CASES_AN_ENTRY)]
        del everything
        begun = time.process_time()
        for k, payload in enumerate(payloads):
            self._engine.process([Entry(START_MS, k, CONFIGURATION, payload)])
        self._configured_s = time.process_time() - begun
        self._state_bytes = sum(
            len(key) + len(value or b"") for key, value in self._engine.take_changes().state.items()
        )
        self._state_bytes += 2 * orders * (len(b"d") + PAIR_KEY.size + DEVICE_BYTES)
        settled = 2 * orders * SETTLING_PINGS
        records = walk(orders, settled + 2 * pings, seed, rate=30_000.0)
        entries = log(records)
        self._geopy_s, _ = through_geopy(records[-min(len(records), 4 * orders) :])
        self._geopy_sample = min(GEOPY_PINGS, len(records))
        warm = next(
            k for k, entry in enumerate(entries) if entry.kind == PINGS and entry.ms > records["at_ms"][settled]
        )
        self._engine.process(entries[:warm])
        self._engine.take_changes()
        self._entries = entries[warm:]
        self._transitions = 0
        self._taken: dict[int, list[tuple[float, float, int]]] = {ENTRIES_A_CYCLE: [], 1: []}

    def drive(self, step: int, slice_: int) -> None:
        """Time one slice in batches of `step` entries: large ones in the first half of the pings, single ones after."""
        half, cut = len(self._entries) // 2, SLICES
        first = 0 if step > 1 else half
        begin, end = (first + round(half * k / cut) for k in (slice_, slice_ + 1))
        part = self._entries[begin:end]
        before, taking = self._engine.records_total, 0.0
        begun = time.process_time()
        for k in range(0, len(part), step):
            self._transitions += len(self._engine.process(part[k : k + step]))
            if k // step % max(1, 25 * ENTRIES_A_CYCLE // step // 20) == 0:
                mark = time.process_time()
                self._engine.take_changes()
                taking += time.process_time() - mark
        took = time.process_time() - begun - taking
        self._taken[step].append((took, taking, self._engine.records_total - before))

    def _cost_s(self, step: int) -> float:
        """Seconds a ping, the middle of the slices."""
        return statistics.median(took / count for took, _, count in self._taken[step])

    def figures(self) -> dict[str, Any]:
        """What was timed."""
        begun, bare_pings = time.process_time(), 0
        for entry in self._entries[len(self._entries) // 2 :]:
            if entry.kind == PINGS:
                bare = unpack_records(entry.payload)
                to_vectors(bare["lat"], bare["lon"])
                bare_pings += len(bare)
        bare_s = (time.process_time() - begun) / bare_pings
        large_s, small_s = self._cost_s(ENTRIES_A_CYCLE), self._cost_s(1)
        large = sum(count for _, _, count in self._taken[ENTRIES_A_CYCLE])
        taking_s = sum(taking for _, taking, _ in self._taken[ENTRIES_A_CYCLE])
        return {
            "orders": self.orders,
            "pings": large,
            "pings_per_s": round(1 / large_s),
            "microseconds_a_ping": round(large_s * 1e6, 2),
            "take_changes_microseconds_a_ping": round(taking_s / large * 1e6, 2),
            "small_batch_pings": sum(count for _, _, count in self._taken[1]),
            "small_batch_pings_per_s": round(1 / small_s),
            "small_batch_microseconds_a_ping": round(small_s * 1e6, 2),
            "geopy_pings_per_s": round(1 / self._geopy_s),
            "geopy_sample": self._geopy_sample,
            "times_geopy": round(self._geopy_s / large_s, 1),
            "bare_small_batch_pings_per_s": round(1 / bare_s),
            "small_batch_cost_to_bare": round(small_s / bare_s, 1),
            "state_bytes_a_device": round(self._state_bytes / (2 * self.orders)),
            "configuration_s": round(self._configured_s, 2),
            "transitions": self._transitions,
        }


def measure_all(sizes: Sequence[int], pings: int, seed: int) -> dict[str, dict[str, Any]]:
    """Figures by number of orders. The sizes take turns, slice by slice: what slows the machine for a while slows all
    of them, so that how flat the cost is does not depend on when each was measured.
    """
    engines = [Sized(orders, pings, seed) for orders in sizes]
    for step in (ENTRIES_A_CYCLE, 1):
        for slice_ in range(SLICES):
            for engine in engines:
                engine.drive(step, slice_)
    return {str(engine.orders): engine.figures() for engine in engines}


def measure_shards(pings: int, seed: int) -> dict[str, Any]:
    """A worker's eight shards with ten records each a cycle: one batch in a hall, beside eight batches, by turns."""
    takes = {"together": _Shards(Hall(SHARDS), pings, seed), "apart": _Shards(None, pings, seed)}
    costs: dict[str, list[float]] = {name: [] for name in takes}
    for slice_ in range(SLICES):
        for name, shards in takes.items():
            costs[name].append(shards.drive(slice_))
    together, apart = (statistics.median(costs[name]) for name in ("together", "apart"))
    return {
        "shards": SHARDS,
        "records_a_shard": SHARD_RECORDS,
        "together_pings_per_s": round(1 / together),
        "apart_pings_per_s": round(1 / apart),
        "times": round(apart / together, 2),
    }


class _Shards:
    """Engines of as many shards, in a hall or each by itself, and the same entries for all."""

    def __init__(self, hall: Hall | None, pings: int, seed: int) -> None:
        self._engines = [Engine(shard, hall=hall) for shard in range(SHARDS)]
        self._together = hall is not None
        payload = encode_cases(list(cases(SHARD_ORDERS)))
        settled = 2 * SHARD_ORDERS * SETTLING_PINGS
        records = walk(SHARD_ORDERS, settled + pings // SHARDS, seed, rate=1_000.0)
        parts = [records[k : k + SHARD_RECORDS] for k in range(0, len(records), SHARD_RECORDS)]
        self._entries = [Entry(int(part["at_ms"][-1]), k, PINGS, part.tobytes()) for k, part in enumerate(parts)]
        warm = settled // SHARD_RECORDS
        for engine in self._engines:
            engine.process([Entry(START_MS, 0, CONFIGURATION, payload), *self._entries[:warm]])
        self._entries = self._entries[warm:]

    def drive(self, slice_: int) -> float:
        """Seconds a ping of one slice."""
        begin, end = (round(len(self._entries) * k / SLICES) for k in (slice_, slice_ + 1))
        begun = time.process_time()
        for entry in self._entries[begin:end]:
            if self._together:
                process_together([(engine, [entry]) for engine in self._engines])
            else:
                for engine in self._engines:
                    engine.process([entry])
        return (time.process_time() - begun) / ((end - begin) * SHARDS * SHARD_RECORDS)


if __name__ == "__main__":
    measured = measure_all(ORDERS, 300_000, 1)
    for each in measured.values():
        print(json.dumps(each))
    print(json.dumps({"flatness": flatness(measured), "eight_shards": measure_shards(24_000, 1)}))
