"""The pages say what the figures say, and the same figures make the same bytes."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from infra.bench.report import AIMS
from tests.benchmarks.detection import report
from tests.benchmarks.detection.plots import ALT, PLOTS
from tests.benchmarks.detection.suite import LOITERER, Sizes, evaluate

pytestmark = pytest.mark.xdist_group("detection-report")  # what all look at is worked out once, in a minute
SIZES = Sizes(seeds=1, pairs=2, curve_seeds=1, curve_pairs=1, curve=(0.5,), jobs=1, day_s=900)


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    lines: list[str] = []
    figures, rows = evaluate(SIZES, lines.append, names=[LOITERER])
    assert lines
    assert all(row["true_m"] > row["alert_m"] for row in rows)
    return json.loads(json.dumps(figures))  # type: ignore[no-any-return]


def test_the_same_figures_make_the_same_pages_and_plots(result: dict[str, Any], tmp_path: Path) -> None:
    for name in ("one", "other"):
        report.write(result, tmp_path / name)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(["figures.json", "figures.md", *(f"{plot}.svg" for plot in PLOTS)])
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_plots_are_transparent_drawings_with_alternative_texts(result: dict[str, Any], tmp_path: Path) -> None:
    report.write(result, tmp_path)
    page = (tmp_path / "figures.md").read_text()
    assert {name: text for text, name in re.findall(r"!\[([^\]]+)\]\((\w+)\.svg\)", page)} == ALT
    for name in PLOTS:
        root = ElementTree.parse(tmp_path / f"{name}.svg").getroot()
        assert root.tag.endswith("svg")
        assert "<dc:date>" not in (tmp_path / f"{name}.svg").read_text()


def test_the_page_tells_which_half_of_the_seeds_it_is_of(result: dict[str, Any]) -> None:
    page = report.page(result)
    assert "every figure here but the operating curve is of the odd seeds" in page
    assert report.COMMAND in page


def test_nothing_short_of_all_is_written_as_all() -> None:
    result = report._share(0.9999), report._share(1.0), report._share(0.0001), report._share(0.0)
    assert result == ("99.9 %", "100.0 %", "< 0.1 %", "0.0 %")


def test_an_aim_missed_is_said_to_be_missed(result: dict[str, Any]) -> None:
    worse = json.loads(json.dumps(result))
    worse["approaches"]["ours"]["all"]["full"] = 0.9999
    aims = {aim["name"]: aim for aim in report.aims(worse)}
    assert aims["full"]["holds"] is False
    assert "**missed**" in report.page(worse)


def test_the_benchmark_asks_only_for_figures_that_there_are(result: dict[str, Any]) -> None:
    asked = {aim.path[2] for aim in AIMS if aim.path[:2] == ("detect", "evaluation")}
    assert asked == {aim["name"] for aim in report.aims(result)}
