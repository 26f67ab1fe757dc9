"""A real breach, exported: editions hold one root, verify alone, replay to the same; the defence's betrays nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from core.actions import evidence_exports
from core.actions.sealing import Notary, seal
from core.checkpoints import CheckpointFiles
from core.clock import utc_now
from core.evidence import verify
from core.postgres import audit, evidence, evidence_keep, incidents
from core.signing import new_signer
from geo import evidence_keeper, evidence_log, evidence_replay

from .conftest import metres_from_home

pytestmark = pytest.mark.timeout(300)  # three hours of a life are lived first


@pytest.fixture
async def made(lived: Any) -> tuple[Any, Any, dict[str, bytes]]:
    """(what was lived, the signer, the editions)."""
    await evidence_keeper.keep(lived.posts.worker, lived.incident_id, utc_now(), asked=True)
    signer = new_signer()
    async with lived.database.transaction() as connection:
        await audit.write(
            connection, utc_now(), agency_id=lived.agency_id, actor_kind="user", actor_id=uuid.uuid4(),
            action="incident.read", subject_kind="incident", subject_id=lived.incident_id,
        )  # fmt: skip
        said = {"note": "Соседка по адресу ул. Тайная 7 видела его", "what": "note"}
        line = (uuid.uuid4(), lived.incident_id, utc_now(), "note", None, said)
        resolved = (uuid.uuid4(), lived.incident_id, utc_now(), "resolve", None, {**said, "outcome": "warned"})
        await incidents.add_lines(connection, [line, resolved])
    await seal(lived.database, utc_now())
    await Notary(lived.database, CheckpointFiles(lived.settings.data_dir / "points"), signer, utc_now).sign()
    _, editions = await evidence_exports.make_now(lived.database, lived.incident_id, "a test", signer, utc_now())
    return lived, signer, editions


def stored(decisions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{n: v for n, v in each.items() if n not in ("at", "evaluated_at", "incident_id")} for each in decisions]


async def test_bundles_of_a_real_breach(made: Any, tmp_path: Path) -> None:
    lived, signer, editions = made
    for name, data in editions.items():
        (tmp_path / f"{name}.zip").write_bytes(data)
    court = verify.read_archive(editions["court"])
    (tmp_path / "verify.py").write_bytes(court["verify.py"])
    (tmp_path / "key.pem").write_text(signer.public_key_pem)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "verify.py", "court.zip", "defence.zip", "subject.zip", "--public-key", "key.pem"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "audit: 2 of 3 rows lead to 1 checkpoints signed by this key" in done.stdout, "the newest is not linked yet"
    no_file_can_be_changed(editions, signer.public_key_bytes)
    await keeps_what_history_forgets(lived)
    replays_to_the_same(court)
    says_what_happened(court)
    betrays_nothing(verify.read_archive(editions["defence"]), court, lived)
    holds_his_own_alone(verify.read_archive(editions["subject"]))
    first = await evidence_exports.latest(lived.database, lived.incident_id, utc_now())
    assert first is not None
    assert first[1] == editions, "what is fetched later is what was made"


def no_file_can_be_changed(editions: dict[str, bytes], public_key: bytes) -> None:
    """One bit anywhere in any file of any edition, with the archive written anew around it or not."""
    for data in editions.values():
        for path, content in verify.read_archive(data).items():
            at = data.index(path.encode()) + len(path)
            spoiled = bytearray(data)
            spoiled[at + len(content) // 2] ^= 0x10
            with pytest.raises(verify.Broken):
                verify.check(bytes(spoiled), public_key)
            files = verify.read_archive(data)
            files[path] = content[:-1] + bytes([content[-1] ^ 0x10])
            with pytest.raises(verify.Broken):
                verify.check(verify.archive_bytes(files), public_key)


async def keeps_what_history_forgets(lived: Any) -> None:
    """Once copied, an incident's fixes and snapshot do not need history any more."""
    async with lived.database.connection() as connection:
        about = await evidence.parties_of(connection, lived.incident_id, utc_now())
        assert about is not None
        before = await evidence.fixes_of(connection, about)
        await connection.execute("TRUNCATE ping, ping_heard, shard_tick, case_past")
        assert await evidence.fixes_of(connection, about) == before
        kept = await evidence_keep.snapshot_of(connection, lived.incident_id)
    assert kept is not None
    assert {fix.party for fix in before} == {"victim", "aggressor"}
    assert all(fix.place is not None for fix in before)
    assert kept["replay"]["ticks"] == kept["replay"]["configuration"] == "recorded"


def replays_to_the_same(court: dict[str, bytes]) -> None:
    recorded = stored(json.loads(court["court/decisions.json"]))
    decided, differences = evidence_replay.again(court["court/log.ndjson"], recorded)
    assert decided == len(recorded) >= 4
    assert differences == []
    ids = {str(each.id) for each in evidence_replay.run(evidence_log.read(court["court/log.ndjson"]))}
    assert {each["id"] for each in recorded} <= ids, "the very ids"
    assert json.loads(court["common/replay.json"])["identical"] is True


def says_what_happened(court: dict[str, bytes]) -> None:
    decisions = json.loads(court["court/decisions.json"])
    ways = [each["to_state"] for each in decisions if each["kind"] == "proximity"]
    assert ways[-3:] == ["breach", "warning", "clear"]
    assert json.loads(court["court/identities.json"])["victim"]["name"] == "Әсем Үлгібай"
    gaps = json.loads(court["common/gaps.json"])
    assert [gap["seconds"] // 60 for gap in gaps["victim"]] == [6]
    assert gaps["aggressor"] == []
    assert all(court[f"court/report.{language}.pdf"].startswith(b"%PDF") for language in ("kk", "ru", "en"))
    rules = json.loads(court["court/rules.json"])
    assert rules[-1]["alert_m"] == 500.0
    assert "Тайная" in court["court/timeline.json"].decode()
    gpx = court["his/track.gpx"].decode()
    assert gpx.count("<trkpt") == sum("lat" in fix for fix in json.loads(court["his/fixes.json"]))
    facts = {fact["code"] for fact in json.loads(court["common/facts.json"])}
    assert "alert_wider" in facts


def betrays_nothing(defence: dict[str, bytes], court: dict[str, bytes], lived: Any) -> None:
    """No name, no contact, no undisclosed zone, no position of hers beyond the breach, none near her home."""
    named = json.loads(court["court/identities.json"])["victim"]
    for path, content in defence.items():
        if path == "verify.py":
            continue
        text = content.decode(errors="replace")
        for secret in (named["name"], named["phone"], named["address"], named["person_id"], "sister", "Тайная"):
            assert secret not in text, (path, secret)
    breach = [each for each in json.loads(court["court/decisions.json"]) if each["kind"] == "proximity"]
    entered = next(each for each in breach if each["to_state"] == "breach")
    left = next(each for each in breach if each["from_state"] == "breach")
    hers = json.loads(defence["defence/her_fixes.json"])
    assert hers
    assert all(entered["at"] <= fix["at"] <= left["at"] for fix in hers)
    assert len(hers) < len(json.loads(court["court/her_fixes.json"]))
    shown = json.loads(defence["defence/map.geojson"])["features"]
    points = [each["geometry"]["coordinates"] for each in shown if each["properties"].get("party") == "victim"]
    places = [(fix["lat"], fix["lon"]) for fix in hers] + [(p[1], p[0]) for p in points if isinstance(p[0], float)]
    assert len(places) == 2 * len(hers)
    assert min(metres_from_home(*place) for place in places) > 300
    assert not any(each["kind"] == "zone" for each in json.loads(defence["common/decisions.json"]))
    assert json.loads(defence["common/zones.json"]) == []
    for each in json.loads(defence["common/decisions.json"]):
        if each["kind"] != "proximity" or each["to_state"] != "breach":
            assert "distance_m" not in each
            assert "victim_position" not in each


def holds_his_own_alone(subject: dict[str, bytes]) -> None:
    assert set(subject) - set(verify.HEAD) == {
        "README.txt", "verify.py", "his/fixes.json", "his/devices.json", "his/track.geojson", "his/track.gpx",
    }  # fmt: skip
