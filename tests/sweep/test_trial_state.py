"""A trial's files in its run's store: what it goes on from wherever it was cut off, and what is deleted when."""

import math
from types import SimpleNamespace

import pytest
import torch

from duel.errors import DuelError
from duel.sweep import run
from duel.sweep.job import States
from duel.sweep.trial import Trial

REPORTS = 4


class Counter:
    """A training that counts its reports, and remembers where it is."""

    def __init__(self):
        self.count = 0

    def run(self, images, every):
        while self.count < REPORTS:
            self.count += 1
            yield {"images": self.count * every, "seconds": 1.0, "auc": self.count / 10}

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


class Counting(Trial):
    """A trial of which only the training is left out."""

    def __init__(self, job):
        self.config = {"name": "d00-cnn", "family": "cnn", "settings": {}}
        self.setup(self.config, job)

    def _make_trainer(self, device, seed):
        return Counter()

    def _weights(self):
        return {"count": torch.tensor(self.trainer.count)}


@pytest.fixture
def job(tmp_path):
    sweep = SimpleNamespace(
        budget=SimpleNamespace(report_every=100, max_images=100 * REPORTS), worst=0.0, objective="auc"
    )
    return SimpleNamespace(sweep=sweep, room={"cpu": 1, "gpu": 0}, seed=1, heirs=False,
                           states=States(str(tmp_path), "this run"))  # fmt: skip


def step(trial, times):
    return [trial.step()["images"] for _ in range(times)]


def trainings(tmp_path):
    return sorted(path.name for path in tmp_path.glob("trials/d00-cnn/training/*"))


def test_a_trial_goes_on_from_its_last_report(job, tmp_path):
    assert step(Counting(job), 2) == [100, 200]
    assert trainings(tmp_path) == ["2.pt"], "the state names one training"
    again = Counting(job)
    assert step(again, REPORTS) == [100, 200, 300, 400]
    assert again.state["history"][-1]["done"]
    assert trainings(tmp_path) == [], "an ended trial keeps its weights alone"
    assert job.states.of_trial("d00-cnn")["weights"]["count"] == REPORTS


def test_a_worker_that_is_killed_between_its_two_files(job, tmp_path):
    """The newer training is there, the state that names it is not: the report is made again, from the older one."""
    trial = Counting(job)
    step(trial, 1)
    save = job.states.save

    def killed(name, value):
        if name.endswith("state.pt"):
            raise KeyboardInterrupt
        save(name, value)

    trial.states.save = killed
    with pytest.raises(KeyboardInterrupt):
        trial.step()
    assert trainings(tmp_path) == ["1.pt", "2.pt"]
    job.states = States(str(tmp_path), "this run")
    assert step(Counting(job), REPORTS) == [100, 200, 300, 400]
    assert trainings(tmp_path) == []


def test_a_trial_that_asha_stopped_repeats_its_reports_and_ends(job, tmp_path):
    """Its training was deleted when it was stopped: it must not begin anew."""
    step(Counting(job), 2)
    watcher = run._Watcher(None, SimpleNamespace(room=job.room, storage=str(tmp_path)))
    watcher._drop_training("d00-cnn")
    assert trainings(tmp_path) == []
    again = Counting(job)
    assert [(r["images"], r["done"]) for r in (again.step(), again.step())] == [(100, False), (200, True)]
    assert again.trainer is None


def test_a_training_that_is_missing_is_no_decision(job, tmp_path):
    """A process that was given up may still delete it: Tune starts the trial again, from what it finds then."""
    step(Counting(job), 2)
    job.states.store.remove("trials/d00-cnn/training")
    again = Counting(job)
    assert [again.step()["done"] for _ in range(2)] == [False, False]
    with pytest.raises(OSError, match=r"training/2.pt, which the trial is to go on from, is missing"):
        again.step()


def report(score, done=False):
    return {"failed": "", "mark": 100, "done": done, "auc": score, "images": 100, "seconds": 1.0}


@pytest.mark.parametrize(
    ("history", "fate", "crash", "status"),
    [
        ([report(0.7, done=True)], math.inf, None, "finished"),
        ([report(0.7)], 100, None, "stopped"),
        ([report(0.7)], math.inf, None, "stopped"),  # others, which had died for good, did better in this session
        ([report(0.7)], math.inf, "SIGKILL", "failed"),
        ([], math.inf, None, "failed"),
    ],
)
def test_what_becomes_of_a_trial(history, fate, crash, status):
    config = {"name": "d00-cnn", "family": "cnn", "settings": {}, "parent": "", "season": {}}
    job = SimpleNamespace(side="detector", season=1, sweep=SimpleNamespace(objective="auc", worst=0.0))
    outcome = run._outcome(job, config, history, fate, crash)
    assert outcome.status == status
    assert outcome.objective == (0.0 if status == "failed" else 0.7)


def test_a_state_of_another_run_is_not_this_runs(job, tmp_path):
    step(Counting(job), 2)
    assert States(str(tmp_path), "another run").of_trial("d00-cnn") is None
    job.states = States(str(tmp_path), "another run")
    assert Counting(job).state["history"] == []


@pytest.mark.parametrize("value", [{"history": []}, [1], torch.zeros(2)])
def test_a_file_of_no_run_is_not_this_runs(job, tmp_path, value):
    path = tmp_path / "trials" / "d00-cnn" / "state.pt"
    path.parent.mkdir(parents=True)
    torch.save(value, path)
    assert Counting(job).state["history"] == []


def test_a_trials_name_leads_nowhere_else(job):
    with pytest.raises(DuelError, match="no name of a run's file"):
        job.states.of_trial("../../d00-cnn")
