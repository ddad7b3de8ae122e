"""What a trial is drawn from: families with their settings and, from season 2 on, an earlier entrant to start from."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna

from duel.config import SideSweep
from duel.families import SEASONS, family_settings
from duel.spaces import Choice, Fixed, Int, LogUniform, Parameter, Space


@dataclass(frozen=True)
class Parent:
    """An entrant that trials of a later season may start from, with its full settings."""

    name: str
    family: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class SearchSpace:
    """How the trials of one side in one season are named and drawn."""

    side: str
    sweep: SideSweep
    season: int = 1
    parents: list[Parent] = field(default_factory=list)

    @property
    def study(self) -> str:
        """The name of the Optuna study and of Tune's experiment."""
        return f"{self.side}s" if self.season == 1 else f"season-{self.season}-{self.side}s"

    def name(self, number: int, family: str) -> str:
        """The name that a trial, and later the entrant, has everywhere: s2g01-dcgan is season 2's first generator."""
        return f"{f's{self.season}' * (self.season > 1)}{self.side[0]}{number + 1:02d}-{family}"

    def turn(self, number: int, seed: int) -> dict[str, Any]:
        """What is fixed about startup trial `number` of season 1: families take turns, in an order that `seed` draws.

        Drawn independently, six trials would leave out two of six families on average, and the search would
        never hear of them.
        """
        names = list(self.sweep.families)
        if self.season > 1 or len(names) == 1 or number >= self.sweep.startup_trials:
            return {}
        return {"family": names[np.random.default_rng(seed).permutation(len(names))[number % len(names)]]}

    def draw(self, trial: optuna.Trial) -> dict[str, Any]:
        """Draw family, settings, parent ("" for none) and how the trial competes; define by run."""
        if self.season == 1:
            return {**_fresh(trial, self.side, self.sweep.families), "parent": "", "season": {}}
        season = {key: _draw(trial, f"season.{key}", p) for key, p in self.sweep.later_seasons.space.items()}
        competing = SEASONS[self.side](**season)
        if getattr(competing, "fresh", False):
            return {**_fresh(trial, self.side, self.sweep.families), "parent": "", "season": competing.model_dump()}
        names = [parent.name for parent in self.parents]
        name = trial.suggest_categorical("parent", names) if len(names) > 1 else names[0]
        parent = self.parents[names.index(name)]
        settings = _slowed(self.side, parent, competing.lr_scale)  # type: ignore[attr-defined]
        return {"family": parent.family, "settings": settings, "parent": name, "season": competing.model_dump()}


def _fresh(trial: optuna.Trial, side: str, families: dict[str, Space]) -> dict[str, Any]:
    """A family, then what is set about it, each value of its setting's type: 2.0 where 2 is drawn for a float."""
    names = list(families)
    family = trial.suggest_categorical("family", names) if len(names) > 1 else names[0]
    settings = {key: _draw(trial, f"{family}.{key}", p) for key, p in families[family].items()}
    return {"family": family, "settings": family_settings(side, family, settings).model_dump(exclude_unset=True)}


def _slowed(side: str, parent: Parent, scale: float) -> dict[str, Any]:
    """The parent's settings with its learning rates scaled: they fit a network that has learnt already."""
    settings = family_settings(side, parent.family, parent.settings).model_dump()
    return {key: min(1.0, value * scale) if key.startswith("lr") else value for key, value in settings.items()}


def _draw(trial: optuna.Trial, name: str, parameter: Parameter) -> Any:
    match parameter:
        case Fixed():
            return parameter.value
        case Choice():
            return trial.suggest_categorical(name, parameter.values)
        case Int():
            return trial.suggest_int(name, parameter.low, parameter.high, step=parameter.step, log=parameter.log)
        case _:
            return trial.suggest_float(name, parameter.low, parameter.high, log=isinstance(parameter, LogUniform))
