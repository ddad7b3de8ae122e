"""Run one side's sweep with Ray Tune, and say what became of every trial."""

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from ray import tune
from sqlalchemy import URL

from duel.errors import DuelError
from duel.progress import Watch
from duel.store import Store, join
from duel.sweep.search import Ledger, OrderedHalving, OrderedSearch, trial_name
from duel.sweep.trial import DetectorTrial, GeneratorTrial, Job, read_state

TRIALS = {"generator": GeneratorTrial, "detector": DetectorTrial}


@dataclass(frozen=True)
class Outcome:
    """What became of one trial. status: finished (an entrant of the league), stopped (by ASHA) or failed.

    history: its reports up to its end; a stopped trial may have made more, which `reports` holds too.
    """

    name: str
    side: str
    family: str
    settings: dict[str, Any]
    status: str
    reason: str
    objective: float
    images: int
    seconds: float
    history: list[dict[str, Any]]
    reports: list[dict[str, Any]]


class _Watcher(tune.Callback):
    """Passes on to the progress view what Tune tells its callbacks."""

    def __init__(self, watch: Watch, at_work: Callable[[], None] | None):
        self._watch, self._at_work = watch, at_work

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks, and a terminal view has locks that can't be

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        if self._at_work:
            self._at_work()
        self._watch.trial_report(trial.config["name"], result["images"], result["objective"])

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._watch.trial_ended(trial.config["name"])

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._watch.trial_ended(trial.config["name"])


def run_sweep(job: Job, count: int, folder: Path, max_failures: int,
              watch: Watch, at_work: Callable[[], None] | None = None) -> list[Outcome]:  # fmt: skip
    """Run `count` trials of job.side and return their outcomes by trial number.

    folder: the run's folder; the Optuna study is kept there in optuna.db, as study `generators` or `detectors`.
    A sweep that was interrupted goes on: see duel.sweep.trial.
    max_failures: how often a trial whose worker died is started again.
    at_work: called with every report, so first when trials have taken the cores that they want.
    """
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(job.sweep.max_concurrent)
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C ends the whole run, not one sweep
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ledger = Ledger(job.sweep)
    storage = optuna.storages.RDBStorage(
        URL.create("sqlite", database=str(folder / "optuna.db")).render_as_string(),
        engine_kwargs={"connect_args": {"timeout": 60}},
    )
    search = OrderedSearch(job.side, job.sweep, count, ledger, storage, job.seed)
    trainable = tune.with_resources(tune.with_parameters(TRIALS[job.side], job=job), job.room)
    results = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=search, scheduler=OrderedHalving(ledger), num_samples=count, reuse_actors=True,
            trial_name_creator=_name_of, trial_dirname_creator=_name_of,
        ),
        run_config=tune.RunConfig(
            name=f"{job.side}s", storage_path=join(job.storage, "tune"), verbose=0,
            callbacks=[_Watcher(watch, at_work)],
            failure_config=tune.FailureConfig(max_failures=max_failures),
            # Trials keep their own state: see duel.sweep.trial.
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
        ),
    ).fit()  # fmt: skip
    search.finish()
    ended = [results[i] for i in range(len(results))]
    crashes = {Path(r.path).name: " ".join(str(r.error).split())[-300:] for r in ended if r.error is not None}
    outcomes = _outcomes(job, ledger, storage, crashes)
    if len(outcomes) != count:
        raise DuelError(f"the {job.side} sweep ended after {len(outcomes)} of {count} trials; --resume goes on with it")
    return outcomes


def _name_of(trial: Any) -> str:
    return trial.config["name"]


def _outcomes(job: Job, ledger: Ledger, storage: optuna.storages.BaseStorage, crashes: dict[str, str]) -> list[Outcome]:
    store = Store(job.storage)
    study = optuna.load_study(study_name=f"{job.side}s", storage=storage)
    outcomes = []
    for fate, trial in zip(ledger.fates(), study.get_trials(deepcopy=False), strict=False):
        chosen = trial.user_attrs["chosen"]
        name = trial_name(job.side, trial.number, chosen["family"])
        history = (read_state(store, name) or {"history": []})["history"]
        outcomes.append(_outcome(job, name, chosen, history, fate, crashes.get(name)))
    return outcomes


def _outcome(job: Job, name: str, chosen: dict, history: list[dict], fate: Any, crash: str | None) -> Outcome:
    # A trial that ASHA stops may have trained on until earlier trials' scores came in: that does not count.
    last_mark = fate if fate is not None else math.inf
    measured = [entry for entry in history if not entry["failed"] and entry["mark"] <= last_mark]
    reason = next((entry["failed"] for entry in history if entry["failed"] and entry["mark"] <= last_mark), "")
    if fate is None:
        raise DuelError(f"trial {name} neither ended nor failed; --resume goes on with it")
    if fate == math.inf and not reason and not (history and history[-1]["done"]):
        reason = "its worker died" + (f": {crash}" if crash else "")
    if reason:
        status, objective = "failed", job.sweep.worst
    else:
        status, objective = "finished" if fate == math.inf else "stopped", measured[-1]["objective"]
    last = measured[-1] if measured else {"images": 0, "seconds": 0.0}
    return Outcome(name, job.side, chosen["family"], chosen["settings"], status, reason, float(objective),
                   int(last["images"]), float(last["seconds"]), measured, history)  # fmt: skip


def trial_row(outcome: Outcome, objective_name: str, feature_network: str) -> dict[str, Any]:
    """The outcome as a row of trials.csv."""
    return {
        "trial": outcome.name,
        "side": outcome.side,
        "family": outcome.family,
        "status": outcome.status,
        "reason": outcome.reason,
        "objective_name": objective_name,
        "objective": outcome.objective,
        "images": outcome.images,
        "seconds": round(outcome.seconds, 3),
        "entrant": outcome.status == "finished",
        "settings": json.dumps(outcome.settings, sort_keys=True),
        "feature_network": feature_network if objective_name == "kid" else "",
    }
