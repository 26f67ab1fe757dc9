"""The rules of the house that a machine can hold."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from api.live.audience import AUDIENCE

ROOT = Path(__file__).parents[2]
PACKAGES = ("core", "geo", "notifier", "api", "device_sim", "infra")
MAX_LINES = 400


def sources() -> Iterator[Path]:
    """Every Python file of the packages."""
    for package in PACKAGES:
        yield from (path for path in (ROOT / package).rglob("*.py") if "node_modules" not in path.parts)


def tracked() -> list[Path]:
    """Every file git tracks, else (in an unpacked archive) every file of the packages."""
    result = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        return list(sources())
    return [ROOT / name for name in result.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_only_the_clock_reads_the_wall_clock() -> None:
    reading = re.compile(r"datetime\.(now|utcnow|today)\(|date\.today\(")
    offenders = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sources()
        if path != ROOT / "core/clock.py" and path.parts[-2] != "device_sim"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if reading.search(line)
    ]
    assert not offenders, f"take `now` or a clock as a parameter instead: {offenders}"


def test_sql_lives_only_in_core_postgres() -> None:
    statement = re.compile(
        r"\b(SELECT\s.+\sFROM|INSERT\s+INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM|COPY\s+\w+\s+FROM)\b", re.DOTALL
    )
    allowed = {ROOT / "infra/embedded.py"}
    offenders = []
    for path in sources():
        if (ROOT / "core/postgres") in path.parents or path in allowed:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and statement.search(node.value):
                offenders.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not offenders, f"move these statements to core/postgres: {offenders}"


def test_no_python_file_grows_past_its_bound() -> None:
    long = {str(p.relative_to(ROOT)): n for p in sources() if (n := len(p.read_text().splitlines())) > MAX_LINES}
    assert not long, f"ask what second thing lives there: {long}"


def test_every_package_says_what_it_is() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in sources()
        if path.name == "__init__.py" and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent, f"no docstring: {silent}"


def test_no_bucket_is_named_utils() -> None:
    buckets = [str(p.relative_to(ROOT)) for p in sources() if p.stem in {"utils", "util", "common", "helpers", "misc"}]
    assert not buckets


def test_the_lock_pins_hashes_and_names_no_registry() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "--hash=sha256:" in lock
    assert not re.search(r"https?://|index-url|find-links", lock)


def test_no_tracked_file_names_a_registry_or_a_machine() -> None:
    registry = re.compile(
        r"(pypi|npmjs|files\.pythonhosted|crates)\.(org|io)|registry\.(npmjs|yarnpkg)|/(root|home)/\w"
    )
    offenders = []
    for path in tracked():
        if path.suffix in {".png", ".jpg", ".ico", ".woff2"} or path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if registry.search(line):
                offenders.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert not offenders, offenders


def test_imports_point_one_way() -> None:
    result = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_top_level_holds_only_what_was_agreed() -> None:
    agreed = {*PACKAGES, "tests", "docs", ".ci"}
    found = {path.relative_to(ROOT).parts[0] for path in tracked() if len(path.relative_to(ROOT).parts) > 1}
    assert found <= agreed, f"unexpected folders: {found - agreed}"


def test_reference_pages_are_what_the_code_says() -> None:
    from infra.reference import DOCS, pages

    for name, text in pages().items():
        assert (DOCS / name).read_text() == text, f"docs/reference/{name} is stale: run python -m infra.reference"


def test_every_feed_event_is_documented() -> None:
    documented = set(re.findall(r"^\| `([a-z_.]+)` \|", (ROOT / "docs/event-flow.md").read_text(), re.MULTILINE))
    emitted: set[str] = set()
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "emit":
                emitted |= {
                    argument.value
                    for argument in node.args
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str) and "." in argument.value
                }
    assert emitted, "no emitted event was found; has `emit` a new name?"
    assert emitted <= documented, f"add to docs/event-flow.md: {emitted - documented}"
    assert emitted <= AUDIENCE.keys(), f"say in api/live/audience.py who hears: {emitted - AUDIENCE.keys()}"


def test_links_in_the_documents_lead_somewhere() -> None:
    broken = []
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)?", page.read_text()):
            if not target.startswith("http") and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)} → {target}")
    assert not broken, broken


@pytest.mark.parametrize("target", ["api", "ingest", "geo", "historian", "notifier"])
def test_compose_runs_every_target(target: str) -> None:
    services = yaml.safe_load((ROOT / "infra/compose.yaml").read_text())["services"]
    assert services[target]["command"][-1] == target
    assert services[target]["read_only"] is True
    assert "migrate" in services[target]["depends_on"]


def test_containers_do_not_run_as_root() -> None:
    lines = (ROOT / "infra/Dockerfile").read_text().splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users
    assert users[-1] not in {"root", "0"}
    assert "--require-hashes" in (ROOT / "infra/Dockerfile").read_text()


def test_prometheus_scrapes_every_target() -> None:
    configuration = yaml.safe_load((ROOT / "infra/prometheus/prometheus.yml").read_text())
    hosts = {
        t.split(":")[0] for job in configuration["scrape_configs"] for s in job["static_configs"] for t in s["targets"]
    }
    assert hosts == {"api", "ingest", "geo", "historian", "notifier"}
