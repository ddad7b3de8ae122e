"""Optuna's search and ASHA inside Ray Tune, both taking trials in the order of their numbers."""

import math
from typing import Any, cast

import optuna
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from duel.config import SideSweep
from duel.seeds import derive
from duel.store import checked
from duel.sweep.halving import Halving, Trace
from duel.sweep.space import SearchSpace


class Ledger(Halving):
    """What the searcher and the scheduler both know: the traces of all trials asked for so far."""

    def __init__(self, side: SideSweep):
        super().__init__(side.budget.rungs(), side.budget.reduction_factor, side.mode)

    def report(self, number: int, result: dict[str, Any]) -> None:
        """Take a trial's measurement."""
        self.traces[number].scores[result["mark"]] = result["objective"]
        self.traces[number].ended |= bool(result["done"])


class OrderedSearch(OptunaSearch):
    """OptunaSearch that is reproducible and can be taken up again at any point.

    Trial k is sampled from the results of trials 0..k-max_concurrent, all of them and no others, with a seed of
    its own; a trial that the study already holds keeps its settings. Trials stopped by ASHA reach Optuna as
    PRUNED and failed ones with the worst score, so that neither misleads the sampler.
    """

    def __init__(self, space: SearchSpace, count: int, ledger: Ledger, storage: optuna.storages.BaseStorage, seed: int):
        self._drawn_from, self._count, self._ledger, self._root = space, count, ledger, seed
        self._side = space.sweep
        self._numbers: dict[str, int] = {}
        super().__init__(
            space=self._sample, metric="objective", mode=self._side.mode, storage=storage, study_name=space.study,
            sampler=self._sampler_for(0),
        )  # fmt: skip
        # The same study in memory, to draw on: see _choose.
        self._draft = optuna.create_study(direction=self._study.direction)
        self._draft.add_trials(self._study.get_trials(deepcopy=False))
        self._known = len(self._draft.trials)  # of an earlier session
        self._told = 0  # of those before it Optuna knows how they ended

    @property
    def _study(self) -> optuna.Study:
        return cast(optuna.Study, self._ot_study)  # the base class makes it, as there is a space

    def _sampler_for(self, number: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.TPESampler(
            seed=derive(self._root, "search", self._drawn_from.study, number) % 2**32,
            n_startup_trials=self._side.startup_trials,
        )

    def _sample(self, trial: optuna.Trial) -> dict[str, Any]:
        return self._drawn_from.draw(trial)

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The next trial's number, name, family and settings; None while earlier results are awaited."""
        number = len(self._numbers)
        if number >= self._count or not self._settle(number - self._side.max_concurrent):
            return None
        chosen = self._choose(number)
        name = checked(self._drawn_from.name(number, chosen["family"]))  # Tune makes a folder of it
        config = {"number": number, "name": name, **chosen}
        self._numbers[trial_id] = number
        self._ledger.traces.append(Trace())
        return config

    def _choose(self, number: int) -> dict[str, Any]:
        """Family and settings of trial `number`: those that the study holds from before a restart, else new ones.

        They are drawn in memory and reach the study in one transaction: a study never holds half a trial.
        """
        if number < self._known:
            return dict(self._draft.get_trials(deepcopy=False)[number].user_attrs["chosen"])
        self._draft.sampler = self._sampler_for(number)
        if fixed := self._drawn_from.turn(number, derive(self._root, "turns", self._drawn_from.study)):
            self._draft.enqueue_trial(fixed)
        chosen = self._sample(trial := self._draft.ask())
        running = optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={"chosen": chosen},
        )
        self._study.add_trial(running)
        return chosen

    def _settle(self, last: int) -> bool:
        """Tell Optuna the results of trials 0..last; False while one of them is still open."""
        fates = [self._ledger.fate(number) for number in range(self._told, last + 1)]
        if None in fates:
            return False
        for fate in filter(None, fates):  # a rung is never 0
            for study in (self._study, self._draft):
                _tell(study, self._told, self._ledger.traces[self._told], fate, self._side.worst)
            self._told += 1
        return True

    def finish(self) -> None:
        """Tell Optuna what is still untold, at the end of the sweep."""
        self._settle(len(self._numbers) - 1)

    def on_trial_result(self, trial_id: str, result: dict) -> None:
        """The scheduler keeps the ledger; Optuna hears of a trial when its fate is known."""

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """A trial has ended, by itself, by ASHA or because its worker died for good."""
        trace = self._ledger.traces[self._numbers[trial_id]]
        trace.ended = True
        if error:
            trace.scores[max(trace.scores, default=0) + 1] = self._side.worst


def _tell(study: optuna.Study, number: int, trace: Trace, fate: int | float, worst: float) -> None:
    """Tell a study how a trial ended, unless it knows from an earlier session."""
    known = study.get_trials(deepcopy=False)[number]
    if known.state.is_finished():
        return
    trial = optuna.Trial(study, known._trial_id)
    mark = max(trace.scores, default=0) if fate == math.inf else int(fate)
    score = trace.scores.get(mark, worst)
    trial.report(score, mark)
    stopped = fate != math.inf and score != worst  # a failed trial is no stopped one
    state = optuna.trial.TrialState.PRUNED if stopped else optuna.trial.TrialState.COMPLETE
    study.tell(trial, None if stopped else score, state=state)


class Listed(Searcher):
    """Trials that are known beforehand, one after the other."""

    def __init__(self, configs: list[dict[str, Any]]):
        super().__init__()
        self._left = list(configs)

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The next trial's config; None when there is no more."""
        return self._left.pop(0) if self._left else None

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """Nothing follows from it."""


class OrderedHalving(FIFOScheduler):
    """Tells Ray Tune to stop the trials that `duel.sweep.halving` stops."""

    def __init__(self, ledger: Ledger):
        super().__init__()
        self._ledger = ledger

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict) -> str:
        """Stop the trial if its fate is sealed."""
        number = trial.config["number"]
        self._ledger.report(number, result)
        fate = self._ledger.fate(number)
        return TrialScheduler.STOP if fate not in (None, math.inf) else TrialScheduler.CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict) -> None:
        """Tune hands a trial's last result to this method instead of the one above."""
        self._ledger.report(trial.config["number"], result)
