"""A whole league, started as a user starts it: its files add up, and nothing in them was made up elsewhere."""

import json

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from league_runs import TINY
from PIL import Image

from duel.checkpoint import load_model
from duel.config import load_sweep
from duel.plan import make_plan
from duel.speeds import cautious_speeds


def test_the_last_line_is_the_reports_path(tiny_run):
    folder, done = tiny_run
    assert done.stdout.splitlines()[-1] == str(folder / "index.html")
    assert (folder / "index.html").stat().st_size > 10_000


def test_output_on_a_non_terminal_is_plain_and_only_ours(tiny_run):
    _, done = tiny_run
    text = done.stdout + done.stderr
    assert "\x1b" not in text
    for foreign in ("WARNING", "Warning", "ray::", "raylet", "(pid=", "Traceback", "[I "):
        assert foreign not in text


def test_trials_are_half_generators_half_detectors_and_all_accounted_for(tiny_run):
    trials = pd.read_csv(tiny_run[0] / "trials.csv")
    assert list(trials["side"]) == ["generator"] * 3 + ["detector"] * 3
    assert set(trials["status"]) <= {"finished", "stopped", "failed"}
    assert np.isfinite(trials["objective"]).all()
    assert (trials["entrant"] == (trials["status"] == "finished")).all()
    entrants = trials[trials["entrant"]]
    assert (entrants["images"] >= entrants["side"].map({"generator": 768, "detector": 1024})).all()
    assert trials[trials["side"] == "generator"]["feature_network"].notna().all()


def test_every_entrant_rebuilds_itself(tiny_run):
    trials = pd.read_csv(tiny_run[0] / "trials.csv")
    entrants = trials[trials["entrant"]]
    assert sorted(p.name for p in (tiny_run[0] / "models").iterdir()) == sorted(entrants["trial"])
    for row in entrants.itertuples():
        model, config = load_model(tiny_run[0] / "models" / row.trial)
        assert (config["side"], config["family"], config["image_size"]) == (row.side, row.family, 16)
        inputs = torch.randn(2, model.latent) if row.side == "generator" else torch.rand(2, 3, 16, 16)
        assert model(inputs).shape == ((2, 3, 16, 16) if row.side == "generator" else (2,))


def test_every_match_adds_up(tiny_run):
    matches, trials = pd.read_csv(tiny_run[0] / "matches.csv"), pd.read_csv(tiny_run[0] / "trials.csv")
    counts = trials[trials["entrant"]]["side"].value_counts()
    assert len(matches) == counts["generator"] * counts["detector"]
    assert (matches["n_real"] == 256).all()
    assert (matches["n_fake"] == 256).all()
    mean = (matches["real_accuracy"] + matches["fake_accuracy"]) / 2
    assert np.allclose(matches["accuracy"], mean, atol=1e-12)
    assert (matches["winner"] == np.where(matches["accuracy"] >= 0.5, "detector", "generator")).all()


def test_a_match_is_seen_when_the_detector_trained_on_the_generator(tiny_run):
    matches = pd.read_csv(tiny_run[0] / "matches.csv")
    for row in matches.itertuples():
        metrics = json.loads((tiny_run[0] / "models" / row.detector / "metrics.json").read_text())
        assert row.seen == (row.generator in metrics["sparring"])


def test_the_leaderboard_follows_from_the_matches_by_pandas_alone(tiny_run):
    matches, board = pd.read_csv(tiny_run[0] / "matches.csv"), pd.read_csv(tiny_run[0] / "leaderboard.csv")
    for side in ("generator", "detector"):
        won = (matches["winner"] == side).groupby(matches[side])
        accuracy = matches.groupby(side)["accuracy"].mean()
        table = board[board["side"] == side].set_index("name").loc[accuracy.index]
        assert (table["played"] == won.size()).all()
        assert (table["wins"] == won.sum()).all()
        assert (table["losses"] == won.size() - won.sum()).all()
        assert np.allclose(table["win_rate"], won.mean())
        assert np.allclose(table["mean_accuracy"], accuracy)
        assert list(board[board["side"] == side]["rank"]) == list(range(1, len(table) + 1))
        assert board[board["side"] == side]["win_rate"].is_monotonic_decreasing
        assert (table["rating_low"] < table["rating"]).all()
        assert (table["rating"] < table["rating_high"]).all()


def test_run_json_says_what_ran_on_what(tiny_run):
    data = json.loads((tiny_run[0] / "run.json").read_text())
    assert data["status"] == "complete"
    assert data["seed"] == 7
    assert data["faces"]["partitions"] == {
        "generator_train": 512,
        "detector_train": 256,
        "validation": 128,
        "league": 256,
    }
    assert all(stage["finished"] for stage in data["stages"])
    assert set(data["yardsticks"]) == {"kid_noise", "kid_untrained", "kid_reals"}
    assert abs(data["yardsticks"]["kid_reals"]) < 0.1 < data["yardsticks"]["kid_noise"]


def test_the_plan_says_at_least_what_the_run_takes_on_disk(tiny_run):
    """Of what grows with the sweep; at its end, the trials' states have gone."""
    parts = ("models", "work/fakes")
    taken = sum(path.stat().st_size for part in parts for path in (tiny_run[0] / part).rglob("*") if path.is_file())
    plan = make_plan(load_sweep(TINY), 4, 1, 0, cautious_speeds(16), {"generator": 2, "detector": 2})
    assert taken < plan.disk_bytes < 4 * taken


def test_pictures_show_the_fakes(tiny_run):
    trials = pd.read_csv(tiny_run[0] / "trials.csv")
    for name in trials[trials["entrant"] & (trials["side"] == "generator")]["trial"]:
        assert Image.open(tiny_run[0] / "fakes" / f"{name}.png").width >= 8 * 16
        with Image.open(tiny_run[0] / "fakes" / f"{name}.gif") as animation:
            assert animation.n_frames == 4  # before training, and after each of its three reports
    assert (tiny_run[0] / "fakes" / "reals.png").exists()


def test_the_optuna_study_opens_and_knows_every_trial(tiny_run):
    storage = f"sqlite:///{tiny_run[0] / 'optuna.db'}"
    trials = pd.read_csv(tiny_run[0] / "trials.csv")
    for side in ("generator", "detector"):
        study = optuna.load_study(study_name=f"{side}s", storage=storage)
        rows = trials[trials["side"] == side]
        states = {"finished": "COMPLETE", "stopped": "PRUNED", "failed": "COMPLETE"}
        assert [t.state.name for t in study.trials] == [states[s] for s in rows["status"]]
        for trial, row in zip(study.trials, rows.itertuples(), strict=True):
            assert trial.user_attrs["chosen"]["settings"] == json.loads(row.settings)
            if row.status == "finished":
                assert trial.value == pytest.approx(row.objective)


def test_tensorboard_reads_tunes_files(tiny_run):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = next((tiny_run[0] / "tune" / "generators").glob("g01-*"))
    events = reader.EventAccumulator(str(folder))
    events.Reload()
    assert len(events.Scalars("ray/tune/objective")) == 3


def test_real_photographs(photographs):
    data = json.loads((photographs / "run.json").read_text())
    assert data["faces"]["kind"] == "folder"
    assert data["faces"]["found"] == 20_000
    assert len(pd.read_csv(photographs / "matches.csv")) == 1
