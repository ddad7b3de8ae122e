import math
from typing import get_args

import numpy as np
import pytest
import torch

from duel.families import ObjectiveName
from duel.losses import OBJECTIVES, detector_loss, discriminator_loss, generator_loss, gradient_penalty

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
    "relativistic": np.logaddexp(0, np.subtract(FAKE, REAL)).mean(),
}
GENERATOR_FORMULAS = {
    "non_saturating": mean([-math.log(sigmoid(f)) for f in FAKE]),
    "least_squares": mean([(f - 1) ** 2 for f in FAKE]) / 2,
    "hinge": -mean(FAKE),
    "relativistic": np.logaddexp(0, np.subtract(REAL, FAKE)).mean(),
}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gan_losses_follow_their_formulas(objective):
    real, fake = torch.tensor(REAL), torch.tensor(FAKE)
    assert discriminator_loss(objective, real, fake).item() == pytest.approx(DISCRIMINATOR_FORMULAS[objective])
    assert generator_loss(objective, fake, real).item() == pytest.approx(GENERATOR_FORMULAS[objective])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_each_side_is_pulled_its_way(objective):
    real, fake = torch.zeros(4, requires_grad=True), torch.zeros(4, requires_grad=True)
    discriminator_loss(objective, real, fake).backward()
    assert (real.grad < 0).all()  # descent raises the reals' logits
    assert (fake.grad > 0).all() or objective == "least_squares"  # whose target for fakes is 0 itself
    fake.grad = None
    generator_loss(objective, fake, real.detach()).backward()
    assert (fake.grad < 0).all()


def test_every_objective_that_can_be_set_has_its_losses():
    assert set(OBJECTIVES) == set(get_args(ObjectiveName)) == set(DISCRIMINATOR_FORMULAS)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_only_a_paired_generator_loss_asks_for_reals(objective):
    fake, real = torch.tensor(FAKE), torch.tensor(REAL)
    if OBJECTIVES[objective].paired:
        with pytest.raises(ValueError, match="needs real_logits"):
            generator_loss(objective, fake)
        assert generator_loss(objective, fake, real) != generator_loss(objective, fake, real + 1)
    else:
        assert generator_loss(objective, fake) == generator_loss(objective, fake, real)


def test_relativistic_losses_depend_on_differences_alone():
    real, fake = torch.tensor(REAL), torch.tensor(FAKE)
    for loss in (discriminator_loss("relativistic", real, fake), generator_loss("relativistic", fake, real)):
        assert loss > 0
    shifted = discriminator_loss("relativistic", real + 7, fake + 7)
    torch.testing.assert_close(shifted, discriminator_loss("relativistic", real, fake))


def test_penalty_of_a_linear_discriminator_is_its_slope():
    """D(x) = w x has the gradient w everywhere, so the penalty is ||w||^2 and its own gradient 2 w."""
    weight = torch.randn(3, 4, 4, requires_grad=True)
    images = torch.randn(5, 3, 4, 4, requires_grad=True)
    penalty = gradient_penalty(images, (images * weight).sum((1, 2, 3)))
    torch.testing.assert_close(penalty, weight.square().sum())
    penalty.backward()
    torch.testing.assert_close(weight.grad, 2 * weight.detach())


def test_penalty_of_a_quadratic_discriminator_is_that_of_each_image():
    """D(x) = a ||x||^2 / 2 has the gradient a x: the penalty is a^2 E ||x||^2, and its gradient 2 a E ||x||^2."""
    a = torch.tensor(0.7, requires_grad=True)
    images = torch.randn(5, 3, 4, 4, requires_grad=True)
    energy = images.detach().square().sum((1, 2, 3)).mean()
    penalty = gradient_penalty(images, a / 2 * images.square().sum((1, 2, 3)))
    torch.testing.assert_close(penalty, a.detach() ** 2 * energy)
    penalty.backward()
    torch.testing.assert_close(a.grad, 2 * a.detach() * energy)


def test_penalty_is_float32_for_bfloat16_logits():
    images = torch.randn(2, 3, 4, 4, requires_grad=True)
    penalty = gradient_penalty(images, images.bfloat16().sum((1, 2, 3)))
    assert penalty.dtype == torch.float32
    assert penalty == 48


def test_losses_are_float32_and_finite_for_large_bfloat16_logits():
    large = torch.tensor([80.0, -80.0], dtype=torch.bfloat16)
    for objective in OBJECTIVES:
        for loss in (discriminator_loss(objective, large, -large), generator_loss(objective, large, -large)):
            assert loss.dtype == torch.float32
            assert loss.isfinite()


def test_detector_loss_is_binary_cross_entropy():
    logits, is_fake = torch.tensor([0.3, -2.0]), torch.tensor([1.0, 0.0])
    expected = mean([-math.log(sigmoid(0.3)), -math.log(1 - sigmoid(-2.0))])
    assert detector_loss(logits, is_fake).item() == pytest.approx(expected)
