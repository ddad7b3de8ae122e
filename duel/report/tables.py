"""What the page's tables show, as text that is ready to be placed: rounding and wording happen here."""

import math
from typing import Any, NamedTuple

import pandas as pd

from duel.report.run_files import RunFiles, records

NOTHING = "\N{EN DASH}"
SPACE = "\N{NO-BREAK SPACE}"


class Column(NamedTuple):
    """A column's heading, what it means, and a small line under it.

    kind "word" sorts by letters and aligns left, "number" sorts by value and aligns right.
    """

    title: str
    meaning: str
    kind: str
    under: str = ""


class Cell(NamedTuple):
    """A cell: what is read, what is sorted by, and for a rating where its interval lies in percent of the
    scale."""

    text: str
    order: str | float
    low: float | None = None
    high: float | None = None
    point: float | None = None


class Board(NamedTuple):
    """One side's leaderboard; yardsticks are (name, KID) rows below a generators' table."""

    columns: list[Column]
    rows: list[list[Cell]]
    yardsticks: list[tuple[str, str]]


class Meeting(NamedTuple):
    """One square of the match matrix. share is how far towards the winner's colour, 0 to 100."""

    text: str
    winner: str
    share: int
    seen: bool
    words: str


class Matrix(NamedTuple):
    """Rows are detectors, columns generators, both best first; a pair that has not met is None."""

    generators: list[str]
    rows: list[tuple[str, list[Meeting | None], str]]
    means: list[str]


def percent(share: float) -> str:
    """0.9724 -> "97.2 %" (with a space that does not break); a dash for NaN. Never rounds up to 50 or 100
    what lies below."""
    if math.isnan(share):
        return NOTHING
    for threshold in (0.5, 1.0):
        if threshold - 0.0005 <= share < threshold:
            return f"{math.floor(share * 10_000) / 100:.2f}{SPACE}%"
    return f"{100 * share:.1f}{SPACE}%"


def decimal(value: Any, digits: int) -> str:
    """A number with a fixed number of digits; a dash for what is none."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return NOTHING
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def seconds_in_words(seconds: Any) -> str:
    """75.2 -> "1 min 15 s"."""
    if not isinstance(seconds, int | float) or not math.isfinite(seconds):
        return NOTHING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def board(run: RunFiles, side: str) -> Board:
    """The leaderboard of a side ("generator" or "detector")."""
    rows = run.board[run.board["side"] == side].sort_values("rank")
    scale = (run.board["rating_low"].min(), run.board["rating_high"].max())
    yardsticks = _yardsticks(run) if side == "generator" else []
    return Board(_columns(side, rows), [_row(entrant, scale) for entrant in records(rows)], yardsticks)


def _columns(side: str, rows: pd.DataFrame) -> list[Column]:
    good = "high is good" if side == "detector" else "low is good: its fakes pass"
    network = ", ".join(sorted(set(rows["feature_network"]) - {""}))
    objective = {
        "generator": Column("KID", "distance to validation reals; low is good", "number", network),
        "detector": Column("AUC", "on validation images; high is good", "number"),
    }[side]
    return [
        Column("Rank", "by win rate, then rating, then mean accuracy", "number"),
        Column("Name", "side, trial, family", "word"),
        Column("Family", "kind of network", "word"),
        Column("Played", "matches", "number"),
        Column("Won", "matches", "number"),
        Column("Lost", "matches", "number"),
        Column("Win rate", "won of played", "number"),
        Column("Rating", "with its 95 % interval; both sides share one scale", "number"),
        Column("Accuracy", f"mean over its matches; {good}", "number"),
        Column("Seen", "mean accuracy where the detector trained on this generator", "number"),
        Column("Unseen", "mean accuracy where it did not", "number"),
        objective,
    ]


def _row(entrant: dict[str, Any], scale: tuple[float, float]) -> list[Cell]:
    counts = [Cell(decimal(entrant[key], 0), entrant[key]) for key in ("played", "wins", "losses")]
    shares = [
        Cell(percent(entrant[key]), entrant[key]) for key in ("mean_accuracy", "seen_accuracy", "unseen_accuracy")
    ]
    return [
        Cell(decimal(entrant["rank"], 0), entrant["rank"]),
        Cell(entrant["name"], entrant["name"]),
        Cell(entrant["family"], entrant["family"]),
        *counts,
        Cell(percent(entrant["win_rate"]), entrant["win_rate"]),
        _rating(entrant, scale),
        *shares,
        Cell(
            decimal(entrant["objective"], 4 if entrant["objective_name"] == "auc" else 3),
            entrant["objective"],
        ),
    ]


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


def matrix(run: RunFiles) -> Matrix | None:
    """Every detector against every generator; None before the first match."""
    if run.matches.empty:
        return None
    generators, detectors = run.names("generator"), run.names("detector")
    met = {(m["detector"], m["generator"]): _meeting(m) for m in records(run.matches)}
    means = {side: run.matches.groupby(side)["accuracy"].mean() for side in ("generator", "detector")}
    rows = [(d, [met.get((d, g)) for g in generators], _bare(means["detector"].get(d, math.nan))) for d in detectors]
    return Matrix(generators, rows, [_bare(means["generator"].get(g, math.nan)) for g in generators])


def _meeting(match: dict[str, Any]) -> Meeting:
    accuracy, seen = match["accuracy"], match["seen"]
    words = (
        f"{match['detector']} against {match['generator']} ({'seen' if seen else 'unseen'}): "
        f"accuracy {percent(accuracy)}, on reals {percent(match['real_accuracy'])}, "
        f"on fakes {percent(match['fake_accuracy'])}, AUC {decimal(match['auc'], 4)}; "
        f"the {match['winner']} wins"
    )
    share = 0 if math.isnan(accuracy) else round(200 * abs(accuracy - 0.5))
    return Meeting(_bare(accuracy), match["winner"], share, seen, words)


def _bare(share: float) -> str:
    return percent(share).removesuffix(f"{SPACE}%")


def failures(run: RunFiles) -> list[dict[str, str]]:
    """Trials that failed, with their reason."""
    return [
        {
            "name": trial["trial"],
            "family": trial["family"],
            "images": f"{trial['images']:,.0f}" if math.isfinite(trial["images"]) else NOTHING,
            "seconds": seconds_in_words(trial["seconds"]),
            "reason": trial["reason"] or "no reason was recorded",
        }
        for trial in records(run.trials[run.trials["status"] == "failed"])
    ]
