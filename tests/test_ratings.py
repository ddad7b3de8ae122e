"""Rules and ratings against planted cases and independent references."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from duel import ratings


def answers(seed, n=400, shift=1.0):
    rng = np.random.default_rng(seed)
    return 1 / (1 + np.exp(-rng.normal(-shift, 1, n))), 1 / (1 + np.exp(-rng.normal(shift, 1, n)))


def league(strength_g, strength_d, seed=0):
    """A round robin whose winners are drawn by the Bradley-Terry model, strengths in points."""
    rng = np.random.default_rng(seed)
    rows = []
    for i, g in enumerate(strength_g):
        for j, d in enumerate(strength_d):
            won = rng.random() < 1 / (1 + 10 ** ((g - d) / 400))
            accuracy = 0.5 + (0.4 if won else -0.4) * rng.random()
            winner, seen = "detector" if won else "generator", (i + j) % 3 == 0
            rows.append([f"g{i:02}", f"d{j:02}", 10, 10, *[accuracy] * 4, seen, winner])
    names = [f"g{i:02}" for i in range(len(strength_g))] + [f"d{j:02}" for j in range(len(strength_d))]
    return pd.DataFrame(rows, columns=ratings.MATCH_COLUMNS), entrants(names)


def entrants(names):
    side = ["generator" if n.startswith("g") else "detector" for n in names]
    objective = ["kid" if s == "generator" else "auc" for s in side]
    columns = {"name": names, "side": side, "family": "any", "objective_name": objective}
    return pd.DataFrame({**columns, "objective": 0.5, "feature_network": "none"})


# -- one match


@pytest.mark.parametrize(("accuracy", "winner"), [(0.5, "detector"), (1.0, "detector"), (0.0, "generator")])
def test_the_detector_wins_from_one_half_on(accuracy, winner):
    assert ratings.decide(accuracy) == winner
    assert ratings.decide(np.nextafter(0.5, 0)) == "generator"


@pytest.mark.parametrize("accuracy", [float("nan"), -0.1, 1.1])
def test_what_is_no_accuracy_is_refused(accuracy):
    with pytest.raises(ValueError, match="accuracy"):
        ratings.decide(accuracy)


@pytest.mark.parametrize("constant", [0.0, 0.3, np.nextafter(0.5, 0), 0.5, 0.9, 1.0])
@pytest.mark.parametrize("n", [1, 7, 49, 15_000])
def test_a_constant_detector_scores_exactly_one_half_and_wins_by_the_rule(constant, n):
    row = ratings.match_row(np.full(n, constant), np.full(n, constant))
    assert (row["accuracy"], row["auc"], row["winner"]) == (0.5, 0.5, "detector")


def test_exactly_half_right_is_exactly_one_half_however_it_is_split():
    for n in range(1, 120):
        for right in range(n + 1):
            reals = np.where(np.arange(n) < right, 0.1, 0.9)
            fakes = np.where(np.arange(n) < n - right, 0.9, 0.1)
            assert ratings.match_row(reals, fakes)["accuracy"] == 0.5


def test_an_oracle_is_right_on_everything():
    row = ratings.match_row(np.zeros(15), np.ones(15))
    assert (row["n_real"], row["n_fake"], row["winner"]) == (15, 15, "detector")
    assert [row[k] for k in ("accuracy", "real_accuracy", "fake_accuracy", "auc")] == [1, 1, 1, 1]


@pytest.mark.parametrize("seed", range(20))
def test_swapped_labels_turn_every_result_but_an_exact_half(seed):
    reals, fakes = answers(seed, n=41, shift=np.linspace(-1, 1, 20)[seed])
    row, turned = ratings.match_row(reals, fakes), ratings.match_row(fakes, reals)
    assert turned["accuracy"] == pytest.approx(1 - row["accuracy"], abs=1e-15)
    assert turned["auc"] == pytest.approx(1 - row["auc"], abs=1e-15)
    assert turned["real_accuracy"] == pytest.approx(1 - row["fake_accuracy"], abs=1e-15)
    if row["accuracy"] != 0.5:
        assert turned["winner"] != row["winner"]


def test_at_an_exact_half_the_detector_wins_under_both_labellings():
    probs = np.array([0.2, 0.8])
    assert ratings.match_row(probs, probs)["winner"] == "detector"


def test_unseen_reals_as_fakes_score_within_noise_of_one_half():
    rng = np.random.default_rng(3)
    scores = rng.beta(2, 5, 30_000)
    row = ratings.match_row(scores[:15_000], scores[15_000:])
    assert abs(row["accuracy"] - 0.5) < 4 * 0.5 / np.sqrt(30_000)
    assert abs(row["auc"] - 0.5) < 4 * np.sqrt(1 / 12 * 2 / 15_000)


@pytest.mark.parametrize("levels", [3, 10, 10_000])
def test_auc_equals_a_count_of_all_pairs(levels):
    reals, fakes = (np.round(p * levels) / levels for p in answers(1, n=173))
    pairs = (fakes[:, None] > reals).mean() + 0.5 * (fakes[:, None] == reals).mean()
    assert ratings.match_row(reals, fakes)["auc"] == pytest.approx(pairs, abs=1e-12)


def test_the_row_adds_up_with_unequal_sizes():
    row = ratings.match_row(np.array([0.1, 0.2, 0.9]), np.array([0.4, 0.6, 0.7, 0.8]))
    assert row["accuracy"] == pytest.approx((row["real_accuracy"] + row["fake_accuracy"]) / 2)
    assert (row["real_accuracy"], row["fake_accuracy"]) == (2 / 3, 3 / 4)


@pytest.mark.parametrize("bad", [[], [0.5, float("nan")], [[0.5]], [1.5], [-0.1], [float("inf")]])
def test_bad_answers_are_refused_by_name(bad):
    good = np.array([0.5])
    with pytest.raises(ValueError, match="real_probs"):
        ratings.match_row(np.array(bad), good)
    with pytest.raises(ValueError, match="fake_probs"):
        ratings.match_row(good, np.array(bad))


# -- ratings


def test_ratings_and_errors_agree_with_the_posterior_by_plain_monte_carlo():
    """Draws from the prior, weighted by the likelihood: slow and simple, and shares nothing with the fit."""
    rng = np.random.default_rng(5)
    results = np.array([(0, 2), (0, 3), (1, 2), (3, 1), (0, 2), (4, 2), (1, 4)])
    draws = rng.normal(1500, 350, (400_000, 5))
    gaps = draws[:, results[:, 0]] - draws[:, results[:, 1]]
    weights = np.prod(1 / (1 + 10 ** (-gaps / 400)), axis=1)
    mean = weights @ draws / weights.sum()
    deviation = np.sqrt(weights @ (draws - mean) ** 2 / weights.sum())
    values, errors = ratings.fit_ratings(5, results)
    np.testing.assert_allclose(values, mean, atol=6)  # of 350; the draws' own noise is about 1
    np.testing.assert_allclose(errors, deviation, rtol=0.02)


def test_ratings_order_entrants_as_the_likelihoods_peak_does():
    rng = np.random.default_rng(6)
    strengths = np.linspace(0, 2500, 6)
    pairs = rng.permuted(np.tile(np.arange(6), (300, 1)), axis=1)[:, :2]
    won = rng.random(300) < 1 / (1 + 10 ** ((strengths[pairs[:, 1]] - strengths[pairs[:, 0]]) / 400))
    results = np.where(won[:, None], pairs, pairs[:, ::-1])

    def loss(points):
        gaps = points[results[:, 0]] - points[results[:, 1]]
        return np.log1p(10 ** (-gaps / 400)).sum() + ((points - 1500) ** 2).sum() / (2 * 350**2)

    peak = minimize(loss, np.full(6, 1500.0), method="L-BFGS-B", options={"maxfun": 10**5}).x
    values, errors = ratings.fit_ratings(6, results)
    assert np.argsort(values).tolist() == np.argsort(peak).tolist() == list(range(6))
    assert (np.abs(values - peak) < 0.5 * errors).all()


def test_the_fit_leaves_numpys_global_generator_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = ratings.fit_ratings(2, np.array([[0, 1]]))
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.testing.assert_array_equal(first, ratings.fit_ratings(2, np.array([[0, 1]])))


def test_without_matches_the_rating_is_the_prior():
    values, errors = ratings.fit_ratings(3, np.empty((0, 2), dtype=int))
    np.testing.assert_allclose(values, 1500)
    np.testing.assert_allclose(errors, 350)


def test_intervals_hold_planted_strengths_at_their_nominal_rate():
    rng = np.random.default_rng(8)
    n, inside = 4, []
    pairs = np.array([(g, n + d) for g in range(n) for d in range(n)])
    for _ in range(150):
        truth = rng.normal(1500, 350, 2 * n)
        odds = 10 ** ((truth[pairs[:, 1]] - truth[pairs[:, 0]]) / 400)
        won = rng.random(len(pairs)) < 1 / (1 + odds)
        values, errors = ratings.fit_ratings(2 * n, np.where(won[:, None], pairs, pairs[:, ::-1]))
        inside.append(np.abs(values - truth) < 1.96 * errors)
    assert 0.92 < np.mean(inside) < 0.98


def test_planted_order_is_recovered():
    g, d = np.linspace(1100, 1900, 30), np.linspace(1900, 1100, 30)
    board = ratings.leaderboard(*league(g, d)).set_index("name")
    for side, truth in (("g", g), ("d", d)):
        fitted = board["rating"][[f"{side}{i:02}" for i in range(30)]]
        assert np.corrcoef(fitted, truth)[0, 1] > 0.9


def test_unbeaten_and_winless_entrants_stay_finite():
    board = ratings.leaderboard(*league([0, 0], [9000, 9000, 9000]))
    numbers = board[["rating", "rating_low", "rating_high"]].to_numpy()
    assert np.isfinite(numbers).all()
    assert (np.abs(numbers - 1500) < 1500).all()
    assert board["win_rate"].tolist() == [0, 0, 1, 1, 1]


# -- leaderboard


def test_the_leaderboard_follows_from_the_matches_with_pandas_alone():
    rng = np.random.default_rng(2)
    matches, people = league(rng.normal(1500, 300, 5), rng.normal(1500, 300, 4))
    board = ratings.leaderboard(matches, people)
    assert board.columns.tolist() == ratings.LEADERBOARD_COLUMNS
    assert len(board) == 9
    for row in board.to_dict("records"):
        mine = matches[matches[row["side"]] == row["name"]]
        assert row["played"] == len(mine) == row["wins"] + row["losses"]
        assert row["wins"] == (mine["winner"] == row["side"]).sum()
        assert row["win_rate"] == pytest.approx(row["wins"] / len(mine))
        assert row["mean_accuracy"] == pytest.approx(mine["accuracy"].mean())
        assert row["seen_accuracy"] == pytest.approx(mine.query("seen")["accuracy"].mean(), nan_ok=True)
        assert row["unseen_accuracy"] == pytest.approx(mine.query("not seen")["accuracy"].mean(), nan_ok=True)
        assert row["rating_low"] < row["rating"] < row["rating_high"]
    for _, side in board.groupby("side"):
        assert side["rank"].tolist() == list(range(1, len(side) + 1))
        assert side["win_rate"].is_monotonic_decreasing


def test_the_order_of_rows_does_not_matter():
    matches, people = league([1500, 1600, 1400], [1500, 1700, 1300])
    board = ratings.leaderboard(matches, people)
    shuffled = ratings.leaderboard(matches.sample(frac=1, random_state=1), people.sample(frac=1, random_state=2))
    pd.testing.assert_frame_equal(board, shuffled, check_exact=True)


def tie(**columns):
    """Two generators and two detectors with equal records; what else differs is given by column."""
    matches, people = league([1500, 1500], [1500, 1500])
    matches = matches.assign(winner="detector", accuracy=0.75)
    for name, values in columns.items():
        table = matches if name == "accuracy" else people
        table[name] = values
    board = ratings.leaderboard(matches, people)
    return [board["name"][board["side"] == side].tolist() for side in ratings.SIDES]


def test_ties_fall_to_accuracy_then_objective_then_name():
    assert tie() == [["g00", "g01"], ["d00", "d01"]]
    assert tie(accuracy=[0.8, 0.9, 0.6, 0.7]) == [["g01", "g00"], ["d01", "d00"]]
    assert tie(objective=[0.9, 0.2, 0.7, 0.8]) == [["g01", "g00"], ["d01", "d00"]]


def test_a_bye_counts_as_nothing_played():
    matches, people = league([1500], [1500])
    board = ratings.leaderboard(matches, pd.concat([people, entrants(["d09"])])).set_index("name")
    assert board.loc["d09", ["played", "wins", "losses", "rating"]].tolist() == [0, 0, 0, 1500]
    assert board.loc["d09", ["win_rate", "mean_accuracy", "seen_accuracy"]].isna().all()
    assert board.loc["d09", "rank"] == 2


def test_an_empty_league_has_a_table_too():
    board = ratings.leaderboard(pd.DataFrame(columns=ratings.MATCH_COLUMNS), entrants(["g00", "d00"]))
    assert board["played"].tolist() == [0, 0]
    assert ratings.leaderboard(pd.DataFrame(columns=ratings.MATCH_COLUMNS), entrants([])).empty


def test_a_table_survives_its_csv(tmp_path):
    matches, people = league([1500, 1600], [1500, 1700])
    matches.to_csv(tmp_path / "matches.csv", index=False)
    again = ratings.leaderboard(pd.read_csv(tmp_path / "matches.csv"), people)
    pd.testing.assert_frame_equal(again, ratings.leaderboard(matches, people), check_exact=True)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda m, e: (m.drop(columns="seen"), e), "lacks the columns"),
        (lambda m, e: (m, e.drop(columns="family")), "lacks the columns"),
        (lambda m, e: (m, pd.concat([e, e])), "twice"),
        (lambda m, e: (pd.concat([m, m]), e), "pair twice"),
        (lambda m, e: (m.assign(winner="nobody"), e), "winner"),
        (lambda m, e: (m, e.assign(side="both")), "side"),
        (lambda m, e: (m.assign(detector="d77"), e), "no entrants"),
    ],
)
def test_tables_that_do_not_fit_are_refused(spoil, message):
    with pytest.raises(ValueError, match=message):
        ratings.leaderboard(*spoil(*league([1500], [1500])))
