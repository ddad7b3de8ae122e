"""The leaderboards as text that is ready to be placed, column by column."""

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pandas as pd

from duel.report.run_files import RunFiles, records
from duel.report.tables import badges, decimal, percent
from duel.rules.standings import GUARDED, weather_columns
from duel.rules.tables import LEADERBOARD

ACCURACIES = {
    "mean_accuracy": "All", "seen_accuracy": "Seen", "unseen_accuracy": "Unseen", "new_family_accuracy": "New family",
    "mean_real_accuracy": "On reals", "mean_fake_accuracy": "On fakes",
}  # fmt: skip
ALWAYS = ("mean_accuracy", "seen_accuracy", "unseen_accuracy")
# Of leaderboard.csv, what is shown as part of another column, or says which table a row stands in.
NOT_BY_ITSELF = {"side", "rating_low", "rating_high", "objective_name", "feature_network", "mark", "season"}

_count, _two, _three, _four = (partial(decimal, digits=digits) for digits in (0, 2, 3, 4))


class Column(NamedTuple):
    """A column: where its values come from, its heading, what it means, and how a value is written.

    kind "word" sorts by letters and aligns left, "number" sorts by value and aligns right. group is the heading above
    several columns, under a small line below this one's. An optional column is shown where it holds something.
    """

    key: str
    title: str
    meaning: str
    kind: str = "number"
    text: Callable[[Any], str] = percent
    group: str = ""
    optional: bool = True
    under: str = ""


class Cell(NamedTuple):
    """A cell: what is read, what is sorted by, for a rating where its interval lies in percent of the scale, and
    for a name its badges."""

    text: str
    order: str | float
    low: float | None = None
    high: float | None = None
    point: float | None = None
    badges: tuple[str, ...] = ()


class Board(NamedTuple):
    """One side's leaderboard; groups are (heading, columns below it), yardsticks (name, KID) rows below a
    generators' table, whose KID stands in column number `objective`."""

    columns: list[Column]
    groups: list[tuple[str, int]]
    rows: list[list[Cell]]
    yardsticks: list[tuple[str, str]]
    objective: int


def board(run: RunFiles, side: str) -> Board:
    """The leaderboard of a side ("generator" or "detector")."""
    rows = run.board[run.board["side"] == side].sort_values("rank")
    columns = [column for column in _columns(run, side, rows) if not column.optional or _filled(rows[column.key])]
    groups = [(name, len(list(members))) for name, members in itertools.groupby(columns, lambda c: c.group)]
    scale = (run.board["rating_low"].min(), run.board["rating_high"].max())
    cells = [[_cell(column, entrant, scale) for column in columns] for entrant in records(rows)]
    at = next(i for i, column in enumerate(columns) if column.key == "objective")
    return Board(columns, groups, cells, _yardsticks(run) if side == "generator" else [], at)


def _filled(values: pd.Series) -> bool:
    return bool(values.notna().any())


def _columns(run: RunFiles, side: str, rows: pd.DataFrame) -> list[Column]:
    shown = [
        _column("rank", "Rank", optional=False, text=_count),
        *(_column(key, title, optional=False) for key, title in (("name", "Name"), ("family", "Family"))),
        *([_column("season", "Season", text=_count)] if len(run.seasons) > 1 else []),
        *(_column(key, title, "Matches", optional=False, text=_count)
          for key, title in (("played", "Played"), ("wins", "Won"), ("losses", "Lost"))),
        _column("win_rate", "Win rate", "Matches", optional=False),
        _column("rating", "Rating", optional=False, text=_count),
        *(_column(key, title, "Accuracy", optional=key not in ALWAYS) for key, title in ACCURACIES.items()),
        _column("mean_auc", "AUC", "Answers", text=_four),
        _column("mean_calibration_error", "Calib. error", "Answers", text=_three),
        _objective(side, rows),
        *(_column(key, key.capitalize(), "Guard", text=percent if key == "copies" else _two) for key in GUARDED[:-1]),
    ]  # fmt: skip
    placed = {column.key for column in shown} | NOT_BY_ITSELF
    rest = [_column(key, key.replace("_", " ").capitalize()) for key in LEADERBOARD.names if key not in placed]
    return [*shown, *rest, *_weather(rows)]


def _column(key: str, title: str, group: str = "", optional: bool = True,
            text: Callable[[Any], str] | None = None) -> Column:  # fmt: skip
    """A column as the schema has it; text: how a value is written, if not by its kind and unit."""
    known = next(column for column in LEADERBOARD.columns if column.name == key)
    if known.kind != "number":
        return Column(key, title, known.meaning, "word", str, group, optional)
    return Column(key, title, known.meaning, "number", text or (percent if known.unit == "share" else _two), group,
                  optional)  # fmt: skip


def _objective(side: str, rows: pd.DataFrame) -> Column:
    if side == "detector":
        what = "AUC on validation images; high is good"
        return Column("objective", "Val. AUC", what, text=_four, group="Objective", optional=False)
    what = "distance to validation reals; low is good"
    network = ", ".join(sorted(set(rows["feature_network"]) - {""}))
    return Column("objective", "KID", what, text=_three, group="Objective", optional=False, under=network)


def _weather(rows: pd.DataFrame) -> list[Column]:
    return [
        Column(key, key.removeprefix("accuracy_"), "mean accuracy on images changed so", group="Accuracy in weather")
        for key in weather_columns(rows)
    ]


def _cell(column: Column, entrant: dict[str, Any], scale: tuple[float, float]) -> Cell:
    value = entrant[column.key]
    if column.key == "rating":
        return _rating(entrant, scale)
    if column.key == "name":
        return Cell(value, value, badges=badges(entrant["mark"]))
    return Cell(column.text(value), value)


def _rating(entrant: dict[str, Any], scale: tuple[float, float]) -> Cell:
    value, low, high = (entrant[key] for key in ("rating", "rating_low", "rating_high"))
    text = f"{decimal(value, 0)} ({decimal(low, 0)} to {decimal(high, 0)})"
    width = scale[1] - scale[0]
    if not width > 0 or math.isnan(value + low + high):
        return Cell(text, value)
    places = [round(100 * (x - scale[0]) / width, 1) for x in (low, high, value)]
    return Cell(text, value, *places)


def _yardsticks(run: RunFiles) -> list[tuple[str, str]]:
    known = run.info.get("yardsticks") or {}
    words = {
        "kid_noise": "Pure noise",
        "kid_untrained": "Untrained generator",
        "kid_reals": "Reals against reals",
    }
    return [(word, decimal(known[key], 3)) for key, word in words.items() if key in known]
