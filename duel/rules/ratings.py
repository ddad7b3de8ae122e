"""Ratings of both sides on one scale, from how many fakes were caught."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

MEAN_RATING = 1500.0
POINTS_PER_NAT = 400 / np.log(10)  # Elo's scale: 400 points are odds of ten to one
PRIOR_SD = 350.0  # in points: what Glicko (Glickman 1999) gives a player of whom nothing is known
PRECISION = (POINTS_PER_NAT / PRIOR_SD) ** 2  # of the prior, in nats
RESAMPLES = 400
CHUNK = 2**22  # numbers in one array of resamples: 32 MiB

Floats = NDArray[np.floating]
Counts = NDArray[np.integer] | NDArray[np.floating]


class Ratings(NamedTuple):
    """Ratings and their 95 % intervals in points, each [generators + detectors], generators first."""

    rating: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def fit_ratings(caught: NDArray[np.integer], shown: NDArray[np.integer], anchors: NDArray[np.bool_]) -> Ratings:
    """Ratings of both sides on one scale, from how many fakes of each generator each detector caught.

    caught, shown: [generators, detectors], fakes that were told as such, of how many; a pair that has not met
    has 0 of 0. anchors [generators + detectors]: the entrants whose mean rating is 1500, so that leagues in
    which more and more entrants play stay on one scale.

    The model is Bradley and Terry's (1952) with every fake as one game, which Rasch (1960) has for people and
    questions: P(caught) = sigmoid(detector's strength - generator's strength), strengths in Elo points with a
    Gaussian prior of 350 points, without which an entrant that never lost a fake would have no finite rating.
    The rating is the posterior's peak, by Newton's method.

    The interval is a bootstrap over images: every pair's count moves by the error of a binomial draw at the
    fitted probability, the prior's mean by a draw from the prior, and the fit is repeated (the randomised
    maximum a posteriori of Oliver, He and Reynolds 1996). With a plain resampling of the counts, one who caught
    every fake would do so in every resample too, and the interval would have no width where least is known.

    What it covers: which images were drawn, given these opponents, as if every answer were independent of all
    others. What it does not: one generator's same fakes are shown to all detectors, and what fools one often
    fools another; other opponents; another training run of the same entrant; and that one number a side
    can't say who is strong against whom. A rating is made of fakes alone: a detector that calls everything a
    fake has the highest of all, which only its accuracy on reals gives away.
    """
    generators = len(shown)
    nothing_known = np.zeros((1, sum(shown.shape)))
    peak = _peaks(caught[None], shown, nothing_known, nothing_known)
    anchors = anchors if anchors.any() else np.ones_like(anchors)
    chances = expit(peak[0, None, generators:] - peak[0, :generators, None])
    ends = np.percentile(_in_points(_resampled(caught, shown, chances, peak), anchors), [2.5, 97.5], axis=0)
    rating = _in_points(peak, anchors)[0]
    return Ratings(rating, np.minimum(ends[0], rating), np.maximum(ends[1], rating))


def _in_points(strengths: NDArray[np.float64], anchors: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Strengths [..., entrants] in nats -> points around the anchors' 1500."""
    if not strengths.size:
        return strengths
    return MEAN_RATING + POINTS_PER_NAT * (strengths - strengths[..., anchors].mean(axis=-1, keepdims=True))


def _resampled(caught: NDArray[np.integer], shown: NDArray[np.integer], chances: NDArray[np.float64],
               peak: NDArray[np.float64]) -> NDArray[np.float64]:  # fmt: skip
    """Strengths [RESAMPLES, entrants] as other images might have given them."""
    rng = np.random.default_rng(0)
    at_once = max(1, CHUNK // max(1, shown.size))
    parts = []
    for start in range(0, RESAMPLES, at_once):
        count = min(at_once, RESAMPLES - start)
        errors = rng.binomial(shown, chances, (count, *shown.shape)) - shown * chances
        priors = rng.normal(0, PRECISION**-0.5, (count, peak.shape[1]))
        parts.append(_peaks(caught + errors, shown, priors, peak))
    return np.concatenate(parts)


def _peaks(caught: Counts, shown: Counts, priors: Floats, start: Floats) -> NDArray[np.float64]:
    """The posterior's peaks [n, entrants] in nats, for n leagues at once.

    caught [n, generators, detectors], shown [generators, detectors], priors [n, entrants] (the prior's means), start
    [1, entrants]. Newton's method with the step of Sun and Tran-Dinh (2019), which never overshoots where, as for
    the logistic function, |f'''| <= f''.
    """
    strengths = start + np.zeros_like(priors)
    generators = len(shown)
    for _ in range(200):  # far more than ever needed: the posterior is strictly concave
        g, d = strengths[:, :generators], strengths[:, generators:]
        chances = expit(d[:, None, :] - g[:, :, None])
        excess = caught - shown * chances
        pull = PRECISION * (priors - strengths)
        slopes = pull + np.concatenate([-excess.sum(2), excess.sum(1)], axis=1)
        step = _newton_step(shown * chances * (1 - chances), slopes)
        largest = np.ptp(step, axis=1, keepdims=True) if step.size else np.zeros(1)
        strengths = strengths + step * np.where(largest > 0, np.log1p(largest) / np.maximum(largest, 1e-300), 1)
        if not step.size or np.abs(step).max() < 1e-4:  # the next one would be as its square
            break
    return strengths


def _newton_step(weights: NDArray[np.float64], slopes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The negative Hessian's inverse times the slopes. The Hessian joins only entrants of different sides, so
    the generators are eliminated first (Schur complement)."""
    generators, detectors = weights.shape[1:]
    of_generators = weights.sum(2)[..., None] + PRECISION
    scaled = weights / of_generators
    left = np.eye(detectors) * (weights.sum(1) + PRECISION)[:, None, :] - weights.swapaxes(1, 2) @ scaled
    right = slopes[:, generators:, None] + scaled.swapaxes(1, 2) @ slopes[:, :generators, None]
    d = np.linalg.solve(left, right)
    g = (slopes[:, :generators, None] + weights @ d) / of_generators
    return np.concatenate([g, d], axis=1)[..., 0]
