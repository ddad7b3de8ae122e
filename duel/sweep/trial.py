"""One trial as Ray Tune runs it: a training from duel.train, its reports, and the file it resumes from.

After every report a trial writes its state to the run's store. A trial that starts again, on whatever
node and for whatever reason, first repeats the reports that it finds there and then trains on, so that a
killed worker, a killed driver and a finished trial are all the same case. One that ASHA has stopped finds that said
there, in place of its training (see duel.sweep.run): it repeats what it has reported, and ends.
"""

import time
from typing import Any

import torch
from ray import tune

from duel.device import claim, machine_failed, release
from duel.errors import DuelError
from duel.families import family_settings
from duel.seeds import derive
from duel.sweep.job import Job, legacy_name, state_name, stopped_name, training_folder, training_name
from duel.watchdog import watched


class Trial(tune.Trainable):
    """What generator and detector trials share."""

    def setup(self, config: dict[str, Any], job: Job) -> None:  # type: ignore[override]
        """Find what there is of this trial already."""
        self.job = job
        self.device = claim(self.job.room)
        self.name = config["name"]
        self.states = job.states
        self.state: Any = self.states.of_trial(self.name) or {"history": [], "frames": []}
        self.reported = 0
        history = self.state["history"]
        ended = bool(history) and history[-1]["done"]
        self.stopped = bool(history) and not ended and self.states.store.has(stopped_name(self.name))
        self.trainer: Any = None
        self.reports: Any = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Become another trial in the same process."""
        self.trainer = self.reports = self.state = None
        release()
        self.setup(new_config)  # type: ignore[call-arg]  # tune.with_parameters hands in the job
        return True

    def step(self) -> dict[str, Any]:
        """The next report: one from before a restart, or a new one."""
        if self.reported == len(self.state["history"]):
            with watched():
                self.state["history"].append({**self._train_on(), "ended": time.time()})
                self._save()
        result = dict(self.state["history"][self.reported])
        self.reported += 1
        if self.stopped and self.reported == len(self.state["history"]):
            result["done"] = True
        return result

    def _train_on(self) -> dict[str, Any]:
        """Train to the next report. A training that fails reports the worst score and its reason.

        Raises what `machine_failed` is true of. A network that fits no GPU here does so each time, until Tune gives up.
        """
        budget = self.job.sweep.budget
        # Batches are whole, so the images of a report lie up to one batch above the mark that ASHA goes by.
        mark = (len(self.state["history"]) + 1) * budget.report_every
        try:
            if self.reports is None:
                self._start()
            metrics = next(self.reports)
            done = metrics["images"] >= budget.max_images
            return {**metrics, "mark": mark, "objective": self._score(metrics), "done": done, "failed": ""}
        except (DuelError, RuntimeError, ValueError, ArithmeticError) as error:
            if machine_failed(error):
                raise  # the process' GPU context is spoilt or crowded: Tune starts the trial again in a new one
            last = self.state["history"][-1] if self.state["history"] else {"images": 0, "seconds": 0.0}
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
            worst = self.job.sweep.worst
            return {"images": last["images"], "mark": mark, "seconds": last["seconds"], "objective": worst,
                    self.job.sweep.objective: worst, "done": True, "failed": reason}  # fmt: skip

    def _start(self) -> None:
        # A twin draws what its entrant drew: only what it is about differs.
        name = self.config.get("twin_of") or self.name
        self.trainer = self._make_trainer(self.device, derive(self.job.seed, "train", name))
        if self.state["history"]:
            name = training_name(self.name, len(self.state["history"]))
            training = self.states.load(name)
            if training is None:  # another process is still at work on this trial: Tune starts it again, from there
                raise OSError(f"{self.states.store.root}: {name}, which the trial is to go on from, is missing")
            self.trainer.load_state_dict(training)
        else:
            self._add_frame()
        budget = self.job.sweep.budget
        self.reports = self.trainer.run(budget.max_images, budget.report_every)

    def _save(self) -> None:
        last, reports = self.state["history"][-1], len(self.state["history"])
        if self.trainer is not None and not last["failed"]:
            self._add_frame()
        if not last["done"]:
            self.states.save(training_name(self.name, reports), self.trainer.state_dict())
        else:
            self.state["weights"] = None if last["failed"] else self._weights()
            if self.job.heirs and not last["failed"] and "twin_of" not in self.config:
                self.states.save(legacy_name(self.name), self._legacy())
        self.states.save(state_name(self.name), self.state)
        # Only now, when the state no longer names it.
        self.states.store.remove(training_folder(self.name) if last["done"] else training_name(self.name, reports - 1))

    def _settings(self) -> Any:
        return family_settings(self.job.side, self.config["family"], self.config["settings"])

    def _make_trainer(self, device: torch.device, seed: int) -> Any:
        raise NotImplementedError

    def _score(self, metrics: dict[str, float]) -> float:
        """What the search goes by."""
        return metrics[self.job.sweep.objective]

    def _weights(self) -> dict[str, torch.Tensor]:
        raise NotImplementedError

    def _legacy(self) -> Any:
        """What a later season's trial starts from."""
        return self.state["weights"]

    def _add_frame(self) -> None:
        """Keep a picture of the training so far, where there is one to be had."""
