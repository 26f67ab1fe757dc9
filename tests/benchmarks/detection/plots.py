"""Plots of the evaluation as SVG: readable on light and dark ground, the same bytes for the same figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.benchmarks.detection.peers import TITLES

Json = dict[str, Any]

TEXT: Final = "#767676"
"""Grey of nearly the same contrast on white and on black: 4.5 and 4.6."""
OURS: Final = "#2f81d0"
OURS_TOO: Final = "#7fb2e5"
PEERS: Final = {"plain": "#d9822b", "crossing": "#b5533c", "square": "#c9a227", "square once": "#8a6fb8"}
AIM_A_PAIR_DAY: Final = 0.1
FLOOR_A_PAIR_DAY: Final = 0.01
"""Where the logarithmic scale begins: less has no bar, only its number."""
STYLE: Final = {
    "svg.hashsalt": "qorgan",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": TEXT,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "grid.color": TEXT,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
}

ALT: Final = {
    "delay": "Share of moving approaches told as a breach by so many seconds after the true entry, by rule.",
    "lead": "Share of moving approaches warned or predicted at least so many seconds before the true entry.",
    "false": "False alarms a pair-day by how far apart the homes are, for Qorgan and for the naive rules.",
    "curve": "Full success over the scripted approaches against false dispatcher incidents a pair-day, by p_enter.",
}
"""What each plot shows, for those who do not see it."""


def draw(result: Json, folder: Path) -> list[Path]:
    """Write every plot into `folder`; their paths."""
    out = []
    for name, plot in PLOTS.items():
        with _axes(folder / f"{name}.svg") as axes:
            plot(result, axes)
        out.append(folder / f"{name}.svg")
    return out


@contextmanager
def _axes(path: Path) -> Iterator[Axes]:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.0), layout="constrained")
        axes = figure.add_subplot()
        axes.grid(visible=True)
        axes.set_axisbelow(True)
        yield axes
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _delay(result: Json, axes: Axes) -> None:
    shares = np.arange(101) / 100
    approaches = result["approaches"]
    rules = {"Qorgan": (approaches["ours"], OURS, 2.4)}
    rules |= {
        TITLES[rule]: (approaches["peers"][rule], PEERS[rule], 1.3) for rule in ("plain", "crossing", "square once")
    }
    for title, (figures, colour, width) in rules.items():
        told = figures["told_share"]
        if figures["delay_s"]:
            axes.plot(figures["delay_s"], 100 * told * shares, color=colour, linewidth=width, label=title)
    axes.axvline(0, color=TEXT, linewidth=0.8)
    axes.set_xlim(-180, 300)
    axes.set_ylim(0, 101)
    axes.set_xlabel("seconds from true entry to the breach being told")
    axes.set_ylabel("of moving approaches, %")
    axes.legend(loc="lower right")


def _lead(result: Json, axes: Axes) -> None:
    figures = result["approaches"]["ours"]
    share = figures["moving"]["warned_share"] or 0.0
    if figures["lead_s"]:
        at_least = 100 * share * (1 - np.arange(101) / 100)
        axes.plot(np.asarray(figures["lead_s"]) / 60, at_least, color=OURS, linewidth=2.4)
        median = figures["lead_s"][50] / 60
        axes.axvline(median, color=TEXT, linewidth=0.8, linestyle="--")
        axes.annotate(f"median {median:.1f} min", (median, 4), xytext=(4, 0), textcoords="offset points")
    axes.axhline(80, color=TEXT, linewidth=0.8, linestyle=":")
    axes.annotate(
        "aim: 80 % before entry",
        (1, 80),
        xytext=(-4, 4),
        xycoords=axes.get_yaxis_transform(),
        textcoords="offset points",
        ha="right",
    )
    axes.set_xlim(left=0)
    axes.set_ylim(0, 101)
    axes.set_xlabel("minutes from warning or prediction to true entry, at least")
    axes.set_ylabel("of moving approaches, %")


def _false(result: Json, axes: Axes) -> None:
    bands = list(result["lives"]["asked"]["bands"])
    series: list[tuple[str, str, Callable[[str], float]]] = [
        ("Qorgan, intervals asked", OURS, lambda band: _ours(result, "asked", band)),
        ("Qorgan, fixed 60 s", OURS_TOO, lambda band: _ours(result, "fixed", band)),
    ]
    for rule in ("plain", "crossing", "square once"):
        series.append((TITLES[rule], PEERS[rule], lambda band, rule=rule: _theirs(result, rule, band)))  # type: ignore[misc]
    width = 0.8 / len(series)
    for k, (title, colour, value) in enumerate(series):
        values = [value(band) for band in bands]
        at = np.arange(len(bands)) - 0.4 + width * (k + 0.5)
        heights = [max(each - FLOOR_A_PAIR_DAY, 0.0) for each in values]
        axes.bar(at, heights, width * 0.92, bottom=FLOOR_A_PAIR_DAY, color=colour, label=title)
        for x, each in zip(at, values, strict=True):
            axes.annotate(f"{each:.2g}", (x, max(each, FLOOR_A_PAIR_DAY)), xytext=(0, 2),
                          textcoords="offset points", ha="center", fontsize=7.5)  # fmt: skip
    axes.axhline(AIM_A_PAIR_DAY, color=TEXT, linewidth=0.8, linestyle=":")
    axes.annotate("aim: 0.1", (len(bands) - 0.5, AIM_A_PAIR_DAY), xytext=(0, 3), textcoords="offset points", ha="right")
    axes.set_yscale("log")
    axes.set_ylim(FLOOR_A_PAIR_DAY, None)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xticks(np.arange(len(bands)), [f"homes {band} apart" for band in bands])
    axes.set_ylabel("false alarms a pair-day")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=8)


def _curve(result: Json, axes: Axes) -> None:
    points = result["curve"]["points"]
    x = [point["false_a_pair_day"] for point in points]
    y = [100 * point["full"] for point in points]
    axes.plot(x, y, color=OURS, linewidth=1.4, marker="o", markersize=5)
    for point, a, b in zip(points, x, y, strict=True):
        axes.annotate(f"{point['p_enter']:g}", (a, b), xytext=(4, -11), textcoords="offset points", fontsize=8)
    axes.set_xlim(left=0)
    axes.set_xlabel("false dispatcher incidents a pair-day (devices at 60 s)")
    axes.set_ylabel("full success over all scripts, %")
    axes.set_title("by p_enter, on the half of the seeds used to choose", fontsize=10)


def _ours(result: Json, loop: str, band: str) -> float:
    figures = result["lives"][loop]["bands"][band]
    return float(sum(figures["dispatcher"].values()) / figures["pair_days"])


def _theirs(result: Json, rule: str, band: str) -> float:
    figures = result["lives"]["fixed"]["bands"][band]
    return float(figures["peers"][rule] / figures["pair_days"])


PLOTS: Final[dict[str, Callable[[Json, Axes], None]]] = {
    "delay": _delay,
    "lead": _lead,
    "false": _false,
    "curve": _curve,
}
