"""The leaderboard and the tables drawn from many matches, against planted cases and plain pandas."""

import numpy as np
import pandas as pd
import pytest

from duel.rules import standings
from duel.rules.match import SIDES, match_row
from duel.rules.tables import LEADERBOARD, MATCHES


def league(strength_g, strength_d, seed=0, images=200):
    """A round robin in which fakes are caught by the Rasch model, strengths in points; reals at 80 %."""
    rng = np.random.default_rng(seed)
    rows = []
    for i, g in enumerate(strength_g):
        for j, d in enumerate(strength_d):
            fakes = np.where(rng.random(images) < 1 / (1 + 10 ** ((g - d) / 400)), 0.9, 0.1)
            reals = np.where(rng.random(images) < 0.8, 0.2, 0.7)
            seen = (i + j) % 3 == 0
            row = match_row(reals, fakes) | {"seen": seen, "family_seen": seen or j % 2 == 0}
            rows.append({"generator": f"g{i:02}", "detector": f"d{j:02}"} | row)
    names = [f"g{i:02}" for i in range(len(strength_g))] + [f"d{j:02}" for j in range(len(strength_d))]
    return pd.DataFrame(rows, columns=MATCHES.names), entrants(names)


def entrants(names, **columns):
    side = ["generator" if n.startswith("g") else "detector" for n in names]
    objective = ["kid" if s == "generator" else "auc" for s in side]
    known = {"name": names, "side": side, "family": "any", "season": 1, "objective_name": objective}
    return pd.DataFrame({**known, "objective": 0.5, "feature_network": "none", **columns})


def test_the_leaderboard_follows_from_the_matches_with_pandas_alone():
    rng = np.random.default_rng(2)
    matches, people = league(rng.normal(1500, 300, 5), rng.normal(1500, 300, 4))
    board = standings.leaderboard(matches, people)
    assert board.columns.tolist() == LEADERBOARD.names
    assert len(board) == 9
    for row in board.to_dict("records"):
        mine = matches[matches[row["side"]] == row["name"]]
        assert row["played"] == len(mine) == row["wins"] + row["losses"]
        assert row["wins"] == (mine["winner"] == row["side"]).sum()
        assert row["win_rate"] == pytest.approx(row["wins"] / len(mine))
        assert row["mean_accuracy"] == pytest.approx(mine["accuracy"].mean())
        assert row["seen_accuracy"] == pytest.approx(mine.query("seen")["accuracy"].mean(), nan_ok=True)
        assert row["unseen_accuracy"] == pytest.approx(mine.query("not seen")["accuracy"].mean(), nan_ok=True)
        known_family = mine["family_seen"].astype(bool)
        assert row["new_family_accuracy"] == pytest.approx(mine["accuracy"][~known_family].mean(), nan_ok=True)
        for number in ("real_accuracy", "fake_accuracy", "auc", "calibration_error"):
            assert row[f"mean_{number}"] == pytest.approx(mine[number].mean())
        assert row["rating_low"] < row["rating"] < row["rating_high"]
        assert row["rating"] == round(row["rating"])
    for _, side in board.groupby("side"):
        assert side["rank"].tolist() == list(range(1, len(side) + 1))
        assert side["win_rate"].is_monotonic_decreasing


def test_the_order_of_rows_does_not_matter():
    matches, people = league([1500, 1600, 1400], [1500, 1700, 1300])
    board = standings.leaderboard(matches, people)
    shuffled = standings.leaderboard(matches.sample(frac=1, random_state=1), people.sample(frac=1, random_state=2))
    pd.testing.assert_frame_equal(board, shuffled, check_exact=True)


def tie(**columns):
    """Two generators and two detectors with equal records; what else differs is given by column."""
    matches, people = league([1500, 1500], [1500, 1500])
    matches = matches.assign(winner="detector", accuracy=0.75, fake_accuracy=0.8)
    for name, values in columns.items():
        table = matches if name == "accuracy" else people
        table[name] = values
    board = standings.leaderboard(matches, people)
    return [board["name"][board["side"] == side].tolist() for side in SIDES]


def test_ties_fall_to_accuracy_then_objective_then_name():
    assert tie() == [["g00", "g01"], ["d00", "d01"]]
    assert tie(accuracy=[0.8, 0.9, 0.6, 0.7]) == [["g01", "g00"], ["d01", "d00"]]
    assert tie(objective=[0.9, 0.2, 0.7, 0.8]) == [["g01", "g00"], ["d01", "d00"]]


def test_a_bye_counts_as_nothing_played():
    matches, people = league([1500], [1500])
    matches["fake_accuracy"] = 0.5
    board = standings.leaderboard(matches, pd.concat([people, entrants(["d09"])])).set_index("name")
    assert board.loc["d09", ["played", "wins", "losses", "rating"]].tolist() == [0, 0, 0, 1500]
    assert board.loc["d09", ["win_rate", "mean_accuracy", "seen_accuracy"]].isna().all()
    assert board.loc["d09", "rank"] == 2


def test_an_empty_league_has_a_table_too():
    board = standings.leaderboard(pd.DataFrame(columns=MATCHES.names), entrants(["g00", "d00"]))
    assert board["played"].tolist() == [0, 0]
    assert standings.leaderboard(pd.DataFrame(columns=MATCHES.names), entrants([])).empty


def test_a_table_survives_its_csv(tmp_path):
    matches, people = league([1500, 1600], [1500, 1700])
    matches.to_csv(tmp_path / "matches.csv", index=False)
    again = standings.leaderboard(pd.read_csv(tmp_path / "matches.csv"), people)
    pd.testing.assert_frame_equal(again, standings.leaderboard(matches, people), check_exact=True)


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
        standings.leaderboard(*spoil(*league([1500], [1500])))


def test_planted_strengths_lie_in_their_intervals():
    g, d = np.linspace(1300, 1700, 12), np.linspace(1700, 1300, 12)
    board = standings.leaderboard(*league(g, d, images=400)).set_index("name")
    for side, truth in (("g", g), ("d", d)):
        found = board.loc[[f"{side}{i:02}" for i in range(12)]]
        assert np.corrcoef(found["rating"], truth)[0, 1] > 0.99
        assert ((found["rating_low"] <= truth) & (truth <= found["rating_high"])).mean() > 0.8


def test_an_entrant_that_was_never_caught_stays_finite():
    board = standings.leaderboard(*league([9000, 1500], [1500, 1500, 1500]))
    numbers = board[["rating", "rating_low", "rating_high"]].to_numpy()
    assert np.isfinite(numbers).all()
    assert (np.abs(numbers - 1500) < 2500).all()


def test_a_win_by_a_hair_and_one_by_far_differ_in_rating():
    matches, people = league([1500], [1500, 1500])
    matches["fake_accuracy"] = [0.99, 0.75]
    ratings = standings.leaderboard(matches, people).set_index("name")["rating"]
    assert ratings["d00"] > ratings["d01"] + 300


def test_later_seasons_are_rated_on_the_scale_of_the_first():
    g, d = [1450, 1550, 1700, 1800], [1400, 1600, 1500, 1900]
    matches, people = league(g, d, images=4000)
    people["season"] = [1, 1, 2, 2] * 2
    first = people[people["season"] == 1]
    early = matches[matches["generator"].isin(first["name"]) & matches["detector"].isin(first["name"])]
    before = standings.leaderboard(early, first).set_index("name")
    after = standings.leaderboard(matches, people).set_index("name")
    assert after["rating"][first["name"]].mean() == pytest.approx(before["rating"].mean(), abs=0.5) == 1500
    truth = dict(zip(people["name"], [*g, *d], strict=True))
    for name, row in after.iterrows():
        assert row["rating"] == pytest.approx(truth[name], abs=25)
        assert row["season"] == people.set_index("name")["season"][name]


def test_the_guards_findings_go_to_generators_alone():
    matches, people = league([1500, 1500], [1500])
    guard = pd.DataFrame([["g01", 0.1, 0.2, 0.3, 0.4, 0.5, "not faces"]], columns=["name", *standings.GUARDED])
    board = standings.leaderboard(matches, people, guard).set_index("name")
    assert board.loc["g01", standings.GUARDED].tolist() == [0.1, 0.2, 0.3, 0.4, 0.5, "not faces"]
    assert board.loc[["g00", "d00"], standings.GUARDED[:-1]].isna().all(axis=None)
    assert board.loc[["g00", "d00"], "mark"].tolist() == ["", ""]
    pd.testing.assert_frame_equal(
        board.drop(columns=standings.GUARDED),
        standings.leaderboard(matches, people).set_index("name").drop(columns=standings.GUARDED),
    )


def test_weather_is_averaged_through():
    matches, people = league([1500, 1500], [1500])
    board = standings.leaderboard(matches.assign(accuracy_jpeg50=[0.6, 0.9], accuracy_blur1=0.7), people)
    assert board.columns.tolist() == [*LEADERBOARD.names, "accuracy_jpeg50", "accuracy_blur1"]
    assert board.set_index("name")["accuracy_jpeg50"].to_dict() == pytest.approx({"g00": 0.6, "g01": 0.9, "d00": 0.75})


def test_tables_from_before_there_were_seasons_are_of_the_first():
    matches, people = league([1500, 1600], [1500, 1700])
    for old in (matches.drop(columns="family_seen"), matches.assign(family_seen=np.nan)):
        board = standings.leaderboard(old, people.drop(columns="season"))
        assert set(board["season"]) == {1}
        assert board["new_family_accuracy"].isna().all()
        pd.testing.assert_series_equal(board["rating"], standings.leaderboard(matches, people)["rating"])


# -- seasons, families, and who is new to whom


def test_the_race_is_the_mean_of_each_pair_of_seasons():
    matches, people = league([1500] * 4, [1500] * 4)
    people["season"] = [1, 1, 2, 3] * 2
    table = standings.race(matches.sample(frac=1, random_state=0), people)
    assert len(table) == 9
    season = people.set_index("name")["season"]
    for row in table.to_dict("records"):
        cell = matches[
            (matches["generator"].map(season) == row["generators"])
            & (matches["detector"].map(season) == row["detectors"])
        ]
        assert row["matches"] == len(cell)
        assert row["accuracy"] == pytest.approx(cell["accuracy"].mean())
        assert row["fake_accuracy"] == pytest.approx(cell["fake_accuracy"].mean())


def test_a_control_is_a_group_of_its_own_and_strangers_are_left_out():
    matches, people = league([1500] * 3, [1500] * 2)
    groups = people[["name", "season"]].astype({"season": object})
    groups.loc[groups["name"] == "g01", "season"] = "2, evasion off"
    table = standings.race(matches, groups[groups["name"] != "g02"])
    assert set(table["generators"]) == {1, "2, evasion off"}
    assert table["matches"].tolist() == [2, 2]
    assert standings.race(matches.head(0), groups).columns.tolist() == standings.RACE_COLUMNS


def test_every_familys_best_comes_before_any_familys_second():
    trials = pd.DataFrame({"trial": list("abcdef"), "family": ["cnn", "cnn", "patch", "cnn", "probe", "patch"]})
    assert standings.best_of_each(trials) == ["a", "c", "e", "b", "f", "d"]
    assert standings.best_of_each(trials.head(0)) == []


def test_leaving_families_out_counts_only_the_family_that_was_left_out():
    families = {"g00": "dcgan", "g01": "dcgan", "g02": "sagan"}
    matches, _ = league([1500] * 3, [1500] * 3)
    matches["accuracy"] = [0.9, 0.8, 0.7, 0.5, 0.4, 0.3, 0.66, 0.55, 0.44]
    twins = pd.DataFrame(
        {
            "trial": ["d00", "d01", "d02"], "twin_of": ["d07-cnn", "d07-cnn", "d07-cnn"], "family": "cnn",
            "kind": ["without-dcgan", "without-sagan", "no-replay"],
        }
    )  # fmt: skip
    table = standings.leave_one_out(matches, twins, families)
    assert table.columns.tolist() == ["detector", "family", "dcgan", "sagan", "mean"]
    assert table[["detector", "family"]].to_numpy().tolist() == [["d07-cnn", "cnn"]]
    assert table[["dcgan", "sagan", "mean"]].to_numpy().tolist() == [pytest.approx([0.7, 0.55, 0.625])]
    assert standings.leave_one_out(matches.head(0), twins, families).empty
    assert standings.leave_one_out(matches, twins.head(0), families).empty


def test_the_split_is_by_what_the_detector_knew():
    matches, _ = league([1500] * 3, [1500] * 3)
    table = standings.split(matches).set_index("split")
    assert table.index.tolist() == ["seen", "unseen", "new family"]
    known, family = matches["seen"].astype(bool), matches["family_seen"].astype(bool)
    for name, part in (("seen", matches[known]), ("unseen", matches[~known]), ("new family", matches[~family])):
        assert table.loc[name, "matches"] == len(part) > 0
        for number in standings.SHARES:
            assert table.loc[name, number] == pytest.approx(part[number].mean())
    assert standings.split(matches.head(0))["matches"].tolist() == [0, 0, 0]
