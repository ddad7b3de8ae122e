"""Ray Tune's controller, with one thing mended: a trial whose process dies as it takes it over is tried again."""

from typing import Any

from ray.tune import tune
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial


class Controller(TuneController):
    """Until Tune does so itself.

    With reuse_actors a trial may begin in the process of the trial before it. Tune 2.60 hears twice of one that dies
    meanwhile: once as an actor that failed, upon which it has the trial wait for another, and once as a task that
    failed, upon which it gives up the trial, as it is not running, whatever max_failures says. A trial was lost that
    way when its node went at that moment, or had gone and nobody knew yet.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._heard: set[tuple[str, str | None]] = set()  # trials, and the actors that died as these took them over

    def _process_trial_failure(self, trial: Trial, exception: Any) -> None:
        death = (trial.trial_id, getattr(exception, "actor_id", None))
        if death in self._heard:
            return
        if trial in self._resetting_trials and trial.status == Trial.RUNNING:
            self._heard.add(death)
            self._resetting_trials.remove(trial)  # it has no actor any more, and is to get one
        super()._process_trial_failure(trial, exception)


def install() -> None:
    """Have every Tuner of this process use it: Tune asks nobody which controller to take."""
    tune.TuneController = Controller  # type: ignore[attr-defined]
