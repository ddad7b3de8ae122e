"""Run one side's sweep with Ray Tune, and say what became of every trial."""

import json
import math
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import ConcurrencyLimiter, Searcher
from sqlalchemy import URL

from duel.errors import DuelError
from duel.progress import Watch
from duel.store import Store
from duel.sweep import controller
from duel.sweep.detectors import DetectorTrial
from duel.sweep.generators import GeneratorTrial
from duel.sweep.job import Job, stopped_name, training_folder
from duel.sweep.search import Ledger, Listed, OrderedHalving, OrderedSearch
from duel.sweep.space import Parent, SearchSpace
from duel.tasks import SILENCE, drain_dead_nodes, why_waiting

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
    season: int
    parent: str
    competing: dict[str, Any]
    twin_of: str
    kind: str
    status: str
    reason: str
    objective: float
    images: int
    seconds: float
    history: list[dict[str, Any]]
    reports: list[dict[str, Any]]


class _Watcher(tune.Callback):
    """Passes on to the progress view what Tune tells its callbacks, and says so when it has nothing to tell.

    A trial that has got on since its last failure starts with a clean slate: in a long run on spot machines each
    trial loses its machine more often than a trial that is broken may fail.
    """

    def __init__(self, watch: Watch, job: Job, at_work: Callable[[], None] | None = None):
        self._watch, self._room, self._at_work = watch, job.room, at_work
        self._store = Store(job.storage, patience=0)
        self._silent_until = time.monotonic() + SILENCE  # for as long as no trial has begun
        self._furthest: dict[str, int] = {}  # trial -> images of its furthest report

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks, and a terminal view has locks that can't be

    def on_step_begin(self, iteration: int, trials: list, **info: Any) -> None:
        if time.monotonic() > self._silent_until:
            self._silent_until = math.inf
            self._watch.note(why_waiting(self._room))

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._silent_until = math.inf

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        if self._at_work:
            self._at_work()
        if result["images"] > self._furthest.get(trial.config["name"], 0):
            self._furthest[trial.config["name"]] = result["images"]
            trial.run_metadata.num_failures = 0
        self._watch.trial_report(trial.config["name"], result["images"], result["objective"])
        if result.get("note"):
            self._watch.note(f"{trial.config['name']}: {result['note']}")

    def on_trial_recover(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        # Twice and no report between: its node may be one on which all die, and Tune would start it there again.
        if trial.num_failures >= min(2, trial.max_failures) and drain_dead_nodes(self._watch.note):
            trial.run_metadata.num_failures = 0

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._watch.trial_ended(trial.config["name"])
        self._drop_training(trial.config["name"])

    def _drop_training(self, name: str) -> None:
        """Of a trial that ASHA has stopped, or that has ended: what it needs to train on is most of its state."""
        with suppress(OSError):  # then it goes with the trial's state, at the end of the stage
            self._store.write(stopped_name(name), b"")
            self._store.remove(training_folder(name))

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        drain_dead_nodes(self._watch.note)  # so that the next trial does not end there as well
        self._watch.trial_ended(trial.config["name"])


def run_sweep(job: Job, parents: list[Parent], count: int, folder: Path, max_failures: int,
              watch: Watch, at_work: Callable[[], None] | None = None) -> list[Outcome]:  # fmt: skip
    """Run `count` trials of job.side and return their outcomes by trial number.

    parents: what trials of season 2 and later may start from.
    folder: the run's folder; the Optuna study is kept there in optuna.db, see SearchSpace.study.
    A sweep that was interrupted goes on: see duel.sweep.trial.
    max_failures: how often a trial whose worker died is started again without a new report in between.
    at_work: called with every report, so first when trials have taken the cores that they want.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space, ledger = SearchSpace(job.side, job.sweep, job.season, parents), Ledger(job.sweep)
    storage = optuna.storages.RDBStorage(
        URL.create("sqlite", database=str(folder / "optuna.db")).render_as_string(),
        engine_kwargs={"connect_args": {"timeout": 60}},
    )
    search = OrderedSearch(space, count, ledger, storage, job.seed)
    watcher = _Watcher(watch, job, at_work)
    crashes = _fit(job, folder, space.study, count, search, OrderedHalving(ledger), max_failures, watcher)
    search.finish()
    study = optuna.load_study(study_name=space.study, storage=storage)
    chosen = [trial.user_attrs["chosen"] for trial in study.get_trials(deepcopy=False)]
    configs = [{"name": space.name(number, c["family"]), **c} for number, c in enumerate(chosen)]
    return _all_of(_outcomes(job, configs, ledger.fates(), crashes), count, space.study)


def run_twins(job: Job, configs: list[dict[str, Any]], name: str, folder: Path, max_failures: int,
              watch: Watch) -> list[Outcome]:  # fmt: skip
    """Train again what entrants trained, each with one thing changed; every twin gets its whole budget.

    configs: a trial's config each, as `run_sweep` draws it, with `name`, `twin_of` and `kind`. name: of the stage.
    """
    search, watcher = ConcurrencyLimiter(Listed(configs), job.sweep.max_concurrent), _Watcher(watch, job)
    place = re.sub(r"[^a-z0-9]+", "-", name)
    crashes = _fit(job, folder, place, len(configs), search, FIFOScheduler(), max_failures, watcher)
    return _all_of(_outcomes(job, configs, [math.inf] * len(configs), crashes), len(configs), name)


def _fit(job: Job, folder: Path, name: str, count: int, search: Searcher, scheduler: TrialScheduler,
         max_failures: int, watcher: tune.Callback) -> dict[str, str]:  # fmt: skip
    """Let Tune run the trials; returns why trials died that could not be started again, by name.

    Tune's own files go to the run's folder, wherever the trials keep their state: this process alone writes them, and
    a storage that is away for a while is then no concern of Tune's, which would give up.
    """
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(job.sweep.max_concurrent)
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C ends the whole run, not one sweep
    controller.install()
    trainable = tune.with_resources(tune.with_parameters(TRIALS[job.side], job=job), job.room)
    results = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=search, scheduler=scheduler, num_samples=count, reuse_actors=True,
            trial_name_creator=_name_of, trial_dirname_creator=_name_of,
        ),
        run_config=tune.RunConfig(
            name=name, storage_path=str(folder.absolute() / "tune"), verbose=0, callbacks=[watcher],
            failure_config=tune.FailureConfig(max_failures=max_failures),
            # Trials keep their own state: see duel.sweep.trial.
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
        ),
    ).fit()  # fmt: skip
    ended = [results[i] for i in range(len(results))]
    return {Path(r.path).name: " ".join(str(r.error).split())[-300:] for r in ended if r.error is not None}


def _all_of(outcomes: list[Outcome], count: int, name: str) -> list[Outcome]:
    if len(outcomes) != count:
        raise DuelError(f"{name}: ended after {len(outcomes)} of {count} trials; --resume goes on with it")
    return outcomes


def _name_of(trial: Any) -> str:
    return trial.config["name"]


def _outcomes(job: Job, configs: list[dict[str, Any]], fates: list[Any], crashes: dict[str, str]) -> list[Outcome]:
    states, outcomes = job.states, []
    for fate, config in zip(fates, configs, strict=False):
        history = (states.of_trial(config["name"]) or {"history": []})["history"]
        outcomes.append(_outcome(job, config, history, fate, crashes.get(config["name"])))
    return outcomes


def _outcome(job: Job, config: dict[str, Any], history: list[dict], fate: Any, crash: str | None) -> Outcome:
    name = config["name"]
    # A trial that ASHA stops may have trained on until earlier trials' scores came in: that does not count.
    last_mark = fate if fate is not None else math.inf
    measured = [entry for entry in history if not entry["failed"] and entry["mark"] <= last_mark]
    reason = next((entry["failed"] for entry in history if entry["failed"] and entry["mark"] <= last_mark), "")
    if fate is None:
        raise DuelError(f"trial {name} neither ended nor failed; --resume goes on with it")
    whole = bool(history) and history[-1]["done"]
    if fate == math.inf and not reason and not whole and (crash or not history):
        reason = "its worker died" + (f": {crash}" if crash else "")
    if reason:
        status, objective = "failed", job.sweep.worst
    else:
        # Stopped, too, where none would stop it now: others that had died before did better in this session.
        status = "finished" if fate == math.inf and whole else "stopped"
        objective = measured[-1][job.sweep.objective]
    last = measured[-1] if measured else {"images": 0, "seconds": 0.0}
    return Outcome(name, job.side, config["family"], config["settings"], job.season, config["parent"],
                   config["season"], config.get("twin_of", ""), config.get("kind", ""), status, reason,
                   float(objective), int(last["images"]), float(last["seconds"]), measured, history)  # fmt: skip


def trial_row(outcome: Outcome, objective_name: str, feature_network: str) -> dict[str, Any]:
    """The outcome as a row of trials.csv, or of twins.csv, which has two columns more."""
    row = {
        "trial": outcome.name,
        "side": outcome.side,
        "season": outcome.season,
        "family": outcome.family,
        "status": outcome.status,
        "reason": outcome.reason,
        "objective_name": objective_name,
        "objective": outcome.objective,
        "images": outcome.images,
        "seconds": round(outcome.seconds, 3),
        "entrant": outcome.status == "finished" and not outcome.twin_of,
        "parent": outcome.parent,
        "settings": json.dumps({**outcome.settings, **outcome.competing}, sort_keys=True),
        "feature_network": feature_network if objective_name == "kid" else "",
    }
    return {**row, "twin_of": outcome.twin_of, "kind": outcome.kind} if outcome.twin_of else row
