import numpy as np
import pytest

from duel.scores import auc


def test_auc_counts_pairs():
    rng = np.random.default_rng(0)
    real, fake = rng.integers(0, 20, 70) / 20, rng.integers(5, 25, 50) / 25  # with ties
    pairs = [(f > r) + 0.5 * (f == r) for f in fake for r in real]
    assert auc(real, fake) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_auc_at_its_ends():
    assert auc(np.array([0.1, 0.2]), np.array([0.8, 0.9])) == 1.0
    assert auc(np.array([0.8, 0.9]), np.array([0.1, 0.2])) == 0.0
    assert auc(np.full(9, 0.5), np.full(7, 0.5)) == 0.5
