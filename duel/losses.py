"""The objectives of adversarial training, as pure functions of the discriminator's logits [N].

A high logit says real. Each pair of losses is minimised by its own network.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def non_saturating_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """-log D(real) - log(1 - D(fake)), with D = sigmoid(logit) (Goodfellow 2014)."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def non_saturating_generator(fake: Tensor) -> Tensor:
    """-log D(fake): the form of Goodfellow 2014 whose gradient does not vanish."""
    return F.softplus(-fake).mean()


def least_squares_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Targets 1 for reals and 0 for fakes (Mao 2017, equation 9: half of each square)."""
    return 0.5 * (real - 1.0).square().mean() + 0.5 * fake.square().mean()


def least_squares_generator(fake: Tensor) -> Tensor:
    """Target 1 for fakes (Mao 2017, equation 9)."""
    return 0.5 * (fake - 1.0).square().mean()


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Margins at +1 and -1 (Lim & Ye 2017; Miyato 2018)."""
    return F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean()


def hinge_generator(fake: Tensor) -> Tensor:
    """-logit (Lim & Ye 2017)."""
    return -fake.mean()


DISCRIMINATOR_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "non_saturating": non_saturating_discriminator,
    "least_squares": least_squares_discriminator,
    "hinge": hinge_discriminator,
}
GENERATOR_LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "non_saturating": non_saturating_generator,
    "least_squares": least_squares_generator,
    "hinge": hinge_generator,
}


def discriminator_loss(objective: str, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """What the discriminator minimises: a scalar, in float32 whatever the logits' precision."""
    return DISCRIMINATOR_LOSSES[objective](real_logits.float(), fake_logits.float())


def generator_loss(objective: str, fake_logits: Tensor) -> Tensor:
    """What the generator minimises: a scalar, in float32 whatever the logits' precision."""
    return GENERATOR_LOSSES[objective](fake_logits.float())


def detector_loss(logits: Tensor, is_fake: Tensor) -> Tensor:
    """Binary cross-entropy of P(fake) = sigmoid(logit): a scalar. `is_fake` is float [N], 1 for fakes."""
    return F.binary_cross_entropy_with_logits(logits.float(), is_fake.to(torch.float32))
