"""The command as a person meets it: what it prints, how it fails, what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

QORGAN = str(Path(sys.executable).parent / "qorgan")


def call(environment: dict[str, str], *arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [QORGAN, *arguments], env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
    )


def assert_one_clear_line(result: subprocess.CompletedProcess[str], *words: str) -> None:
    """Status 1 and one line on standard error that has the words."""
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert result.returncode == 1, (result.returncode, result.stdout, result.stderr)
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("qorgan: ")
    for word in words:
        assert word in lines[0], lines[0]


def test_help_names_every_command(folder: Path, child_environment: Any) -> None:
    result = call(child_environment(folder, None), "--help")
    assert result.returncode == 0
    for command in ("demo", "run", "migrate", "seed", "watch", "sim", "replay", "bench", "user"):
        assert command in result.stdout


def test_wrong_usage_is_status_two(folder: Path, child_environment: Any) -> None:
    environment = child_environment(folder, None)
    assert call(environment, "seed").returncode == 2
    assert call(environment, "run", "--only", "nonsense").returncode == 2
    assert call(environment, "bench", "nonsense").returncode == 2


def test_an_unknown_scenario_is_named_with_those_there_are(folder: Path, child_environment: Any) -> None:
    result = call(child_environment(folder, None), "sim", "play", "no_such_story")
    assert_one_clear_line(result, "no_such_story", "drive_past")


def test_an_unwritable_data_directory_is_told_in_one_line(folder: Path, child_environment: Any) -> None:
    blocked = folder / "a file"
    blocked.write_text("")
    assert_one_clear_line(call(child_environment(blocked / "data", None), "run"), "QORGAN_DATA_DIR")


def test_a_store_that_is_not_there_is_told_in_one_line(folder: Path, child_environment: Any) -> None:
    environment = child_environment(
        folder,
        None,
        QORGAN_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none",
        QORGAN_REDIS_URL="redis://127.0.0.1:1",
    )
    assert_one_clear_line(call(environment, "run"), "PostgreSQL")
    assert_one_clear_line(call(environment, "seed", "--pairs", "1", "--out", str(folder / "s.json")), "PostgreSQL")


def test_a_wrong_setting_is_told_in_one_line(folder: Path, child_environment: Any) -> None:
    result = call(child_environment(folder, None, QORGAN_SHARD_COUNT="many"), "migrate")
    assert_one_clear_line(result, "QORGAN_SHARD_COUNT")


def test_a_busy_port_is_told_in_one_line_and_nothing_is_left_running(
    folder: Path, child_environment: Any, stores: Any, database_url: str
) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        environment = child_environment(
            folder, None, QORGAN_DATABASE_URL=database_url, QORGAN_REDIS_URL=stores.redis_url, QORGAN_SHARD_COUNT="4"
        )
        result = call(environment, "run", "--only", "api", "--port", str(port))
    assert_one_clear_line(result, f"Port {port}", "--port")


def test_replay_prints_a_line_a_transition(folder: Path, child_environment: Any) -> None:
    orders = folder / "orders.json"
    orders.write_text(json.dumps([{"order_id": "o", "victim_id": "v", "aggressor_id": "a", "alert_m": 500}]))
    pings = folder / "pings.ndjson"
    lines = [
        {
            "person_id": person,
            "at": f"2026-01-01T00:{minute:02}:00Z",
            "received_at": f"2026-01-01T00:{minute:02}:01Z",
            "lat": 43.2 + (0.0 if person == "v" else max(0, 5 - minute) * 0.01),
            "lon": 76.9,
            "accuracy_m": 10,
        }
        for minute in range(6)
        for person in ("v", "a")
    ]
    pings.write_text("\n".join(map(json.dumps, lines)))
    result = call(child_environment(folder, None), "replay", "--orders", str(orders), "--pings", str(pings))
    assert result.returncode == 0, result.stderr
    transitions = [json.loads(line) for line in result.stdout.splitlines()]
    breaches = [t for t in transitions if t["kind"] == "proximity" and t["to"] == "breach"]
    assert len(breaches) == 1
    assert breaches[0]["order_id"] == "o"
    assert breaches[0]["evaluated_at"].startswith("2026-01-01T00:0")


def test_replay_of_a_broken_file_says_where(folder: Path, child_environment: Any) -> None:
    orders, pings = folder / "orders.json", folder / "pings.ndjson"
    orders.write_text(json.dumps([{"order_id": "o", "victim_id": "v", "aggressor_id": "a", "alert_m": 500}]))
    pings.write_text('{"person_id": "v"\n')
    result = call(child_environment(folder, None), "replay", "--orders", str(orders), "--pings", str(pings))
    assert_one_clear_line(result, "pings.ndjson", "1")


@pytest.mark.timeout(240)
def test_the_demo_shows_a_breach_and_a_panic_and_stops_cleanly_twice(folder: Path, child_environment: Any) -> None:
    for _ in range(2):
        output = folder / "demo.txt"
        with output.open("wb") as file:
            demo = subprocess.Popen(
                [QORGAN, "demo"], env=child_environment(folder / "data", None), stdout=file, stderr=file
            )
        try:
            deadline = time.monotonic() + 100
            while True:
                text = output.read_text()
                near = re.search(r"(opened|updated).*proximity", text)
                if near and re.search(r"opened.*panic", text) and "told" in text:
                    break
                assert demo.poll() is None, text
                assert time.monotonic() < deadline, f"no breach and panic within 100 s:\n{text}"
                time.sleep(0.2)
            assert re.search(r"http://127\.0\.0\.1:\d+/console/", text)
            assert "password" in text
        finally:
            demo.send_signal(signal.SIGINT)
            try:
                status = demo.wait(40)
            except subprocess.TimeoutExpired:
                demo.kill()
                raise
        assert status == 0, output.read_text()
        assert "Everything is stopped" in output.read_text()
        left = [name for name in os.listdir("/proc") if name.isdigit() and str(folder).encode() in _command_line(name)]
        assert not left, f"processes are left: {left}"


def _command_line(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_an_interrupted_simulation_ends_cleanly(folder: Path, child_environment: Any) -> None:
    world = {
        "base_url": "http://127.0.0.1:9",
        "stream_url": "ws://127.0.0.1:9/v1/pings/stream",
        "pairs": [{role: {"device_id": role, "token": "qd_none"} for role in ("victim", "aggressor")}],
    }
    (folder / "seed.json").write_text(json.dumps(world))
    process = subprocess.Popen(
        [QORGAN, "sim", "play", "loiter", "--seed", str(folder / "seed.json")],
        env=child_environment(folder, None), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline().startswith("loiter")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
