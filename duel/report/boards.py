"""The leaderboards as text that is ready to be placed, column by column."""

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pandas as pd

from duel.report.run_files import RunFiles, records
from duel.report.tables import badges, decimal, percent
from duel.rules.standings import weather_columns

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
    season = [Column("season", "Season", "in which it was trained", text=_count)] if len(run.seasons) > 1 else []
    return [
        Column("rank", "Rank", "by win rate, then mean accuracy, then rating", text=_count, optional=False),
        Column("name", "Name", "season, side, trial, family", "word", str, optional=False),
        Column("family", "Family", "kind of network", "word", str, optional=False),
        *season,
        Column("played", "Played", "matches", text=_count, group="Matches", optional=False),
        Column("wins", "Won", "matches", text=_count, group="Matches", optional=False),
        Column("losses", "Lost", "matches", text=_count, group="Matches", optional=False),
        Column("win_rate", "Win rate", "won of played", group="Matches", optional=False),
        Column(
            "rating", "Rating", "from fakes caught, with its 95 % interval; both sides share one scale", text=_count,
            optional=False,
        ),
        *_accuracies(side),
        _objective(side, rows),
        *(_guard() if side == "generator" else []),
        *_weather(rows),
    ]  # fmt: skip


def _accuracies(side: str) -> list[Column]:
    good = "high is good" if side == "detector" else "low is good: its fakes pass"
    always = ("mean_accuracy", "seen_accuracy", "unseen_accuracy")
    numbers = [
        ("mean_accuracy", "All", f"mean accuracy over its matches; {good}"),
        ("seen_accuracy", "Seen", "mean accuracy where the detector trained on this generator"),
        ("unseen_accuracy", "Unseen", "mean accuracy where it did not"),
        ("new_family_accuracy", "New family", "mean accuracy where it trained on no generator of the family"),
        ("mean_real_accuracy", "On reals", "share of reals that were told as such"),
        ("mean_fake_accuracy", "On fakes", "share of fakes that were told as such"),
    ]
    answers = [
        ("mean_auc", "AUC", "mean over its matches; does not depend on where the line is drawn", _four),
        ("mean_calibration_error", "Calib. error", "stated confidence against share of right answers", _three),
    ]
    return [
        *(Column(key, title, what, group="Accuracy", optional=key not in always)
          for key, title, what in numbers),
        *(Column(key, title, what, text=text, group="Answers") for key, title, what, text in answers),
    ]  # fmt: skip


def _objective(side: str, rows: pd.DataFrame) -> Column:
    if side == "detector":
        what = "AUC on validation images; high is good"
        return Column("objective", "Val. AUC", what, text=_four, group="Objective", optional=False)
    what = "distance to validation reals; low is good"
    network = ", ".join(sorted(set(rows["feature_network"]) - {""}))
    return Column("objective", "KID", what, text=_three, group="Objective", optional=False, under=network)


def _guard() -> list[Column]:
    numbers: list[tuple[str, str, str, Callable[[Any], str]]] = [
        ("precision", "Precision", "share of fakes that lie among the reals", _two),
        ("recall", "Recall", "share of reals that lie among the fakes", _two),
        ("density", "Density", "how crowded by reals the places of its fakes are", _two),
        ("coverage", "Coverage", "share of reals with a fake nearby", _two),
        ("copies", "Copies", "share of fakes that are training faces", percent),
    ]
    return [Column(key, title, what, text=text, group="Guard") for key, title, what, text in numbers]


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
