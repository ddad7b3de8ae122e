"""The race between the seasons: who does how well against whom, with the controls, as tables, a chart and words."""

from functools import partial
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes

from duel.report.charts import INK, SERIES, Chart, draw
from duel.report.generalisation import HeatTable
from duel.report.race_words import CONTROLS, race_words
from duel.report.run_files import RunFiles, records
from duel.report.tables import Heat, decimal, heat, percent
from duel.rules.match import SIDES
from duel.rules.standings import race

COLORS = {"generator": SERIES[1], "detector": SERIES[0]}  # near to the sides' colours in the matrices
PLACES = {"generator": -0.07, "detector": 0.07}  # beside each other, so that both can be read


class Race(NamedTuple):
    """The section: sentences, the matrix (rows are detectors' seasons, columns generators'), the chart of ratings, and
    KIDs as (generators, how many, mean, best)."""

    words: list[str]
    matrix: HeatTable
    chart: Chart
    kids: list[tuple[str, str, str, str]]


def race_of(run: RunFiles) -> Race | None:
    """The race, where more than one season has entrants."""
    if len(run.seasons) < 2:
        return None
    groups = _groups(run)
    chart = draw(partial(_ratings, board=run.board), "Ratings of both sides over the seasons", "race")
    return Race(race_words(run), _matrix(run, groups), chart, _kids(groups))


def _groups(run: RunFiles) -> pd.DataFrame:
    """name, side, season and label of every entrant and of the twins that are controls of their season, and their
    objective; sorted by season, controls last."""
    twins = run.twins[run.twins["kind"].isin(CONTROLS)].rename(columns={"trial": "name"})
    both = pd.concat([run.board.assign(kind=""), twins.drop(columns="entrant")], ignore_index=True)
    label = [
        f"{season:.0f}" + (f", {CONTROLS[kind]}" if kind else "")
        for season, kind in zip(both["season"], both["kind"], strict=True)
    ]
    order = both["kind"].map({kind: i for i, kind in enumerate(["", *CONTROLS])})
    both = both.assign(label=label, order=order).sort_values(["season", "order", "name"])
    return both[["name", "side", "season", "label", "objective"]]


def _matrix(run: RunFiles, groups: pd.DataFrame) -> HeatTable:
    labelled = groups[["name", "label"]].rename(columns={"label": "season"})
    cells = race(pd.concat([run.matches, run.twin_matches], ignore_index=True), labelled)
    met = {(cell["detectors"], cell["generators"]): _square(cell) for cell in records(cells)}
    columns, rows = (_labels(groups, side) for side in SIDES)
    return HeatTable(columns, [(row, "", [met.get((row, column)) for column in columns]) for row in rows])


def _labels(groups: pd.DataFrame, side: str) -> list[str]:
    return list(dict.fromkeys(groups.loc[groups["side"] == side, "label"]))


def _square(cell: dict[str, Any]) -> Heat:
    words = (
        f"detectors of season {cell['detectors']} on generators of season {cell['generators']}: accuracy "
        f"{percent(cell['accuracy'])}, on fakes {percent(cell['fake_accuracy'])}, over {cell['matches']} matches"
    )
    return heat(cell["accuracy"], words)


def _kids(groups: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    generators = groups[(groups["side"] == "generator") & groups["objective"].notna()]
    return [
        (str(label), str(len(kids)), decimal(float(kids.mean()), 3), decimal(float(kids.min()), 3))
        for label, kids in generators.groupby("label", sort=False)["objective"]
    ]


def _ratings(axes: Axes, board: pd.DataFrame) -> str:
    """Every entrant a dot at its season, and a line through the means of each side."""
    rated = board.dropna(subset="rating")
    for side in SIDES:
        mine, color = rated[rated["side"] == side], COLORS[side]
        axes.scatter(mine["season"] + PLACES[side], mine["rating"], s=26, color=color, alpha=0.75, linewidths=0,
                     zorder=3, label=f"{side}s")  # fmt: skip
        means = mine.groupby("season")["rating"].mean()
        axes.plot(means.index + PLACES[side], means, color=color, linewidth=2.4, zorder=2)
        axes.scatter(means.index + PLACES[side], means, s=300, marker="_", color=INK, linewidths=1.6, zorder=4)
    seasons = sorted(set(board["season"]))
    axes.set_xticks(seasons, [f"season {season:.0f}" for season in seasons])
    axes.set_xlim(seasons[0] - 0.4, seasons[-1] + 0.4)
    axes.margins(y=0.12)
    return "Each dot is an entrant at its season, each bar the mean of its side; season 1 has a mean of 1500."
