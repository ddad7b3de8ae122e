"""Two seasons, started as a user starts them: who competes with whom, and what is kept."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def run(two_seasons) -> Path:
    return two_seasons


def table(run: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(run / name, keep_default_na=False)


def metrics(run: Path, name: str) -> dict:
    return json.loads((run / "models" / name / "metrics.json").read_text())


def test_each_season_has_its_trials_and_later_ones_start_from_earlier_entrants(run):
    trials = table(run, "trials.csv")
    assert trials.groupby(["season", "side"]).size().to_dict() == {
        (season, side): 3 for season in (1, 2) for side in ("generator", "detector")
    }
    season = trials.set_index("trial")["season"]
    first_entrants = set(trials[(trials["season"] == 1) & trials["entrant"]]["trial"])
    for row in trials.itertuples():
        assert row.trial.startswith("s2") == (row.season == 2)
        if row.season == 1:
            assert row.parent == ""
        elif row.side == "generator" or row.parent:
            assert row.parent in first_entrants
            assert season[row.parent] < row.season
            assert row.parent.endswith(row.family)


def test_every_pair_of_all_seasons_meets_once(run):
    trials, matches = table(run, "trials.csv"), table(run, "matches.csv")
    names = {side: set(trials[trials["entrant"] & (trials["side"] == side)]["trial"]) for side in trials["side"]}
    pairs = list(zip(matches["generator"], matches["detector"], strict=True))
    assert sorted(pairs) == sorted((g, d) for g in names["generator"] for d in names["detector"])


def test_the_first_season_is_the_league_of_one_season(run, tiny_run):
    """The hall of fame keeps its matches: the first season's rows are those of a run that ends there."""
    one, both = table(tiny_run[0], "matches.csv"), table(run, "matches.csv")
    season = table(run, "trials.csv").set_index("trial")["season"]
    first = both[(both["generator"].map(season) == 1) & (both["detector"].map(season) == 1)]
    pd.testing.assert_frame_equal(first[one.columns].reset_index(drop=True), one)


def test_detectors_of_the_second_season_trained_on_fakes_of_both(run):
    trials = table(run, "trials.csv")
    known = set(trials[trials["entrant"] & (trials["side"] == "generator")]["trial"])
    later = trials[trials["entrant"] & (trials["side"] == "detector") & (trials["season"] == 2)]["trial"]
    sparring = [metrics(run, name)["sparring"] for name in later]
    assert all(set(fakes) <= known and sum(fakes.values()) == 256 for fakes in sparring)  # as many as reals
    assert {name.startswith("s2") for fakes in sparring for name in fakes} == {True, False}


def test_twins_differ_from_their_entrant_in_one_thing_and_stay_out_of_the_league(run):
    trials, twins = table(run, "trials.csv"), table(run, "twins.csv")
    assert set(twins["kind"]) == {"no-evasion", "no-replay", "no-rivals"}
    assert not set(twins["trial"]) & set(table(run, "leaderboard.csv")["name"])
    entrants = trials.set_index("trial")
    for twin in twins.itertuples():
        entrant = entrants.loc[twin.twin_of]
        assert twin.trial == f"{twin.twin_of}.{twin.kind}"
        assert twin.images == entrant["images"]
        mine, theirs = json.loads(twin.settings), json.loads(entrant["settings"])
        if twin.kind == "no-evasion":
            assert (mine.pop("evasion"), theirs.pop("evasion") > 0) == (0.0, True)
        assert mine == theirs
    fakes = {kind: set(metrics(run, name)["sparring"]) for kind, name in zip(twins["kind"], twins["trial"], strict=True)
             if kind != "no-evasion"}  # fmt: skip
    assert all(name.startswith("s2") for name in fakes["no-replay"])
    assert not any(name.startswith("s2") for name in fakes["no-rivals"])


def test_twins_meet_all_entrants_of_the_other_side_and_no_twin(run):
    trials, twins, matches = (table(run, name) for name in ("trials.csv", "twins.csv", "twin_matches.csv"))
    is_twin = {side: matches[side].isin(twins["trial"]) for side in ("generator", "detector")}
    assert (is_twin["generator"] != is_twin["detector"]).all()
    counts = trials[trials["entrant"]]["side"].value_counts()
    for side, other in (("generator", "detector"), ("detector", "generator")):
        assert is_twin[side].sum() == (twins["side"] == side).sum() * counts[other]


def test_generators_name_the_panel_that_they_trained_against(run):
    trials, scouting = table(run, "trials.csv"), table(run, "scouting.csv")
    later = trials[trials["entrant"] & (trials["side"] == "generator") & (trials["season"] == 2)]["trial"]
    for name in later:
        assert metrics(run, name)["panel"]
        assert set(metrics(run, name)["panel"]) <= set(scouting["detector"])
        assert all(0 <= report["caught"] <= 1 for report in metrics(run, name)["history"])


def test_weather_and_guard_reach_the_leaderboard(run):
    board, guard = table(run, "leaderboard.csv"), table(run, "guard.csv")
    matches = pd.read_csv(run / "matches.csv")
    means = matches.groupby("detector")["accuracy_noise8"].mean()
    detectors = board[board["side"] == "detector"].set_index("name")
    assert np.allclose(detectors["accuracy_noise8"].astype(float), means[detectors.index])
    assert sorted(guard["name"]) == sorted(board[board["side"] == "generator"]["name"])
    assert guard["mark"].eq("not faces").any()  # 768 images teach nobody what a face is
