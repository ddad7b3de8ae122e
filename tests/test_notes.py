"""What a run says of itself is of the state it is in: nothing that was mended since stays in it."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from duel import season, stages
from duel.errors import DuelError
from duel.rules.tables import TRIALS
from duel.rundir import RunFolder
from duel.stages import League


class Said:
    """A progress view that keeps its notes."""

    def __init__(self):
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def end(self) -> None:
        pass


@pytest.fixture
def league(tmp_path):
    """A league as far as its notes go, resumed: an earlier session has left some, and a traceback."""
    run = RunFolder.create(
        tmp_path / "r", {"name": "r", "status": "running", "stages": [], "notes": ["2 images skipped"]}
    )
    (run.path / "error.txt").write_text("Traceback")
    (run.path / "index.html").write_text("of season 1")
    league = object.__new__(League)
    league.run, league.progress, league.storage, league.copied = run, Said(), str(run.path), lambda: True
    league.cluster = SimpleNamespace(joined=False)
    return league


def outcome(status: str, reason: str) -> SimpleNamespace:
    return SimpleNamespace(name="g01-dcgan", status=status, reason=reason, reports=[])


def test_a_trials_failure_is_said_and_stands_in_its_table_alone(league, monkeypatch):
    blank = dict.fromkeys(TRIALS.names, "")
    monkeypatch.setattr(season, "trial_row",
                        lambda o, *_: blank | {"trial": o.name, "status": o.status, "reason": o.reason})  # fmt: skip
    monkeypatch.setattr(season, "save_entrants", lambda *_: None)
    monkeypatch.setattr(season, "spent", lambda _: {})
    job = SimpleNamespace(sweep=SimpleNamespace(objective="kid"), image_size=16)
    season.keep(league, [outcome("failed", "its worker died")], job, "trials.csv", {})
    assert league.progress.notes == ["g01-dcgan failed: its worker died"]
    season.keep(league, [outcome("finished", "")], job, "trials.csv", {})
    assert pd.read_csv(league.run.path / "trials.csv")["status"].tolist() == ["finished"]
    assert "died" not in (league.run.path / "run.json").read_text()


@pytest.mark.parametrize(("broken", "told"), [(["a.jpg"], "1 images skipped, all listed in run.json: a.jpg (broken)"),
                                              ([], None)])  # fmt: skip
def test_notes_are_about_the_faces_of_this_session(league, broken, told):
    parts = {name: np.arange(20) for name in stages.PARTITIONS}
    skipped = [{"name": name, "reason": "broken"} for name in broken]
    manifest = {"source": "faces", "used": 80, "skipped": skipped}
    league._describe_faces(manifest, {name: 20 for name in parts}, parts)
    assert json.loads((league.run.path / "run.json").read_text())["notes"] == ([told] if told else [])
    assert league.progress.notes == ([told] if told else [])


def test_which_archives_of_a_folder_were_read_is_told(league):
    parts = {name: np.arange(20) for name in stages.PARTITIONS}
    manifest = {"source": "faces", "used": 80, "skipped": [], "archives": [f"{n}.tar" for n in range(5)],
                "passed_over": ["labels.parquet: no images"]}  # fmt: skip
    league._describe_faces(manifest, {name: 20 for name in parts}, parts)
    assert league.progress.notes == ["the images are from 0.tar, 1.tar, 2.tar and 2 more in faces",
                                     "not read: labels.parquet: no images"]  # fmt: skip


def finish(league, monkeypatch, write_report):
    monkeypatch.setattr(stages, "describe", lambda joined: SimpleNamespace(hardware=dict))
    monkeypatch.setattr(stages, "write_report", write_report)
    return league.finish()


def test_the_traceback_goes_once_the_run_has_ended_well(league, monkeypatch):
    finish(league, monkeypatch, lambda folder: folder / "index.html")
    assert not (league.run.path / "error.txt").exists()


def test_the_traceback_stays_and_an_old_report_goes_where_the_last_one_cant_be_written(league, monkeypatch):
    def full(folder):
        raise DuelError("No space left on device")

    with pytest.raises(DuelError):
        finish(league, monkeypatch, full)
    assert (league.run.path / "error.txt").exists()
    assert not (league.run.path / "index.html").exists(), "--resume would take it for the last one"
