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
from duel.store import Store
from duel.sweep.job import read_state
from duel.sweep.run import Outcome

SHEET_COLUMNS = 8
ANIMATION_FRAMES = 24


def save_entrants(outcomes: list[Outcome], objective_name: str, image_size: int, storage: str, folder: Path) -> None:
    """Write models/NAME/ for every finished trial, and fakes/NAME.png and .gif for generators.

    Nothing is written again for an entrant whose model is already there.
    """
    store = Store(storage)
    for outcome in outcomes:
        if outcome.status == "finished" and not (folder / "models" / outcome.name / "config.json").exists():
            _save_entrant(outcome, objective_name, image_size, store, folder)


def drop_states(names: list[str], storage: str) -> None:
    """Delete the trials' state files, which nobody needs once their stage is done; also those deleted already."""
    store = Store(storage)
    for name in names:
        store.remove(f"trials/{name}")


def _save_entrant(outcome: Outcome, objective_name: str, image_size: int, store: Store, folder: Path) -> None:
    state = read_state(store, outcome.name)
    if state is None or state.get("weights") is None:
        raise DuelError(f"{store.root}: the weights of finished trial {outcome.name} are missing")
    settings = family_settings(outcome.side, outcome.family, outcome.settings)
    if state["frames"]:
        _save_pictures(outcome.name, state["frames"], folder / "fakes")
    trial = {"family": outcome.family, "settings": outcome.settings, "parent": outcome.parent,
             "season": outcome.competing}  # fmt: skip
    metrics: dict[str, Any] = {"objective_name": objective_name, "objective": outcome.objective,
                               "history": outcome.history, "trial": trial}  # fmt: skip
    metrics.update({key: state[key] for key in ("sparring", "panel") if key in state})
    save_model(folder / "models" / outcome.name, outcome.side, outcome.family, image_size, settings,
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
    metrics = json.loads((folder / "models" / detector / "metrics.json").read_text(encoding="utf-8"))
    parent = metrics["trial"]["parent"]
    return set(metrics["sparring"]) | (_line_of(folder, parent) if parent else set())
