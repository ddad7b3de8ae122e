"""Tables drawn from many matches: the leaderboard, the race between seasons, and who is new to whom.

Pure functions on tables: no files, no networks.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from duel.rules.match import SIDES
from duel.rules.ratings import fit_ratings
from duel.rules.tables import ABSENT, GUARD, LEADERBOARD, MATCHES

FIRST_SEASON = ABSENT["season"]
ENTRANT_COLUMNS = ["name", "side", "family", "season", "objective_name", "objective", "feature_network"]
GUARDED = GUARD.names[1:]
_ABSENT = {name: ABSENT[name] for name in ("season", "family_seen")}
SHARES = ["accuracy", "real_accuracy", "fake_accuracy", "auc", "calibration_error"]
RACE_COLUMNS = ["generators", "detectors", "matches", "accuracy", "fake_accuracy"]


def weather_columns(table: pd.DataFrame) -> list[str]:
    """Columns accuracy_WEATHER, beside those that every table of matches or leaderboard has."""
    return MATCHES.others(table)


def leaderboard(matches: pd.DataFrame, entrants: pd.DataFrame, guard: pd.DataFrame | None = None) -> pd.DataFrame:
    """Both sides' tables from the matches played so far.

    matches: as matches.csv, a row for each pair that has met (may be empty). entrants:
    ENTRANT_COLUMNS, one row each. guard: as guard.csv. Without a season an entrant is of
    the first; without family_seen no family is new.

    Returns the columns of leaderboard.csv, generators first, each side by rank. A side
    is ranked by win rate, then mean accuracy (high is good for a detector, low for a generator), then rating, then
    objective (AUC high, KID low), then name; the order of the input rows plays no part. Ratings are whole points
    around 1500 for the entrants of the first season, with a 95 % interval (see fit_ratings). Accuracies, AUC and
    calibration error are means over matches; an entrant without matches has empty ones and the rating of the
    prior. Raises ValueError for a missing column, an unknown entrant, side or winner, a name twice or a pair twice.
    """
    matches, entrants = _completed(matches), _completed(entrants)
    _check_tables(matches, entrants)
    board = entrants[ENTRANT_COLUMNS].sort_values("name", ignore_index=True)
    board = board.astype({"name": "str", "season": int}).join(_scores(matches), on="name")
    board = board.fillna({"played": 0, "wins": 0}).astype({"played": int, "wins": int})
    board["losses"] = board["played"] - board["wins"]
    board["win_rate"] = board["wins"] / board["played"].where(board["played"] > 0)
    board = _with_guard(_with_ratings(board, matches), guard)
    sides = [_ranked(board[board["side"] == side], side) for side in SIDES]
    return pd.concat(sides, ignore_index=True)[LEADERBOARD.names + weather_columns(matches)]


def _completed(table: pd.DataFrame) -> pd.DataFrame:
    filled = {c: table[c].fillna(value) if c in table else value for c, value in _ABSENT.items()}
    return table.assign(**filled)


def _scores(matches: pd.DataFrame) -> pd.DataFrame:
    """Played, wins and mean numbers by entrant name."""
    halves = [matches.assign(name=matches[side], won=matches["winner"] == side) for side in SIDES]
    # Sorted, because a mean of floats depends on their order in its last digits.
    both = pd.concat(halves).sort_values(["name", "generator", "detector"])
    seen, family_seen = both["seen"].astype(bool), both["family_seen"].astype(bool)
    both = both.assign(
        seen_accuracy=both["accuracy"].where(seen),
        unseen_accuracy=both["accuracy"].where(~seen),
        new_family_accuracy=both["accuracy"].where(~family_seen),
    )
    parts = ["seen_accuracy", "unseen_accuracy", "new_family_accuracy", *weather_columns(matches)]
    means = {f"mean_{name}": (name, "mean") for name in SHARES} | {name: (name, "mean") for name in parts}
    return both.groupby("name").agg(played=("won", "size"), wins=("won", "sum"), **means)


def _with_ratings(board: pd.DataFrame, matches: pd.DataFrame) -> pd.DataFrame:
    """board (by name) with ratings in whole points, so that equal records tie in spite of the fit's last digits
    and the next criterion decides."""
    generators, detectors = (board.index[board["side"] == side] for side in SIDES)
    caught, shown = np.zeros((2, len(generators), len(detectors)), dtype=np.int64)
    at = tuple(
        pd.Index(board["name"][rows]).get_indexer(matches[side])
        for side, rows in zip(SIDES, (generators, detectors), strict=True)
    )
    shown[at] = matches["n_fake"]
    caught[at] = (matches["fake_accuracy"] * matches["n_fake"]).astype(float).round()
    order = generators.append(detectors)
    fitted = fit_ratings(caught, shown, (board["season"][order] == FIRST_SEASON).to_numpy(dtype=bool))
    names = {"rating": fitted.rating, "rating_low": fitted.low, "rating_high": fitted.high}
    return board.join(pd.DataFrame({name: values.round() for name, values in names.items()}, index=order))


def _with_guard(board: pd.DataFrame, guard: pd.DataFrame | None) -> pd.DataFrame:
    """board with the guard's columns, empty where nothing was measured."""
    known = pd.DataFrame(columns=GUARD.names) if guard is None else guard
    known = known.reindex(columns=GUARD.names).astype({"name": "str"}).set_index("name")
    numbers = GUARDED[:-1]
    known[numbers] = known[numbers].astype(float)
    return board.join(known, on="name").fillna({"mark": ""})


def _ranked(board: pd.DataFrame, side: str) -> pd.DataFrame:
    detector = side == "detector"
    ranked = board.sort_values(
        ["win_rate", "mean_accuracy", "rating", "objective", "name"],
        ascending=[False, not detector, False, not detector, True],
        na_position="last",
    )
    return ranked.assign(rank=np.arange(1, len(ranked) + 1))


def _check_tables(matches: pd.DataFrame, entrants: pd.DataFrame) -> None:
    for what, table, columns in (
        ("matches", matches, MATCHES.names),
        ("entrants", entrants, ENTRANT_COLUMNS),
    ):
        if missing := [c for c in columns if c not in table]:
            raise ValueError(f"{what} lacks the columns {missing}")
    if entrants["name"].duplicated().any():
        raise ValueError(f"entrants names someone twice: {sorted(entrants['name'][entrants['name'].duplicated()])}")
    if unknown := set(entrants["side"]) - set(SIDES):
        raise ValueError(f"side must be one of {SIDES}, got {sorted(unknown)}")
    if unknown := set(matches["winner"]) - set(SIDES):
        raise ValueError(f"winner must be one of {SIDES}, got {sorted(unknown)}")
    for side in SIDES:
        if unknown := set(matches[side]) - set(entrants["name"][entrants["side"] == side]):
            raise ValueError(f"matches name {side}s that are no entrants: {sorted(unknown)}")
    if matches.duplicated(["generator", "detector"]).any():
        raise ValueError("matches holds a pair twice; each pair meets once")


def race(matches: pd.DataFrame, entrants: pd.DataFrame) -> pd.DataFrame:
    """How the detectors of each season do on the generators of each season.

    matches: as matches.csv. entrants: name, season (a number, or any word that names a group, such as a control's).
    Returns RACE_COLUMNS, one row a pair of seasons that has met: season of the generators and of the detectors,
    matches, their mean accuracy and mean accuracy on fakes. Matches of anyone else are left out.
    """
    season = entrants.set_index("name")["season"]
    groups = matches.assign(generators=matches["generator"].map(season), detectors=matches["detector"].map(season))
    groups = groups.dropna(subset=["generators", "detectors"]).sort_values(["generator", "detector"])
    means = {"matches": ("accuracy", "size"), "accuracy": ("accuracy", "mean")}
    return (
        groups.groupby(["generators", "detectors"], sort=False)
        .agg(**means, fake_accuracy=("fake_accuracy", "mean"))
        .reset_index()[RACE_COLUMNS]
    )


def best_of_each(trials: pd.DataFrame) -> list[str]:
    """From trials (columns trial, family), best first: every family's best, then every family's second, and so on."""
    turn = trials.groupby("family").cumcount()
    return list(trials.assign(turn=turn).sort_values("turn", kind="stable")["trial"])


def leave_one_out(twin_matches: pd.DataFrame, twins: pd.DataFrame, families: Mapping[str, str]) -> pd.DataFrame:
    """How well detectors do on families of generators that nothing in their training showed them.

    twin_matches: as the file. twins: trial (the twin's name), twin_of, kind and family; of these, the kinds
    without-FAMILY count. families: generator -> family. Returns a row an entrant that has such twins, best
    first: detector, family (its own), a column a family of generators (mean accuracy on all of its generators of
    the twin that was trained without it), and mean, of these columns.
    """
    twins = twins[twins["kind"].str.startswith("without-")].set_index("trial")
    played = twin_matches[twin_matches["detector"].isin(twins.index)].sort_values(["generator", "detector"])
    own = played.join(twins[["twin_of", "kind", "family"]], on="detector")
    own = own.assign(left_out=own["generator"].map(families))
    own = own[own["kind"] == "without-" + own["left_out"]]
    table = own.pivot_table(index=["twin_of", "family"], columns="left_out", values="accuracy", aggfunc="mean")
    table = table.assign(mean=table.mean(axis=1)).rename_axis(columns=None).reset_index()
    table = table.sort_values("mean", ascending=False, kind="stable", ignore_index=True)
    return table.rename(columns={"twin_of": "detector"})


def split(matches: pd.DataFrame) -> pd.DataFrame:
    """Every number by how well the detector knew what it was shown.

    Returns the rows seen, unseen (all others) and new family (those of the unseen whose family was new too), each
    with the number of matches and the mean of accuracy, real_accuracy, fake_accuracy, auc and calibration_error.
    """
    matches = _completed(matches).sort_values(["generator", "detector"])
    seen, family_seen = matches["seen"].astype(bool), matches["family_seen"].astype(bool)
    parts = {"seen": matches[seen], "unseen": matches[~seen], "new family": matches[~family_seen]}
    rows = [{"split": name, "matches": len(part), **part[SHARES].mean()} for name, part in parts.items()]
    return pd.DataFrame(rows, columns=["split", "matches", *SHARES])
