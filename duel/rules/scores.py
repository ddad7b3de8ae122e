"""How well P(fake) tells fakes from reals: pure functions on arrays, for training and for matches alike."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

FEATURE_NETWORK = "efficientnet-lite0@128"  # what KIDs are measured with; goes into every table that holds one
_LEAST_SLOPE = 1e-3  # of calibrated logits per standard deviation of the others


def auc(real_probs: NDArray[np.floating], fake_probs: NDArray[np.floating]) -> float:
    """P(a fake is scored above a real), ties counted as one half: the area under the ROC curve.

    real_probs [n_real], fake_probs [n_fake]: scores without NaN, at least one each. The Mann-Whitney statistic
    over the number of pairs (Hanley and McNeil 1982).
    """
    ranks = pd.Series(np.concatenate([fake_probs, real_probs])).rank().to_numpy()
    n_fake, n_real = len(fake_probs), len(real_probs)
    above = ranks[:n_fake].sum() - n_fake * (n_fake + 1) / 2
    return float(above / (n_fake * n_real))


def sigmoid(logits: NDArray[np.floating]) -> NDArray[np.floating]:
    """P(fake) of logits of any size; it does not overflow."""
    return np.exp(-np.logaddexp(0, -logits))


def calibration(
    real_logits: NDArray[np.floating], fake_logits: NDArray[np.floating], false_alarms: float
) -> tuple[float, float]:
    """(scale, shift) of a detector's logits: Platt's, its 0.5 moved towards the reals as far as false alarms allow.

    real_logits [n_real], fake_logits [n_fake]: finite, at least one each; the fakes are of generators that the
    detector trained on. Platt's 0.5 lies midway between reals and these, but fakes of any other generator lie
    between the two, ranked above the reals and called real all the same. So 0.5 is put where a share of false_alarms
    of the reals is called fake (the bound of Neyman & Pearson 1933), or left where as many already are, or where
    false_alarms is 0.
    """
    scale, shift = fit_platt(real_logits, fake_logits)
    if not false_alarms:
        return scale, shift
    bound = np.quantile(np.asarray(real_logits, np.float64), 1 - false_alarms)
    return scale, max(shift, float(-scale * bound))


def fit_platt(real_logits: NDArray[np.floating], fake_logits: NDArray[np.floating]) -> tuple[float, float]:
    """(scale, shift) with which sigmoid(scale * logit + shift) is P(fake) (Platt 1999).

    real_logits [n_real], fake_logits [n_fake]: finite, at least one each. The maximum likelihood with both classes
    weighing the same and Platt's targets (n + 1) / (n + 2), which keep it finite where the classes lie apart. The
    scale is above 0, so that the ranking stays; logits that rank reals above fakes get one that says next to nothing.
    """
    logits = np.concatenate([real_logits, fake_logits]).astype(np.float64)
    n_real, n_fake = len(real_logits), len(fake_logits)
    targets = np.repeat([1 / (n_real + 2), (n_fake + 1) / (n_fake + 2)], [n_real, n_fake])
    weights = np.repeat([0.5 / n_real, 0.5 / n_fake], [n_real, n_fake])
    centre, spread = logits.mean(), logits.std() if np.ptp(logits) > 0 else 1.0
    z, ones = (logits - centre) / spread, np.ones_like(logits)
    slope, level = _logistic(np.stack([z, ones], 1), np.zeros_like(z), targets, weights)
    if slope < _LEAST_SLOPE:
        slope, (level,) = _LEAST_SLOPE, _logistic(ones[:, None], _LEAST_SLOPE * z, targets, weights)
    return float(slope / spread), float(level - slope * centre / spread)


def _logistic(
    design: NDArray[np.floating],
    offset: NDArray[np.floating],
    targets: NDArray[np.floating],
    weights: NDArray[np.floating],
) -> NDArray[np.floating]:
    """The coefficients [K] of a logistic regression on design [N, K] and a fixed offset [N] to targets in (0, 1).

    Newton's method; a step is halved while it makes things worse (Lin, Lin & Weng 2007).
    """

    def loss(coefficients: NDArray[np.floating]) -> float:
        x = offset + design @ coefficients
        return float(weights @ (np.logaddexp(0, x) - targets * x))

    coefficients = np.zeros(design.shape[1])
    best = loss(coefficients)
    for _ in range(100):
        p = sigmoid(offset + design @ coefficients)
        gradient = design.T @ (weights * (p - targets))
        curvature = (design.T * (weights * p * (1 - p))) @ design + 1e-12 * np.eye(len(gradient))
        step = np.linalg.solve(curvature, gradient)
        while loss(coefficients - step) > best and np.abs(step).max() > 1e-10:
            step = step / 2
        coefficients, best = coefficients - step, loss(coefficients - step)
        if np.abs(step).max() <= 1e-10:
            break
    return coefficients


def calibration_error(real_probs: NDArray[np.floating], fake_probs: NDArray[np.floating], bins: int = 15) -> float:
    """Expected calibration error: by how much the stated confidence differs from the share of right answers.

    real_probs [n_real], fake_probs [n_fake]: P(fake), at least one each. The confidence of an answer is P(fake) or
    one minus that, whichever is larger; answers are put into `bins` of equal width, and the gaps between mean
    confidence and accuracy are averaged by the weight of each bin (Guo 2017). Both classes weigh the same,
    whatever their sizes.
    """
    probs = np.concatenate([real_probs, fake_probs]).astype(np.float64)
    says_fake = probs >= 0.5
    right = says_fake == (np.arange(len(probs)) >= len(real_probs))
    weights = np.repeat([0.5 / len(real_probs), 0.5 / len(fake_probs)], [len(real_probs), len(fake_probs)])
    surplus = weights * (np.where(says_fake, probs, 1 - probs) - right)
    bin_of = np.minimum((np.where(says_fake, probs, 1 - probs) * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(bin_of, surplus)).sum())
