"""Known weaknesses of the pinned dependencies, looked up where the advisory service can be reached.

A look-up that could not be made is told and is no failure: the check must not decide by whether a network is there.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

LOCK: Final = Path("requirements.lock")
PATIENCE_S: Final = 60.0


def verdict(report: str) -> tuple[int, list[str]]:
    """Exit status and lines to print for a report of the tool (JSON); anything else is no answer."""
    try:
        dependencies: list[dict[str, Any]] = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return 0, ["The advisory service cannot be reached from here; nothing was looked up."]
    unknown = [entry["name"] for entry in dependencies if "skip_reason" in entry]
    weak = [
        f"{entry['name']} {entry['version']}: {weakness['id']}; mended in {', '.join(weakness['fix_versions']) or '?'}"
        for entry in dependencies
        for weakness in entry.get("vulns", [])
    ]
    if weak:
        return 1, weak
    looked_up = len(dependencies) - len(unknown)
    if not looked_up:
        return 0, ["The advisory service knows none of what is pinned; nothing was looked up."]
    rest = f"; {len(unknown)} it does not know" if unknown else ""
    return 0, [f"No known weaknesses in {looked_up} pinned packages{rest}."]


def main() -> int:
    """0: none known, or nobody to ask; 1: some, which are printed."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(LOCK), "--disable-pip", "--no-deps"]
    try:
        done = subprocess.run(
            [*command, "--format", "json", "--progress-spinner", "off", "--timeout", "5"],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        report = done.stdout
    except subprocess.TimeoutExpired:
        report = ""
    status, lines = verdict(report)
    print("\n".join(lines))
    return status


if __name__ == "__main__":
    sys.exit(main())
