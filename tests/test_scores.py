import numpy as np
import pytest

from duel.scores import auc, calibration_error


def test_auc_counts_pairs():
    rng = np.random.default_rng(0)
    real, fake = rng.integers(0, 20, 70) / 20, rng.integers(5, 25, 50) / 25  # with ties
    pairs = [(f > r) + 0.5 * (f == r) for f in fake for r in real]
    assert auc(real, fake) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_auc_at_its_ends():
    assert auc(np.array([0.1, 0.2]), np.array([0.8, 0.9])) == 1.0
    assert auc(np.array([0.8, 0.9]), np.array([0.1, 0.2])) == 0.0
    assert auc(np.full(9, 0.5), np.full(7, 0.5)) == 0.5


def test_calibration_error_of_planted_answers():
    assert calibration_error(np.zeros(5), np.ones(9)) == 0
    assert calibration_error(np.ones(5), np.zeros(9)) == pytest.approx(1)
    # Nine in ten stated, six in ten right.
    says = np.where(np.arange(10) < 6, 0.9, 0.1)
    assert calibration_error(1 - says, says) == pytest.approx(0.3)
    assert calibration_error(1 - np.repeat(says, 7), says) == pytest.approx(0.3)  # classes weigh the same
