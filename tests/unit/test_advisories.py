"""What a look-up of known weaknesses comes to."""

from __future__ import annotations

import json

from infra.advisories import verdict

SOUND = {"name": "sound", "version": "1.0", "vulns": []}
UNKNOWN = {"name": "ours", "skip_reason": "not found"}
WEAK = {"name": "weak", "version": "0.9", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.0"]}]}


def report(*dependencies: object) -> str:
    return json.dumps({"dependencies": dependencies, "fixes": []})


def test_a_known_weakness_fails_and_says_what_mends_it() -> None:
    assert verdict(report(SOUND, WEAK)) == (1, ["weak 0.9: PYSEC-1; mended in 1.0"])


def test_none_known_passes_and_says_how_much_was_looked_up() -> None:
    assert verdict(report(SOUND, UNKNOWN)) == (0, ["No known weaknesses in 1 pinned packages; 1 it does not know."])


def test_nobody_to_ask_is_told_and_is_no_failure() -> None:
    assert verdict("") == (0, ["The advisory service cannot be reached from here; nothing was looked up."])
    assert verdict(report(UNKNOWN))[0] == 0
