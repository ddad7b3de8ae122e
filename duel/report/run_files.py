"""Read a run folder, whatever of it exists yet."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from duel.errors import DuelError
from duel.rules.match import MATCH_COLUMNS
from duel.rules.standings import (
    ENTRANT_COLUMNS,
    GUARD_COLUMNS,
    LEADERBOARD_COLUMNS,
    TOLD_WITHOUT,
    leaderboard,
    weather_columns,
)

TRIAL_COLUMNS = [
    "trial", "side", "season", "family", "status", "reason", "objective_name", "objective", "images", "seconds",
    "entrant", "parent", "settings", "feature_network",
]  # fmt: skip
WORDS = {
    "trial", "side", "family", "status", "reason", "objective_name", "settings", "feature_network", "parent",
    "generator", "detector", "winner", "name", "mark", "twin_of", "kind",
}  # fmt: skip
TRUTHS = {"entrant", "seen", "family_seen", "within_noise"}


@dataclass(frozen=True)
class RunFiles:
    """Everything the report shows, as read.

    info is run.json; trials, matches, twins, twin_matches and board are the tables with their columns always
    present (words as str, "" where empty; numbers as float, NaN where empty; truths as bool), matches and board
    with any accuracy_WEATHER; failed holds the trials and twins that failed, twins only those that did not; left_out is
    leave_one_out.csv with whatever families it has; histories maps an entrant's name to the points of its metrics.json.
    """

    root: Path
    info: dict[str, Any]
    trials: pd.DataFrame
    failed: pd.DataFrame
    matches: pd.DataFrame
    twins: pd.DataFrame
    twin_matches: pd.DataFrame
    left_out: pd.DataFrame
    board: pd.DataFrame
    histories: dict[str, list[dict[str, Any]]]

    @property
    def complete(self) -> bool:
        """Whether the run ended as it should."""
        return self.info.get("status") == "complete"

    @property
    def seasons(self) -> list[int]:
        """Seasons of which there are entrants."""
        return sorted({int(season) for season in self.board["season"]})

    def names(self, side: str) -> list[str]:
        """Entrants of a side, best first."""
        return self.board.loc[self.board["side"] == side, "name"].tolist()

    def picture(self, name: str) -> Path | None:
        """The file fakes/`name`, where it exists and its name does not lead out of the folder."""
        path = self.root / "fakes" / name
        return path if Path(name).name == name and path.is_file() else None


def read_run(root: Path) -> RunFiles:
    """Read a run folder; tables and pictures that do not exist yet are empty.

    Raises DuelError when run.json is missing, or when a file can't be read as what its name says.
    """
    if not (root / "run.json").is_file():
        raise DuelError(f"{root}: no run.json there, so it is no run folder")
    info = _json(root / "run.json")
    trials = _table(root / "trials.csv", TRIAL_COLUMNS)
    matches = _table(root / "matches.csv", MATCH_COLUMNS)
    twins = _table(root / "twins.csv", [*TRIAL_COLUMNS, "twin_of", "kind"])
    failed = pd.concat([table.loc[table["status"] == "failed", TRIAL_COLUMNS] for table in (trials, twins)])
    twins = twins[twins["status"] == "finished"]  # a failed one has no score to compare
    twin_matches = _table(root / "twin_matches.csv", MATCH_COLUMNS)
    if (root / "leaderboard.csv").is_file():
        board = _table(root / "leaderboard.csv", LEADERBOARD_COLUMNS)
    else:
        board = _provisional_board(trials, matches, _table(root / "guard.csv", ["name", *GUARD_COLUMNS]))
    left_out = _table(root / "leave_one_out.csv", ["detector", "family", ..., "mean"])
    histories = {
        path.parent.name: _json(path).get("history", []) for path in sorted(root.glob("models/*/metrics.json"))
    }
    return RunFiles(root, info, trials, failed, matches, twins, twin_matches, left_out, board, histories)


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A table's rows, each by column name."""
    return [dict(zip(table.columns, row, strict=True)) for row in table.itertuples(index=False, name=None)]


def _provisional_board(trials: pd.DataFrame, matches: pd.DataFrame, guard: pd.DataFrame) -> pd.DataFrame:
    """Standings so far, for a run that has not written its leaderboard."""
    entrants = trials[trials["entrant"]].rename(columns={"trial": "name"})[ENTRANT_COLUMNS]
    known = matches["generator"].isin(entrants["name"]) & matches["detector"].isin(entrants["name"])
    try:
        return _typed(leaderboard(matches[known], entrants, guard), LEADERBOARD_COLUMNS)
    except ValueError as error:
        raise DuelError(f"no standings can be drawn from trials.csv and matches.csv: {error}") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DuelError(f"{path}: can't be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise DuelError(f"{path}: must hold a JSON object, got {type(content).__name__}")
    return content


def _table(path: Path, columns: list[Any]) -> pd.DataFrame:
    """A CSV file with these columns, filled where it lacks them; `...` stands for all others that it has."""
    try:
        # As words first: a reason that reads "None" or a trial named "1e5" must stay what it is.
        table = pd.read_csv(path, dtype=str, keep_default_na=False) if path.is_file() else pd.DataFrame()
    except pd.errors.EmptyDataError:
        table = pd.DataFrame()
    except (OSError, ValueError) as error:
        raise DuelError(f"{path}: can't be read as CSV: {error}") from error
    return _typed(table, columns)


def _typed(table: pd.DataFrame, columns: list[Any]) -> pd.DataFrame:
    others = [c for c in map(str, table) if c not in columns] if ... in columns else []
    named = [c for column in columns for c in (others if column is ... else [column])]
    table = table.reindex(columns=list(dict.fromkeys([*named, *weather_columns(table)])))
    for column in table:
        if column in WORDS:
            table[column] = table[column].fillna("").astype(str)
        elif column in TRUTHS:
            told = table[column].fillna("").astype(str).str.lower()
            table[column] = told.isin({"true", ""} if TOLD_WITHOUT.get(column) is True else {"true"})
        else:
            table[column] = pd.to_numeric(table[column], errors="coerce").astype(float)
    return table.fillna({"season": TOLD_WITHOUT["season"]})
