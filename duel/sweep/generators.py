"""One generator as a trial of Ray Tune."""

from functools import cached_property

import numpy as np
import ray
import torch

from duel.families import GeneratorSeason
from duel.metrics import KidScorer, feature_network
from duel.rules.pfsp import draw, pfsp
from duel.seeds import derive
from duel.sweep.trial import Trial
from duel.sweep.yardsticks import real_features
from duel.train.generator import GeneratorTrainer
from duel.train.rivals import Rivals, prepared

LEAST_KID = 1e-3  # KID is unbiased and can fall below zero, where a product would turn its sense


class GeneratorTrial(Trial):
    """Trains one generator; objective KID on validation reals, from season 2 on also the share that gets past."""

    def _make_trainer(self, device: torch.device, seed: int) -> GeneratorTrainer:
        parent = self.config["parent"]
        return GeneratorTrainer(
            self.config["family"], self._settings(), self.job.partition("generator_train"), self._kid,
            image_size=self.job.image_size, device=device, seed=seed, eval_fakes=len(self.job.partition("validation")),
            start=self.states.legacy(parent) if parent else None,
            rivals=self._rivals(parent, derive(seed, "panel")) if parent else None,
        )  # fmt: skip

    def _rivals(self, parent: str, seed: int) -> Rivals:
        """A panel of earlier detectors, those that catch the parent most before others, and all as the jury."""
        season = GeneratorSeason(**self.config["season"])
        names = sorted(self.job.elders)
        jury = {name: prepared(ray.get(self.job.elders[name]), self.device) for name in names}
        weights = pfsp(np.array([1 - self.job.caught[parent][name] for name in names]), season.pfsp_power)
        panel = draw(names, weights, season.panel, seed)
        self.state["panel"] = panel
        return Rivals([jury[name] for name in panel], list(jury.values()), season.evasion)

    def _score(self, metrics: dict[str, float]) -> float:
        """KID, up to twice as much where fakes are caught: getting past can't make up for a KID twice as high."""
        return max(metrics["kid"], LEAST_KID) * (1 + metrics["caught"]) if "caught" in metrics else metrics["kid"]

    def _kid(self, fakes: np.ndarray) -> float:
        return self._scorer(fakes)

    @cached_property
    def _scorer(self) -> KidScorer:
        """Made at the first validation, so that training need not wait; kept for this process' next trials."""
        network = feature_network(device=self.device)
        reals = self.job.partition("validation")
        return KidScorer(network, real_features(self.states, network, reals, self.device), self.device)

    def _weights(self) -> dict[str, torch.Tensor]:
        return {key: value.cpu() for key, value in self.trainer.generator.state_dict().items()}

    def _legacy(self) -> dict[str, dict[str, torch.Tensor]]:
        return self.trainer.legacy()

    def _add_frame(self) -> None:
        self.state["frames"].append(torch.from_numpy(self.trainer.frame()))
