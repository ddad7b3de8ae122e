"""From ended trials to entrants: their models, metrics and pictures in the run's folder."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from duel.checkpoint import save_model
from duel.errors import DuelError
from duel.families import family_settings
from duel.report.images import animation, sheet
from duel.store import inside
from duel.sweep.job import Job
from duel.sweep.run import Outcome

SHEET_COLUMNS = 8
ANIMATION_FRAMES = 24


def save_entrants(outcomes: list[Outcome], job: Job, folder: Path) -> None:
    """Write models/NAME/ for every finished trial, and fakes/NAME.png and .gif for generators.

    Nothing is written again for an entrant whose model is already there.
    """
    for outcome in outcomes:
        if outcome.status == "finished" and not (folder / "models" / outcome.name / "config.json").exists():
            _save_entrant(outcome, job, folder)


def _save_entrant(outcome: Outcome, job: Job, folder: Path) -> None:
    state = job.states.of_trial(outcome.name)
    if state is None or state.get("weights") is None:
        raise DuelError(f"{job.storage}: the weights of finished trial {outcome.name} are missing")
    settings = family_settings(outcome.side, outcome.family, outcome.settings)
    if state["frames"]:
        _save_pictures(outcome.name, state["frames"], folder / "fakes")
    trial = {"family": outcome.family, "settings": outcome.settings, "parent": outcome.parent,
             "season": outcome.competing}  # fmt: skip
    metrics: dict[str, Any] = {"objective_name": job.sweep.objective, "objective": outcome.objective,
                               "history": outcome.history, "trial": trial}  # fmt: skip
    metrics.update({key: state[key] for key in ("sparring", "panel") if key in state})
    save_model(folder / "models" / outcome.name, outcome.side, outcome.family, job.image_size, settings,
               state["weights"], metrics)  # fmt: skip


def _save_pictures(name: str, frames: list[torch.Tensor], folder: Path) -> None:
    """frames: the same noise through training, uint8 [64, 3, S, S] each; the last one is the sheet.

    The animation shows a quarter of the faces at up to 24 moments, first and last included: it ends up in the
    report, which is one file.
    """
    images = [frame.numpy() for frame in frames]
    folder.mkdir(parents=True, exist_ok=True)
    sheet(images[-1], SHEET_COLUMNS, folder / f"{name}.png")
    moments = np.linspace(0, len(images) - 1, min(len(images), ANIMATION_FRAMES)).round().astype(int)
    shown = (SHEET_COLUMNS // 2) ** 2
    animation([images[i][:shown] for i in moments], SHEET_COLUMNS // 2, folder / f"{name}.gif")


def sparring_of(folder: Path, detectors: list[str]) -> dict[str, list[str]]:
    """Detector -> generators whose fakes it trained on, since the first of its line, from the saved models."""
    return {detector: sorted(_line_of(folder, detector)) for detector in detectors}


def _line_of(folder: Path, detector: str) -> set[str]:
    metrics = json.loads((inside(folder / "models", detector) / "metrics.json").read_text(encoding="utf-8"))
    parent = metrics["trial"]["parent"]
    return set(metrics["sparring"]) | (_line_of(folder, parent) if parent else set())
