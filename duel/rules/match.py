"""One match's numbers, and the rule by which it is won. A change to either is a change here."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from duel.rules.scores import auc, calibration_error

SIDES = ("generator", "detector")
THRESHOLD = 0.5  # P(fake) from which an answer says "fake", and accuracy from which the detector wins
Z = float(ndtri(0.975))  # 95 % of a normal distribution lie within so many deviations

Floats = NDArray[np.floating]


def decide(accuracy: float) -> str:
    """The win rule: "detector" at an accuracy of 0.5 or more, "generator" below it.

    Raises ValueError for a value that is no accuracy (NaN, or outside 0 to 1).
    """
    if not 0.0 <= accuracy <= 1.0:
        raise ValueError(f"accuracy must lie in [0, 1], got {accuracy}")
    return "detector" if accuracy >= THRESHOLD else "generator"


def match_row(real_probs: Floats, fake_probs: Floats) -> dict[str, int | float | str | bool]:
    """Score one match from a detector's answers.

    real_probs, fake_probs: P(fake) for each real [n_real] and each fake [n_fake], in [0, 1].
    An answer of 0.5 or more says "fake", so a constant answer is right on exactly one of the two classes and
    its accuracy is exactly 0.5 whatever the constant. AUC is the Mann-Whitney statistic with ties at one half
    (Hanley and McNeil 1982): P(a fake is scored above a real).

    Returns the columns of matches.csv without the names, seen and family_seen: accuracy is the mean of
    real_accuracy and fake_accuracy, accuracy_low and accuracy_high hold its 95 % interval (see accuracy_interval),
    and within_noise says that 0.5 lies in it: another sample of images could have turned the match. Raises
    ValueError for an empty array, a shape that is not one-dimensional, NaN, or a value outside [0, 1].
    """
    reals, fakes = _checked("real_probs", real_probs), _checked("fake_probs", fake_probs)
    n_real, n_fake = len(reals), len(fakes)
    real_right, fake_right = int((reals < THRESHOLD).sum()), int((fakes >= THRESHOLD).sum())
    # In integers, because 1/49 + 48/49 in floats can fall below one and would turn a match at exactly 0.5.
    accuracy = (real_right * n_fake + fake_right * n_real) / (2 * n_real * n_fake)
    low, high = accuracy_interval(real_right, n_real, fake_right, n_fake)
    return {
        "n_real": n_real,
        "n_fake": n_fake,
        "accuracy": accuracy,
        "accuracy_low": low,
        "accuracy_high": high,
        "within_noise": low <= THRESHOLD <= high,
        "real_accuracy": real_right / n_real,
        "fake_accuracy": fake_right / n_fake,
        "auc": auc(reals, fakes),
        "calibration_error": calibration_error(reals, fakes),
        "winner": decide(accuracy),
    }


def _checked(name: str, probs: Floats) -> NDArray[np.float64]:
    values = np.asarray(probs, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"{name} must be a filled one-dimensional array, got shape {values.shape}")
    if not ((values >= 0) & (values <= 1)).all():  # NaN fails both comparisons
        raise ValueError(f"{name} must hold probabilities in [0, 1], got {values.min()} to {values.max()}")
    return values


def accuracy_interval(real_right: int, n_real: int, fake_right: int, n_fake: int) -> tuple[float, float]:
    """95 % interval of the mean of two independent proportions, each from its own images.

    Each proportion's Wilson interval (1927), and the distances of their ends joined as Newcombe (1998) does for
    a difference and Zou and Donner (2008) for any sum: it stays in [0, 1] and has a width at 0 and 1, where the
    usual one has none.
    """
    parts = [(right / n, *_wilson(right / n, n)) for right, n in ((real_right, n_real), (fake_right, n_fake))]
    middle = sum(share for share, _, _ in parts) / 2
    below = math.hypot(*(share - low for share, low, _ in parts)) / 2
    above = math.hypot(*(high - share for share, _, high in parts)) / 2
    return max(0.0, middle - below), min(1.0, middle + above)


def _wilson(share: float, n: int) -> tuple[float, float]:
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return centre - half, centre + half
