"""Read a run folder, whatever of it exists yet."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from duel.errors import DuelError
from duel.rules.standings import ENTRANT_COLUMNS, leaderboard
from duel.rules.tables import (
    ABSENT,
    COLUMNS,
    GUARD,
    LEADERBOARD,
    LEAVE_ONE_OUT,
    MATCHES,
    TRIALS,
    TWIN_MATCHES,
    TWINS,
    Table,
)

KIND = {column.name: column.kind for column in COLUMNS}


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
    trials = _table(root, TRIALS)
    matches = _table(root, MATCHES)
    twins = _table(root, TWINS)
    failed = pd.concat([table.loc[table["status"] == "failed", TRIALS.names] for table in (trials, twins)])
    twins = twins[twins["status"] == "finished"]  # a failed one has no score to compare
    twin_matches = _table(root, TWIN_MATCHES)
    if (root / "leaderboard.csv").is_file():
        board = _table(root, LEADERBOARD)
    else:
        board = _provisional_board(trials, matches, _table(root, GUARD))
    left_out = _table(root, LEAVE_ONE_OUT)
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
        return _typed(leaderboard(matches[known], entrants, guard), LEADERBOARD)
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


def _table(root: Path, known: Table) -> pd.DataFrame:
    """A CSV file with its columns, filled where it lacks them, and with those that its `more` stands for."""
    path = root / known.file
    try:
        # As words first: a reason that reads "None" or a trial named "1e5" must stay what it is.
        table = pd.read_csv(path, dtype=str, keep_default_na=False) if path.is_file() else pd.DataFrame()
    except pd.errors.EmptyDataError:
        table = pd.DataFrame()
    except (OSError, ValueError) as error:
        raise DuelError(f"{path}: can't be read as CSV: {error}") from error
    return _typed(table, known)


def _typed(table: pd.DataFrame, known: Table) -> pd.DataFrame:
    there = [c for c in map(str, table) if c in known.names or c in known.others(table)]
    table = table.reindex(columns=list(dict.fromkeys([*there, *known.names])))
    for column in map(str, table):
        kind = KIND.get(column, "number")
        if kind in ("word", "name"):
            table[column] = table[column].fillna("").astype(str)
        elif kind == "truth":
            told = table[column].fillna("").astype(str).str.lower()
            table[column] = told.isin({"true", ""} if ABSENT.get(column) is True else {"true"})
        else:
            table[column] = pd.to_numeric(table[column], errors="coerce").astype(float)
    return table.fillna({"season": ABSENT["season"]})
