import math

import pytest
import torch

from duel.losses import (
    DISCRIMINATOR_LOSSES,
    GENERATOR_LOSSES,
    detector_loss,
    discriminator_loss,
    generator_loss,
)

REAL, FAKE = [0.7, -1.5, 3.0], [-0.2, 1.4, -2.5]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def mean(values):
    return sum(values) / len(values)


# each formula as its paper prints it, in plain floats
DISCRIMINATOR_FORMULAS = {
    "non_saturating": mean([-math.log(sigmoid(r)) for r in REAL]) + mean([-math.log(1 - sigmoid(f)) for f in FAKE]),
    "least_squares": mean([(r - 1) ** 2 for r in REAL]) / 2 + mean([f**2 for f in FAKE]) / 2,
    "hinge": mean([max(0, 1 - r) for r in REAL]) + mean([max(0, 1 + f) for f in FAKE]),
}
GENERATOR_FORMULAS = {
    "non_saturating": mean([-math.log(sigmoid(f)) for f in FAKE]),
    "least_squares": mean([(f - 1) ** 2 for f in FAKE]) / 2,
    "hinge": -mean(FAKE),
}


@pytest.mark.parametrize("objective", DISCRIMINATOR_LOSSES)
def test_gan_losses_follow_their_formulas(objective):
    real, fake = torch.tensor(REAL), torch.tensor(FAKE)
    assert discriminator_loss(objective, real, fake).item() == pytest.approx(DISCRIMINATOR_FORMULAS[objective])
    assert generator_loss(objective, fake).item() == pytest.approx(GENERATOR_FORMULAS[objective])


@pytest.mark.parametrize("objective", DISCRIMINATOR_LOSSES)
def test_each_side_is_pulled_its_way(objective):
    real, fake = torch.zeros(4, requires_grad=True), torch.zeros(4, requires_grad=True)
    discriminator_loss(objective, real, fake).backward()
    assert (real.grad < 0).all()  # descent raises the reals' logits
    assert (fake.grad > 0).all() or objective == "least_squares"  # whose target for fakes is 0 itself
    fake.grad = None
    generator_loss(objective, fake).backward()
    assert (fake.grad < 0).all()


def test_every_objective_has_both_losses():
    assert set(DISCRIMINATOR_LOSSES) == set(GENERATOR_LOSSES)


def test_losses_are_float32_and_finite_for_large_bfloat16_logits():
    large = torch.tensor([80.0, -80.0], dtype=torch.bfloat16)
    for objective in DISCRIMINATOR_LOSSES:
        loss = discriminator_loss(objective, large, large)
        assert loss.dtype == torch.float32
        assert loss.isfinite()


def test_detector_loss_is_binary_cross_entropy():
    logits, is_fake = torch.tensor([0.3, -2.0]), torch.tensor([1.0, 0.0])
    expected = mean([-math.log(sigmoid(0.3)), -math.log(1 - sigmoid(-2.0))])
    assert detector_loss(logits, is_fake).item() == pytest.approx(expected)
