"""The validation reals' features are measured once a run, whoever needs them first."""

import numpy as np
import torch

from duel.sweep.job import States
from duel.sweep.yardsticks import real_features


class Means(torch.nn.Module):
    """A feature network for tests: the mean of each channel."""

    def forward(self, images):
        return images.float().mean((2, 3))


def test_features_are_measured_once_and_kept_in_the_store(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (70, 3, 8, 8), dtype=np.uint8)
    states, device = States(str(tmp_path), "this run"), torch.device("cpu")
    first = real_features(states, Means(), images, device)
    assert np.allclose(first, images.mean((2, 3)), atol=1e-3)
    assert (real_features(states, Means(), np.zeros_like(images), device) == first).all()


def test_features_of_another_runs_faces_are_not_taken(tmp_path):
    device, black = torch.device("cpu"), np.zeros((70, 3, 8, 8), np.uint8)
    real_features(States(str(tmp_path), "that run"), Means(), np.full_like(black, 9), device)
    assert (real_features(States(str(tmp_path), "this run"), Means(), black, device) == 0).all()
