"""The objectives of adversarial training and its penalties, as pure functions of the discriminator's logits [N].

A high logit says real. Each pair of losses is minimised by its own network.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Objective(NamedTuple):
    """What the two networks minimise, each of (real logits, fake logits); `paired`: the generator's needs both."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]
    paired: bool = False


def non_saturating_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """-log D(real) - log(1 - D(fake)), with D = sigmoid(logit) (Goodfellow 2014)."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def non_saturating_generator(_real: Tensor, fake: Tensor) -> Tensor:
    """-log D(fake): the form of Goodfellow 2014 whose gradient does not vanish."""
    return F.softplus(-fake).mean()


def least_squares_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Targets 1 for reals and 0 for fakes (Mao 2017, equation 9: half of each square)."""
    return 0.5 * (real - 1.0).square().mean() + 0.5 * fake.square().mean()


def least_squares_generator(_real: Tensor, fake: Tensor) -> Tensor:
    """Target 1 for fakes (Mao 2017, equation 9)."""
    return 0.5 * (fake - 1.0).square().mean()


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Margins at +1 and -1 (Lim & Ye 2017; Miyato 2018)."""
    return F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean()


def hinge_generator(_real: Tensor, fake: Tensor) -> Tensor:
    """-logit (Lim & Ye 2017)."""
    return -fake.mean()


def relativistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """-log sigmoid(real - fake), each real paired with one fake (RpGAN: Jolicoeur-Martineau 2019; Huang 2024)."""
    return F.softplus(fake - real).mean()


def relativistic_generator(real: Tensor, fake: Tensor) -> Tensor:
    """-log sigmoid(fake - real), its mirror."""
    return F.softplus(real - fake).mean()


OBJECTIVES: dict[str, Objective] = {
    "non_saturating": Objective(non_saturating_discriminator, non_saturating_generator),
    "least_squares": Objective(least_squares_discriminator, least_squares_generator),
    "hinge": Objective(hinge_discriminator, hinge_generator),
    "relativistic": Objective(relativistic_discriminator, relativistic_generator, paired=True),
}


def discriminator_loss(objective: str, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """What the discriminator minimises: a scalar, in float32 whatever the logits' precision."""
    return OBJECTIVES[objective].discriminator(real_logits.float(), fake_logits.float())


def generator_loss(objective: str, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
    """What the generator minimises: a scalar, in float32.

    Raises ValueError when the objective is `paired` and no `real_logits` are given; the others need none.
    """
    if real_logits is None:
        if OBJECTIVES[objective].paired:
            raise ValueError(f"the generator's {objective} loss needs real_logits")
        real_logits = fake_logits
    return OBJECTIVES[objective].generator(real_logits.float(), fake_logits.float())


def gradient_penalty(images: Tensor, logits: Tensor) -> Tensor:
    """E ||grad_x D(x)||^2 over images [N, 3, S, S] that require a gradient and their logits [N]: a scalar, float32.

    The zero-centred penalty of Mescheder 2018, R1 on reals and R2 on fakes, before its factor of gamma / 2. Its
    own gradient reaches the discriminator's weights.
    """
    (slopes,) = torch.autograd.grad(logits.float().sum(), images, create_graph=True)
    return slopes.float().square().sum((1, 2, 3)).mean()


def detector_loss(logits: Tensor, is_fake: Tensor) -> Tensor:
    """Binary cross-entropy of P(fake) = sigmoid(logit): a scalar. `is_fake` is float [N], 1 for fakes."""
    return F.binary_cross_entropy_with_logits(logits.float(), is_fake.to(torch.float32))


def evasion_loss(logits: Tensor) -> Tensor:
    """-log(1 - P(fake)) of fakes, from a detector's logits [N]: a scalar, 0 where it is taken in."""
    return F.softplus(logits.float()).mean()
