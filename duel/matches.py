"""From detectors' answers to tables: every match of the league, and what earlier detectors catch."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from duel.errors import DuelError
from duel.readings import REALS, Ground, read_all
from duel.rules.match import match_row
from duel.rules.tables import MATCHES, SCOUTING


def play(generators: dict[str, Path], detectors: dict[str, Path], sparring: dict[str, list[str]],
         families: dict[str, str], ground: Ground) -> pd.DataFrame:  # fmt: skip
    """Every generator against every detector: the match table, ordered by generator, then detector.

    Pairs that have met already are not played again. sparring: detector -> generators whose fakes it trained on;
    such a match is `seen`. families: of each generator, those of the sparring included.
    """
    read_all(generators, detectors, ground)
    rows = []
    for generator in generators:
        for detector in detectors:
            known = sparring[detector]
            seen = {"seen": generator in known, "family_seen": families[generator] in {families[g] for g in known}}
            rows.append({"generator": generator, "detector": detector, **_row(ground, detector, generator), **seen})
    return pd.DataFrame(rows, columns=MATCHES.names)


def in_weather(matches: pd.DataFrame, ground: Ground) -> pd.Series:
    """The accuracies of the matches, as they would be with all images changed by the ground's weather."""
    pairs = zip(matches["detector"], matches["generator"], strict=True)
    return pd.Series([_row(ground, *pair)["accuracy"] for pair in pairs], matches.index, float)


def scout(generators: dict[str, Path], detectors: dict[str, Path], ground: Ground) -> pd.DataFrame:
    """How each detector does on each generator: columns generator, detector, caught (share of fakes), accuracy."""
    read_all(generators, detectors, ground)
    pairs = [(g, d, _row(ground, d, g)) for g in generators for d in detectors]
    rows = [(g, d, row["fake_accuracy"], row["accuracy"]) for g, d, row in pairs]
    return pd.DataFrame(rows, columns=SCOUTING.names)


def _answers(ground: Ground, detector: str, images: str) -> NDArray[np.float32]:
    return np.load(ground.answers(detector, images))


def _row(ground: Ground, detector: str, generator: str) -> dict[str, Any]:
    try:
        return match_row(_answers(ground, detector, REALS), _answers(ground, detector, generator))
    except ValueError as error:
        raise DuelError(f"detector {detector}: {error}") from None
