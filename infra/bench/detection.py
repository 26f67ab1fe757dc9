"""How well the engine detects: scripted approaches and lives lived apart, in processes of their own."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from infra.bench.system import BenchFailed, Tell

ROOT: Final = Path(__file__).parents[2]
MODULE: Final = "tests.benchmarks.detection.report"
"""The evaluation; it needs no store and can be run by itself."""
LAST_LINES: Final = 5
"""Of what a failed evaluation said, told with the failure."""


async def measure_detection(arguments: Sequence[str], tell: Tell) -> dict[str, Any]:
    """Run the evaluation; its figures by name (shares in per cent) and, whole, under `result`.

    Raises BenchFailed outside a source tree, and when the evaluation fails.
    """
    if not ROOT.joinpath(*MODULE.split(".")).with_suffix(".py").is_file():
        raise BenchFailed(f"The evaluation {MODULE} is not in {ROOT}; run this in a clone of the source.")
    tell("the detection: scripted approaches, and pairs that never meet")
    with tempfile.TemporaryDirectory(prefix="qorgan-detection-") as folder:
        path = Path(folder) / "figures.json"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            MODULE,
            *arguments,
            "--json",
            str(path),
            cwd=ROOT,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        said: list[str] = []
        try:
            assert process.stderr is not None
            async for line in process.stderr:
                said.append(line.decode(errors="replace").rstrip())
                tell(f"  {said[-1].strip()}")
            status = await process.wait()
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
        if status != 0:
            raise BenchFailed(f"The evaluation of the detection failed: {' '.join(said[-LAST_LINES:])}")
        result: dict[str, Any] = json.loads(path.read_text())
    figures = {
        aim["name"]: aim["value"] * 100 if aim["unit"] == "share" and aim["value"] is not None else aim["value"]
        for aim in result["aims"]
    }
    return {**figures, "result": result}
