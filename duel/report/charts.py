"""Inline SVG charts whose colours are the page's CSS variables, so that they follow light and dark mode.

First a named tuple of what is to be shown, then the drawing.
"""

import io
import re
from collections.abc import Callable
from functools import partial
from html import escape
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from duel.report.run_files import RunFiles

# matplotlib wants colours, the page wants variables: each of these stands for one, and is replaced in the
# SVG.
INK, MUTED, GRID, SURFACE = "#010201", "#010202", "#010203", "#010204"
SERIES = [f"#0103{i:02x}" for i in range(1, 7)]
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--line", SURFACE: "--surface"} | {
    color: f"--series-{i}" for i, color in enumerate(SERIES, 1)
}
WIDTH, HEIGHT = 4.9, 3.6  # inches of 72 units: on a phone the chart then keeps letters of 9 pixels or more
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # letters stay text: small, searchable, in the page's own font
    "text.parse_math": False,  # a "$" in a name is a dollar
    "font.size": 10, "text.color": INK, "axes.labelcolor": MUTED, "axes.edgecolor": GRID,
    "xtick.color": GRID, "ytick.color": GRID, "xtick.labelcolor": MUTED, "ytick.labelcolor": MUTED,
    "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.7, "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    "xtick.major.size": 0, "ytick.major.size": 0, "legend.frameon": False, "legend.fontsize": 9,
}  # fmt: skip


class Chart(NamedTuple):
    """A drawing: SVG text, safe to put into HTML, its title, and what it says in words."""

    svg: str
    title: str
    caption: str


class Points(NamedTuple):
    """Trials of one side against their objective; failed ones have a place but no score."""

    name: str
    label: str
    trials: pd.DataFrame
    lower_is_better: bool
    yardsticks: list[tuple[str, float]]


def charts(run: RunFiles, side: str) -> list[Chart]:
    """The scatter of a side's trials and the learning curves of its entrants, where there is anything to
    draw."""
    points = _points(run, side)
    curves = _curve_table(points, {name: run.histories.get(name, []) for name in run.names(side)})
    made = []
    if len(points.trials):
        made.append(draw(partial(_scatter, points=points), points.label, f"{side}-trials"))
    if len(curves):
        points = points._replace(trials=curves)
        made.append(draw(partial(_curves, points=points), points.label, f"{side}-curves"))
    return made


def _points(run: RunFiles, side: str) -> Points:
    trials = numbered(run.trials[run.trials["side"] == side])
    if side == "detector":
        return Points("AUC", "AUC on validation images (higher is better)", trials, False, [])
    known = run.info.get("yardsticks") or {}
    named = [("noise", "kid_noise"), ("untrained", "kid_untrained"), ("reals", "kid_reals")]
    yardsticks = [(word, known[key]) for word, key in named if isinstance(known.get(key), int | float)]
    return Points("KID", "KID on validation reals (lower is better)", trials, True, yardsticks)


def numbered(trials: pd.DataFrame) -> pd.DataFrame:
    """trials with their number, from their name where it has one; each season's follow those of the one before."""
    numbers = trials["trial"].str.extract(r"^(?:s\d+)?[a-z]+(\d+)")[0]
    order = pd.Series(range(1, len(trials) + 1), trials.index)
    trials = trials.assign(number=pd.to_numeric(numbers, errors="coerce").fillna(order))
    last = trials.groupby("season")["number"].max()
    return trials.assign(number=trials["number"] + trials["season"].map(last.cumsum() - last))


def _curve_table(points: Points, histories: dict[str, list[dict[str, Any]]]) -> pd.DataFrame:
    """One row a point of a history: trial, family, images, objective, and the trial's final score."""
    trials = points.trials.drop_duplicates("trial").set_index("trial")
    key = points.name.lower()
    rows = [
        (name, trials.at[name, "family"], point.get("images"), point.get(key), trials.at[name, "objective"])
        for name, history in histories.items()
        if name in trials.index
        for point in history
    ]
    table = pd.DataFrame(rows, columns=["trial", "family", "images", "objective", "final"])
    numbers = ["images", "objective", "final"]
    table[numbers] = table[numbers].apply(pd.to_numeric, errors="coerce")
    return table.replace([np.inf, -np.inf], np.nan).dropna()


def _colors(trials: pd.DataFrame) -> dict[str, str]:
    return {family: SERIES[i % len(SERIES)] for i, family in enumerate(sorted(set(trials["family"])))}


def _scatter(axes: Axes, points: Points) -> str:
    """Objective against trial number; failed trials as crosses on the axis' worse edge, which keeps the
    scale."""
    trials, failed = points.trials, points.trials["status"] == "failed"
    colors = _colors(trials)
    edge = 1.0 if points.lower_is_better else 0.0
    for (family, status), group in trials.groupby(["family", "status"]):
        off = status == "failed"
        axes.scatter(
            group["number"],
            np.full(len(group), edge) if off else group["objective"],
            transform=axes.get_xaxis_transform() if off else axes.transData,
            clip_on=not off,
            zorder=3,
            **_mark(str(status), colors[str(family)]),
        )
    for family, color in colors.items():
        axes.scatter([], [], label=family, **_mark("finished", color))
    for status in sorted(set(trials["status"]) - {"finished"}):
        axes.scatter([], [], label=status, **_mark(status, MUTED))
    scored = trials[~failed].dropna(subset="objective")
    _yardsticks(axes, points)
    _best(axes, scored, points, "number")
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    best = f" The best is {_extreme(scored, points)['trial']}." if len(scored) else ""
    return f"{points.name} of {len(trials)} trials; {int(failed.sum()) or 'none'} failed.{best}"


def _mark(status: str, color: str) -> dict[str, Any]:
    if status == "failed":
        return {"marker": "X", "s": 52, "facecolors": color, "edgecolors": SURFACE, "linewidths": 0.6}
    hollow = status != "finished"
    return {
        "marker": "o",
        "s": 42,
        "facecolors": SURFACE if hollow else color,
        "edgecolors": color,
        "linewidths": 1.6,
    }


def _curves(axes: Axes, points: Points) -> str:
    """Objective against images trained on; the best entrant's line is heavy and named."""
    table, colors = points.trials, _colors(points.trials)
    ends = table.groupby("trial").tail(1)
    best = str(_extreme(ends, points, "final")["trial"])
    for (name, family), line in table.groupby(["trial", "family"], sort=False):
        axes.plot(
            line["images"],
            line["objective"],
            color=colors[str(family)],
            linewidth=2.8 if name == best else 1.2,
            alpha=1.0 if name == best else 0.6,
            marker="o" if len(line) == 1 else "",
            markersize=4,
            zorder=3 if name == best else 2,
        )
    for family, color in colors.items():
        axes.plot([], [], color=color, linewidth=2, label=family)
    _yardsticks(axes, points)
    _best(axes, ends[ends["trial"] == best], points, "images")
    axes.set_xlabel("images trained on")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k" if value else "0")
    return f"{points.name} of {len(ends)} entrants through training. The heavy line is {best}."


def _extreme(table: pd.DataFrame, points: Points, by: str = "objective") -> pd.Series:
    scores = table[by].to_numpy()
    return table.iloc[int(scores.argmin() if points.lower_is_better else scores.argmax())]


def _best(axes: Axes, table: pd.DataFrame, points: Points, x: str) -> None:
    """Name the best point, on the side where there is room."""
    if not len(table):
        return
    best = _extreme(table, points)
    low, high = axes.get_xlim()
    right = best[x] > (low + high) / 2
    axes.annotate(
        best["trial"],
        (best[x], best["objective"]),
        xytext=(-7 if right else 7, -13 if points.lower_is_better else 8),
        textcoords="offset points",
        ha="right" if right else "left",
        fontweight="bold",
        zorder=4,
    )


def _yardsticks(axes: Axes, points: Points) -> None:
    """Dashed lines at the scores of noise, an untrained generator and reals."""
    axes.margins(x=0.06, y=0.14)
    for word, value in points.yardsticks:
        axes.axhline(value, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=2)
        axes.annotate(
            word, (1, value), xycoords=axes.get_yaxis_transform(), xytext=(0, 3), textcoords="offset points",
            ha="right", color=MUTED, fontsize=9,
        )  # fmt: skip


def draw(paint: Callable[[Axes], str], title: str, salt: str) -> Chart:
    """A chart from what paints its axes and returns its caption; salt tells one drawing's ids from another's."""
    style: Any = STYLE | {"svg.hashsalt": salt}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.subplots()
        caption = paint(axes)
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            loc="outside upper left",
            ncols=4,
            handletextpad=0.4,
            columnspacing=1.2,
            borderpad=0,
        )
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return Chart(_adapted(buffer.getvalue(), caption), title, caption)


def _adapted(svg: str, caption: str) -> str:
    """The drawing as part of a page: no XML header, no repeated ids, variables for colours, words for
    listeners."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # nothing refers to groups, and two charts name them alike
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    for color, variable in VARIABLES.items():
        svg = svg.replace(color, f"var({variable})")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(caption)}" ', 1)
