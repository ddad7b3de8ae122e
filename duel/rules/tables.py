"""Every table of a run, column by column: what its writers write, its readers read, and docs/tables.md says.

`python -m duel.rules.tables` prints that page.
"""

from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

import pandas as pd

KINDS = ("name", "word", "number", "truth")  # a name is of an entrant, a family or a control: it becomes part of a path
MORE_WEATHER = "accuracy_WEATHER"
MORE_FAMILIES = "FAMILY"


@dataclass(frozen=True)
class Column:
    """One column. unit: of a number; a share lies in 0 to 1. absent: what a table without the column means."""

    name: str
    kind: str
    meaning: str
    unit: str = ""
    absent: Any = None
    since: str = "0.1.0"  # the first version of duel that writes it


@dataclass(frozen=True)
class Table:
    """A CSV file of a run, with a line for each `row`. more: columns that are named after what they hold."""

    file: str
    row: str
    columns: tuple[Column, ...]
    more: Column | None = None

    @property
    def names(self) -> list[str]:
        """The columns' names, in order."""
        return [column.name for column in self.columns]

    def others(self, table: pd.DataFrame) -> list[str]:
        """The columns of a table that `more` stands for."""
        if self.more is None:
            return []
        begin = self.more.name.rstrip(ascii_uppercase)
        return [name for name in map(str, table) if name.startswith(begin) and name not in self.names]

    def of_kind(self, *kinds: str) -> set[str]:
        """The names of its columns of these kinds."""
        return {column.name for column in self.columns if column.kind in kinds}

    def checked(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table, if it has these columns in this order and, after them or among them, others only where it may.

        Raises ValueError that names what is missing, unknown or out of order.
        """
        have, others = list(map(str, table.columns)), self.others(table)
        if [name for name in have if name not in others] != self.names:
            raise ValueError(f"{self.file} must have the columns {', '.join(self.names)}; got {', '.join(have)}")
        return table


def _name(name: str, meaning: str, **more: Any) -> Column:
    return Column(name, "name", meaning, **more)


def _word(name: str, meaning: str, **more: Any) -> Column:
    return Column(name, "word", meaning, **more)


def _share(name: str, meaning: str) -> Column:
    return Column(name, "number", meaning, "share")


def _number(name: str, meaning: str, unit: str = "", **more: Any) -> Column:
    return Column(name, "number", meaning, unit, **more)


def _truth(name: str, meaning: str, **more: Any) -> Column:
    return Column(name, "truth", meaning, **more)


SIDE = _word("side", "generator or detector")
SEASON = _number("season", "in which it was trained", absent=1)
FAMILY = _name("family", "kind of network")
OBJECTIVE = (
    _word("objective_name", "what the search went by: kid (low is good) or auc (high is good)"),
    _number("objective", "its value on validation images, at the end of the training"),
)
NETWORK = _word("feature_network", "of a KID: the network whose features it compares, and their size")

TRIALS = Table(
    "trials.csv",
    "trial",
    (
        _name("trial", "season, side, number, family: s2g01-dcgan"),
        SIDE,
        SEASON,
        FAMILY,
        _word("status", "finished, stopped (by ASHA) or failed"),
        _word("reason", "why it failed"),
        *OBJECTIVE,
        _number("images", "trained on", "images"),
        _number("seconds", "training and scoring", "s"),
        _truth("entrant", "it plays in the league"),
        _name("parent", "the entrant that it went on from"),
        _word("settings", "as drawn, as JSON"),
        NETWORK,
    ),
)
TWINS = Table(
    "twins.csv",
    "control: an entrant trained again with one thing changed",
    (
        *TRIALS.columns,
        _name("twin_of", "the entrant"),
        _name("kind", "what was changed: no-evasion, no-replay, no-rivals or without-FAMILY"),
    ),
)
MATCHES = Table(
    "matches.csv",
    "match: a generator's fresh fakes and as many held-out reals, through a detector",
    (
        _name("generator", ""),
        _name("detector", ""),
        _number("n_real", "held-out reals", "images"),
        _number("n_fake", "fresh fakes", "images"),
        _share("accuracy", "mean of real_accuracy and fake_accuracy"),
        _share("accuracy_low", "lower end of its 95 % interval"),
        _share("accuracy_high", "upper end"),
        _truth("within_noise", "0.5 lies in the interval: other images could have turned the match"),
        _share("real_accuracy", "reals that were told as such"),
        _share("fake_accuracy", "fakes that were told as such"),
        _share("auc", "P(a fake is scored above a real)"),
        _share("calibration_error", "stated confidence against share of right answers (Guo 2017)"),
        _truth("seen", "the detector trained on fakes of this generator"),
        _truth("family_seen", "or of another one of its family", absent=True),
        _word("winner", "the detector at an accuracy of 0.5 or more, else the generator"),
    ),
    Column(MORE_WEATHER, "number", "the same match with all images changed so", "share"),
)
TWIN_MATCHES = Table(
    "twin_matches.csv", "match of a control against an entrant of the other side", MATCHES.columns
)  # fmt: skip
GUARD = Table(
    "guard.csv",
    "generator",
    (
        _name("name", ""),
        _share("precision", "of fakes that lie among the reals (Kynkäänniemi 2019)"),
        _share("recall", "of reals that lie among the fakes"),
        _number("density", "how crowded by reals the places of its fakes are (Naeem 2020)"),
        _share("coverage", "of reals with a fake nearby"),
        _share("copies", "of fakes that are nearer to a training face than held-out reals are (Carlini 2023)"),
        _word("mark", "not faces, copies, both or nothing"),
    ),
)
LEADERBOARD = Table(
    "leaderboard.csv",
    "entrant, both sides by rank",
    (
        SIDE,
        _number("rank", "by win rate, then mean accuracy, then rating, then objective, then name"),
        _name("name", "season, side, trial, family"),
        FAMILY,
        SEASON,
        _number("played", "", "matches"),
        _number("wins", "", "matches"),
        _number("losses", "", "matches"),
        _share("win_rate", "won of played"),
        _number("rating", "from fakes caught; both sides share one scale, 1500 is the first season's mean", "points"),
        _number("rating_low", "lower end of its 95 % interval", "points"),
        _number("rating_high", "upper end", "points"),
        _share("mean_accuracy", "mean over its matches; high is good for a detector, low for a generator"),
        _share("seen_accuracy", "mean where the detector trained on this generator"),
        _share("unseen_accuracy", "mean where it did not"),
        _share("new_family_accuracy", "mean where it trained on no generator of the family"),
        _share("mean_real_accuracy", "reals that were told as such"),
        _share("mean_fake_accuracy", "fakes that were told as such"),
        _share("mean_auc", "mean over its matches; does not depend on where the line is drawn"),
        _share("mean_calibration_error", "stated confidence against share of right answers"),
        *OBJECTIVE,
        NETWORK,
        *GUARD.columns[1:],
    ),
    Column(MORE_WEATHER, "number", "mean accuracy on images changed so", "share"),
)
LEAVE_ONE_OUT = Table(
    "leave_one_out.csv",
    "detector's design, trained anew without one generator family at a time",
    (_name("detector", "whose design it is"), FAMILY, _share("mean", "of all its columns")),
    Column(MORE_FAMILIES, "number", "accuracy on that family of the one that never saw it", "share"),
)
SCOUTING = Table(
    "scouting.csv",
    "generator and earlier detector, on validation images",
    (
        _name("generator", ""),
        _name("detector", ""),
        _share("caught", "fakes that were told as such"),
        _share("accuracy", "mean of that and of reals that were told as such"),
    ),
)
TABLES = {table.file: table for table in (TRIALS, MATCHES, LEADERBOARD, GUARD, TWINS, TWIN_MATCHES, LEAVE_ONE_OUT,
                                          SCOUTING)}  # fmt: skip
COLUMNS = [column for table in TABLES.values() for column in (*table.columns, *filter(None, [table.more]))]
ABSENT = {column.name: column.absent for column in COLUMNS if column.absent is not None}


def page() -> str:
    """docs/tables.md."""
    parts = ["# The tables of a run\n\n<!-- made by `python -m duel.rules.tables`; do not edit -->\n\n"
             "CSV files in `reports/NAME/`. A share lies between 0 and 1; a cell is empty where there is nothing to "
             "say. Columns in capitals are named after what they hold.\n"]  # fmt: skip
    for table in TABLES.values():
        parts.append(f"\n## {table.file}\n\nA row for each {table.row}.\n\n| column | kind | meaning | since |")
        parts.append("| --- | --- | --- | --- |")
        for column in (*table.columns, *filter(None, [table.more])):
            kind = f"{column.kind}, {column.unit}" if column.unit else column.kind
            absent = f"; without the column: {column.absent}" if column.absent is not None else ""
            parts.append(f"| `{column.name}` | {kind} | {column.meaning}{absent} | {column.since} |")
    return "\n".join(parts)


if __name__ == "__main__":
    print(page())
