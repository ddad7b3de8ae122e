"""From answers to results: one match, the win rule, and the leaderboard of both sides.

Pure functions on arrays and tables: no files, no networks. A change to a rule of the league is a change here.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri

from duel.scores import auc

SIDES = ("generator", "detector")
MATCH_COLUMNS = [
    "generator", "detector", "n_real", "n_fake", "accuracy", "real_accuracy", "fake_accuracy", "auc",
    "seen", "winner",
]  # fmt: skip
ENTRANT_COLUMNS = ["name", "side", "family", "objective_name", "objective", "feature_network"]
LEADERBOARD_COLUMNS = [
    "side", "rank", "name", "family", "played", "wins", "losses", "win_rate", "rating", "rating_low",
    "rating_high", "mean_accuracy", "seen_accuracy", "unseen_accuracy", "objective_name", "objective",
    "feature_network",
]  # fmt: skip

MEAN_RATING = 1500.0
POINTS_PER_NAT = 400 / np.log(10)  # Elo's scale: 400 points are odds of ten to one
PRIOR_SD = 350.0  # in points: what Glicko (Glickman 1999) gives a player of whom nothing is known
ALPHA = (POINTS_PER_NAT / PRIOR_SD) ** 2  # choix's name for one over the prior's variance, in nats


def decide(accuracy: float) -> str:
    """The win rule: "detector" at an accuracy of 0.5 or more, "generator" below it.

    Raises ValueError for a value that is no accuracy (NaN, or outside 0 to 1).
    """
    if not 0.0 <= accuracy <= 1.0:
        raise ValueError(f"accuracy must lie in [0, 1], got {accuracy}")
    return "detector" if accuracy >= 0.5 else "generator"


def match_row(real_probs: NDArray[np.floating], fake_probs: NDArray[np.floating]) -> dict[str, int | float | str]:
    """Score one match from a detector's answers.

    real_probs, fake_probs: P(fake) for each real [n_real] and each fake [n_fake], in [0, 1].
    An answer of 0.5 or more says "fake", so a constant answer is right on exactly one of the two classes and
    its accuracy is exactly 0.5 whatever the constant. AUC is the Mann-Whitney statistic with ties at one half
    (Hanley and McNeil 1982): P(a fake is scored above a real).

    Returns n_real, n_fake, accuracy (the mean of the two that follow), real_accuracy, fake_accuracy, auc,
    winner. Raises ValueError for an empty array, a shape that is not one-dimensional, NaN, or a value outside
    [0, 1].
    """
    reals, fakes = _checked("real_probs", real_probs), _checked("fake_probs", fake_probs)
    n_real, n_fake = len(reals), len(fakes)
    real_right, fake_right = int((reals < 0.5).sum()), int((fakes >= 0.5).sum())
    # In integers, because 1/49 + 48/49 in floats can fall below one and would turn a match at exactly 0.5.
    accuracy = (real_right * n_fake + fake_right * n_real) / (2 * n_real * n_fake)
    return {
        "n_real": n_real,
        "n_fake": n_fake,
        "accuracy": accuracy,
        "real_accuracy": real_right / n_real,
        "fake_accuracy": fake_right / n_fake,
        "auc": auc(reals, fakes),
        "winner": decide(accuracy),
    }


def _checked(name: str, probs: NDArray[np.floating]) -> NDArray[np.float64]:
    values = np.asarray(probs, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"{name} must be a filled one-dimensional array, got shape {values.shape}")
    if not ((values >= 0) & (values <= 1)).all():  # NaN fails both comparisons
        raise ValueError(f"{name} must hold probabilities in [0, 1], got {values.min()} to {values.max()}")
    return values


def fit_ratings(n_entrants: int, results: NDArray[np.integer]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ratings of all entrants on one scale, with their standard errors, from who beat whom.

    results: [matches, 2] of entrant numbers, winner first. Returns (ratings, errors), each [n_entrants], in
    points.

    The model is Bradley and Terry's (1952), P(i beats j) = sigmoid(s_i - s_j), with strengths in Elo points
    around 1500 and a Gaussian prior of 350 points, without which an unbeaten entrant's rating would be
    infinite. Rating and error are mean and deviation of the posterior, by expectation propagation (Minka
    2001; Chu and Ghahramani 2005).

    Why so, with few matches: a bootstrap over matches would be dishonest, as every resample of an unbeaten
    entrant is unbeaten too and its interval shrinks to nothing where least is known. A Laplace approximation
    at the peak was tried: its errors are 8 to 10 % too small (2x2 to 16x16 entrants), those of expectation
    propagation 0 to 3 %.
    """
    import choix  # brings scipy.stats with it: a second that tasks which only score can spare

    if n_entrants == 0:
        return np.empty(0), np.empty(0)
    # choix visits the matches in an order that it draws from numpy's global generator.
    outer_state = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    try:
        strengths, covariance = choix.ep_pairwise(n_entrants, [(int(w), int(lost)) for w, lost in results], ALPHA)
    finally:
        np.random.set_state(outer_state)  # noqa: NPY002
    return MEAN_RATING + POINTS_PER_NAT * strengths, POINTS_PER_NAT * np.sqrt(np.diag(covariance))


def leaderboard(matches: pd.DataFrame, entrants: pd.DataFrame) -> pd.DataFrame:
    """Both sides' tables from the matches played so far.

    matches: MATCH_COLUMNS, one row a pair that has met (may be empty). entrants: ENTRANT_COLUMNS, one row
    each. Returns LEADERBOARD_COLUMNS, generators first, each side by rank. A side is ranked by win rate, then
    rating, then mean accuracy (high is good for a detector, low for a generator), then objective (AUC high,
    KID low), then name; the order of the input rows plays no part. rating_low and rating_high hold a 95 %
    interval (see fit_ratings). Accuracies are means over matches; an entrant without matches has empty ones
    and the rating of the prior. Raises ValueError for a missing column, an unknown entrant, side or winner, a
    name twice or a pair twice.
    """
    _check_tables(matches, entrants)
    board = entrants[ENTRANT_COLUMNS].sort_values("name", ignore_index=True)
    board = board.astype({"name": "str"}).join(_scores(matches), on="name")
    board = board.fillna({"played": 0, "wins": 0}).astype({"played": int, "wins": int})
    board["losses"] = board["played"] - board["wins"]
    board["win_rate"] = board["wins"] / board["played"].where(board["played"] > 0)
    board = _with_ratings(board, matches)
    sides = [_ranked(board[board["side"] == side], side) for side in SIDES]
    return pd.concat(sides, ignore_index=True)[LEADERBOARD_COLUMNS]


def _scores(matches: pd.DataFrame) -> pd.DataFrame:
    """Played, wins and mean accuracies by entrant name."""
    halves = [matches.assign(name=matches[side], won=matches["winner"] == side) for side in SIDES]
    # Sorted, because a mean of floats depends on their order in its last digits.
    both = pd.concat(halves).sort_values(["name", "generator", "detector"])
    seen = both["seen"].astype(bool)
    both = both.assign(seen_accuracy=both["accuracy"].where(seen), unseen_accuracy=both["accuracy"].where(~seen))
    return both.groupby("name").agg(
        played=("won", "size"),
        wins=("won", "sum"),
        mean_accuracy=("accuracy", "mean"),
        seen_accuracy=("seen_accuracy", "mean"),
        unseen_accuracy=("unseen_accuracy", "mean"),
    )


def _with_ratings(board: pd.DataFrame, matches: pd.DataFrame) -> pd.DataFrame:
    number = {name: i for i, name in enumerate(board["name"])}
    ordered = matches.sort_values(["generator", "detector"])
    generator_won = (ordered["winner"] == "generator").to_numpy(dtype=bool)[:, None]
    pairs = np.stack([ordered[side].map(number).to_numpy(dtype=np.int64) for side in SIDES], axis=1)
    ratings, errors = fit_ratings(len(board), np.where(generator_won, pairs, pairs[:, ::-1]))
    half = ndtri(0.975) * errors
    # Whole points, so that equal records tie in spite of the fit's last digits and the next criterion
    # decides.
    return board.assign(
        rating=ratings.round(), rating_low=(ratings - half).round(), rating_high=(ratings + half).round()
    )


def _ranked(board: pd.DataFrame, side: str) -> pd.DataFrame:
    detector = side == "detector"
    ranked = board.sort_values(
        ["win_rate", "rating", "mean_accuracy", "objective", "name"],
        ascending=[False, False, not detector, not detector, True],
        na_position="last",
    )
    return ranked.assign(rank=np.arange(1, len(ranked) + 1))


def _check_tables(matches: pd.DataFrame, entrants: pd.DataFrame) -> None:
    for what, table, columns in (
        ("matches", matches, MATCH_COLUMNS),
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
