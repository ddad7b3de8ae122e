"""One detector as a trial of Ray Tune."""

import itertools

import numpy as np
import ray
import torch

from duel.families import DetectorSeason
from duel.rules.pfsp import apportion, pfsp
from duel.sweep.trial import Trial
from duel.train.detector import DetectorTrainer
from duel.train.loop import mix

REPLAYED = 0.1  # of the fakes are shared out evenly, so that no generator is forgotten


class DetectorTrial(Trial):
    """Trains one detector on reals and on the fakes of its sparring generators; objective AUC on validation."""

    def _make_trainer(self, device: torch.device, seed: int) -> DetectorTrainer:
        pool, parent = self._pool(), self.config["parent"]
        sparring = self._sparring(pool, seed)
        reals = self.job.partition("detector_train")
        counts = apportion(self._shares(sparring), len(reals))
        self.state["sparring"] = {name: count for name, count in zip(sparring, counts, strict=True) if count}
        fakes = [ray.get(self.job.sparring[name])[:count] for name, count in self.state["sparring"].items()]
        return DetectorTrainer(
            self.config["family"], self._settings(), reals, np.concatenate(fakes),
            self.job.partition("validation"), *self._validation_fakes(),
            image_size=self.job.image_size, device=device, seed=seed,
            start=self.states.legacy(parent) if parent else None,
        )  # fmt: skip

    def _pool(self) -> list[str]:
        """The generators that this detector may know: all so far or, for a twin, those that its kind leaves it."""
        kind, lineup, now = self.config.get("kind", ""), self.job.lineup, self.job.season
        keep = {
            "": lambda season, family: True,
            "no-replay": lambda season, family: season == now,
            "no-rivals": lambda season, family: season < now,
        }.get(kind, lambda season, family: f"without-{family}" != kind)
        return sorted(name for name, (season, family) in lineup.items() if keep(season, family))

    def _sparring(self, pool: list[str], seed: int) -> list[str]:
        """Whose fakes it trains on: as many of each season's generators as its settings say."""
        seasons = sorted({self.job.lineup[name][0] for name in pool})
        kind = self._settings().sparring
        drawn = [draw_sparring([g for g in pool if self.job.lineup[g][0] == s], kind, mix(seed, s)) for s in seasons]
        return sorted(itertools.chain(*drawn))

    def _shares(self, generators: list[str]) -> np.ndarray:
        """Shares of the fakes: alike in season 1, then more of the generators that get past most."""
        elders = [self.config["parent"]] if self.config["parent"] else sorted(self.job.elders)
        if not elders:
            return np.ones(len(generators))
        caught = np.array([np.mean([self.job.caught[g][d] for d in elders]) for g in generators])
        hard = pfsp(caught, DetectorSeason(**self.config["season"]).pfsp_power)
        return (1 - REPLAYED) * hard + REPLAYED / len(generators)

    def _validation_fakes(self) -> tuple[np.ndarray, np.ndarray]:
        """As many fakes of each generator, and which of them are of generators that this detector trains on."""
        fakes = {name: ray.get(ref) for name, ref in sorted(self.job.validation_fakes.items())}
        each = min(map(len, fakes.values()))
        known = np.repeat([name in self.state["sparring"] for name in fakes], each)
        return np.concatenate([of[:each] for of in fakes.values()]), known

    def _weights(self) -> dict[str, torch.Tensor]:
        return {key: value.cpu() for key, value in self.trainer.detector.state_dict().items()}


def draw_sparring(finalists: list[str], kind: str, seed: int) -> list[str]:
    """Which generators' fakes a detector trains on: 'one', 'some' (half of them, rounded up) or 'all'; sorted."""
    count = {"one": 1, "some": -(-len(finalists) // 2), "all": len(finalists)}[kind]
    chosen = np.random.default_rng(seed).choice(len(finalists), size=count, replace=False)
    return [finalists[i] for i in sorted(chosen)]
