"""One trial as Ray Tune runs it: a training from duel.train, its reports, and the file it resumes from.

After every report a trial writes one state file to the run's store. A trial that starts again, on whatever
node and for whatever reason, first repeats the reports that it finds there and then trains on, so that a
killed worker, a killed driver and a finished trial are all the same case.
"""

import io
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import ray
import torch
from ray import tune

from duel.config import SideSweep
from duel.device import claim, release
from duel.errors import DuelError
from duel.families import family_settings
from duel.metrics import KidScorer, feature_network
from duel.seeds import derive
from duel.store import Store
from duel.sweep.yardsticks import real_features
from duel.train.detector import DetectorTrainer
from duel.train.generator import GeneratorTrainer


@dataclass(frozen=True)
class Job:
    """What all trials of one side share. The arrays stay in Ray's object store: trials read them without a copy."""

    side: str
    sweep: SideSweep
    image_size: int
    seed: int
    storage: str
    room: dict[str, float]  # the cpu and gpu that one trial reserves
    reals: Any  # reference to uint8 [N, 3, S, S], all partitions one after the other
    spans: dict[str, tuple[int, int]]  # partition -> its first and last + 1 row in `reals`
    sparring: dict[str, Any] = field(default_factory=dict)  # detectors: generator -> reference to its fakes
    validation_fakes: Any = None  # detectors: reference to uint8 [N, 3, S, S]

    def partition(self, name: str) -> np.ndarray:
        """The reals of one partition, a view into the object store."""
        start, end = self.spans[name]
        return ray.get(self.reals)[start:end]


def state_name(name: str) -> str:
    """Where in the store a trial's state lies."""
    return f"trials/{name}/state.pt"


def read_state(store: Store, name: str) -> dict[str, Any] | None:
    """A trial's state: history, frames, weights once it has ended, training until then. None if it has none."""
    data = store.read(state_name(name))
    return None if data is None else torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")


class _Trial(tune.Trainable):
    """What generator and detector trials share."""

    def setup(self, config: dict[str, Any], job: Job) -> None:  # type: ignore[override]
        self.job = job
        self.device = claim(self.job.room)
        self.name, self.number = config["name"], config["number"]
        self.store = Store(self.job.storage)
        self.state: Any = read_state(self.store, self.name) or {"history": [], "frames": []}
        self.reported = 0
        self.trainer: Any = None
        self.reports: Any = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.trainer = self.reports = self.state = None
        release()
        self.setup(new_config)  # type: ignore[call-arg]  # tune.with_parameters hands in the job
        return True

    def step(self) -> dict[str, Any]:
        if self.reported == len(self.state["history"]):
            self.state["history"].append({**self._train_on(), "ended": time.time()})
            self._save()
        result = self.state["history"][self.reported]
        self.reported += 1
        return dict(result)

    def _train_on(self) -> dict[str, Any]:
        """Train to the next report. A training that fails reports the worst score and its reason."""
        budget = self.job.sweep.budget
        # Batches are whole, so the images of a report lie up to one batch above the mark that ASHA goes by.
        mark = (len(self.state["history"]) + 1) * budget.report_every
        try:
            if self.reports is None:
                self._start()
            metrics = next(self.reports)
            done = metrics["images"] >= budget.max_images
            objective = metrics[self.job.sweep.objective]
            return {**metrics, "mark": mark, "objective": objective, "done": done, "failed": ""}
        except (torch.AcceleratorError, torch.OutOfMemoryError):
            raise  # the process' GPU context is spoilt or crowded: Tune starts the trial again in a new one
        except (DuelError, RuntimeError, ValueError, ArithmeticError) as error:
            last = self.state["history"][-1] if self.state["history"] else {"images": 0, "seconds": 0.0}
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
            worst = self.job.sweep.worst
            return {"images": last["images"], "mark": mark, "seconds": last["seconds"], "objective": worst,
                    self.job.sweep.objective: worst, "done": True, "failed": reason}  # fmt: skip

    def _start(self) -> None:
        self.trainer = self._make_trainer(self.device, derive(self.job.seed, "train", self.name))
        if self.state.get("training") is not None:
            self.trainer.load_state_dict(self.state["training"])
        else:
            self._add_frame()
        budget = self.job.sweep.budget
        self.reports = self.trainer.run(budget.max_images, budget.report_every)

    def _save(self) -> None:
        last = self.state["history"][-1]
        if self.trainer is not None and not last["failed"]:
            self._add_frame()
            self.state["training"] = None if last["done"] else self.trainer.state_dict()
        if last["done"]:
            self.state["training"] = None
            self.state["weights"] = None if last["failed"] else self._weights()
        buffer = io.BytesIO()
        torch.save(self.state, buffer)
        self.store.write(state_name(self.name), buffer.getbuffer())

    def _settings(self) -> Any:
        return family_settings(self.job.side, self.config["family"], self.config["settings"])

    def _make_trainer(self, device: torch.device, seed: int) -> Any:
        raise NotImplementedError

    def _weights(self) -> dict[str, torch.Tensor]:
        raise NotImplementedError

    def _add_frame(self) -> None:
        """Keep a picture of the training so far, where there is one to be had."""


class GeneratorTrial(_Trial):
    """Trains one generator; objective KID on validation reals."""

    def _make_trainer(self, device: torch.device, seed: int) -> GeneratorTrainer:
        return GeneratorTrainer(
            self.config["family"], self._settings(), self.job.partition("generator_train"), self._kid,
            image_size=self.job.image_size, device=device, seed=seed, eval_fakes=len(self.job.partition("validation")),
        )  # fmt: skip

    def _kid(self, fakes: np.ndarray) -> float:
        return self._scorer(fakes)

    @cached_property
    def _scorer(self) -> KidScorer:
        """Made at the first validation, so that training need not wait; kept for this process' next trials."""
        network = feature_network(device=self.device)
        return KidScorer(network, real_features(self.store, network, self.job.partition("validation"), self.device),
                         self.device)  # fmt: skip

    def _weights(self) -> dict[str, torch.Tensor]:
        return {key: value.cpu() for key, value in self.trainer.generator.state_dict().items()}

    def _add_frame(self) -> None:
        self.state["frames"].append(torch.from_numpy(self.trainer.frame()))


class DetectorTrial(_Trial):
    """Trains one detector on reals and on the fakes of its sparring generators; objective AUC on validation."""

    def _make_trainer(self, device: torch.device, seed: int) -> DetectorTrainer:
        self.state["sparring"] = draw_sparring(sorted(self.job.sparring), self._settings().sparring, seed)
        reals = self.job.partition("detector_train")
        share = np.array_split(np.arange(len(reals)), len(self.state["sparring"]))
        fakes = [ray.get(self.job.sparring[n])[: len(s)] for n, s in zip(self.state["sparring"], share, strict=True)]
        return DetectorTrainer(
            self.config["family"], self._settings(), reals, np.concatenate(fakes),
            self.job.partition("validation"), ray.get(self.job.validation_fakes),
            image_size=self.job.image_size, device=device, seed=seed,
        )  # fmt: skip

    def _weights(self) -> dict[str, torch.Tensor]:
        return {key: value.cpu() for key, value in self.trainer.detector.state_dict().items()}


def draw_sparring(finalists: list[str], kind: str, seed: int) -> list[str]:
    """Which generators' fakes a detector trains on: 'one', 'some' (half of them, rounded up) or 'all'; sorted."""
    count = {"one": 1, "some": -(-len(finalists) // 2), "all": len(finalists)}[kind]
    chosen = np.random.default_rng(seed).choice(len(finalists), size=count, replace=False)
    return [finalists[i] for i in sorted(chosen)]
