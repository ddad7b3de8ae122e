"""SNGAN: Miyato, Kataoka, Koyama & Yoshida 2018, 'Spectral Normalization for Generative Adversarial Networks'.

The residual networks of its appendix B.4 at any power of two from 16 to 256: channels double away from the image,
up to 16 times the first, as in the 128x128 network. Each step trains both networks once; the paper took five
steps of the discriminator.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from duel.families import SnganSettings
from duel.models.convolutions import Pointwise, Project
from duel.models.layers import AverageDownsample, NearestUpsample, growing, spectral_all, stages_down_to
from duel.models.resampling import Halved, Repeated

WIDEST = 16
FIRST = 4  # side of the smallest feature map


class UpBlock(nn.Module):
    """Residual block with batch norm: [N, C, S, S] -> [N, D, 2S, 2S]."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.BatchNorm2d(before),
            nn.ReLU(inplace=True),
            NearestUpsample(before, after),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
            nn.Conv2d(after, after, 3, padding=1),
        )
        # a 1x1 convolution and copies of pixels may change places: the same numbers, a quarter of the work
        self.shortcut = nn.Sequential(Pointwise(before, after), Repeated())
        self.channels = after

    def forward(self, maps: Tensor) -> Tensor:
        """Feature maps of twice the side."""
        return self.residual(maps) + self.shortcut(maps)


class DownBlock(nn.Module):
    """Residual block without norm: [N, C, S, S] -> [N, D, S/2, S/2]. The one `at_image` has no ReLU before it."""

    def __init__(self, before: int, after: int, at_image: bool) -> None:
        super().__init__()
        hidden = after if at_image else before
        self.residual = nn.Sequential(
            nn.Identity() if at_image else nn.ReLU(),
            nn.Conv2d(before, hidden, 3, padding=1),
            nn.ReLU(inplace=True),
            AverageDownsample(hidden, after),
        )
        self.shortcut = nn.Sequential(Halved(), Pointwise(before, after))
        self.channels = after

    def forward(self, maps: Tensor) -> Tensor:
        """Feature maps of half the side."""
        return self.residual(maps) + self.shortcut(maps)


class LastBlock(nn.Module):
    """Residual block without norm that keeps the shape [N, C, S, S]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Feature maps of the same shape."""
        return maps + self.residual(maps)


class SumPool(nn.Module):
    """[N, C, S, S] -> [N, C]: ReLU, then the sum over pixels, in float32."""

    def forward(self, maps: Tensor) -> Tensor:
        """The sums."""
        return torch.relu(maps).sum((2, 3), dtype=torch.float32)


def _initialise(network: nn.Module) -> None:
    """Glorot's uniform weights, in the residual branches with the gain of a ReLU."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear | NearestUpsample | AverageDownsample):
            nn.init.xavier_uniform_(module.weight, math.sqrt(2) if "residual" in name else 1.0)
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]


class SnganGenerator(nn.Module):
    """Noise [N, latent] -> images [N, 3, S, S] in [-1, 1]. Layer k > 0 of the blocks gives maps of side 4 * 2^k."""

    def __init__(self, image_size: int, settings: SnganSettings) -> None:
        super().__init__()
        self.latent = settings.latent
        channels = growing(settings.width, stages_down_to(FIRST, image_size), WIDEST)[::-1]
        project = Project(settings.latent, channels[0], FIRST)
        nn.init.normal_(project.weight, 0.0, settings.latent**-0.5)
        self.layers = nn.Sequential(
            project,
            *(UpBlock(before, after) for before, after in pairwise([channels[0], *channels])),
            nn.BatchNorm2d(channels[-1]),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels[-1], 3, 3, padding=1),
            nn.Tanh(),
        )
        _initialise(self)

    def forward(self, noise: Tensor) -> Tensor:
        """Images of noise."""
        return self.layers(noise)


def discriminator_layers(image_size: int, settings: SnganSettings) -> nn.Sequential:
    """Images [N, 3, S, S] -> logits [N], without spectral norm. Layer k gives maps of side S / 2^(k + 1)."""
    channels = growing(settings.width_discriminator, stages_down_to(FIRST, image_size), WIDEST)
    layers = nn.Sequential(
        *(DownBlock(before, after, at_image=before == 3) for before, after in pairwise([3, *channels])),
        LastBlock(channels[-1]),
        SumPool(),
        nn.Linear(channels[-1], 1),
        nn.Flatten(0),
    )
    _initialise(layers)
    return layers


class SnganDiscriminator(nn.Module):
    """Images [N, 3, S, S] in [-1, 1] -> logits [N], high for real. Every layer has spectral norm."""

    def __init__(self, image_size: int, settings: SnganSettings) -> None:
        super().__init__()
        self.layers = discriminator_layers(image_size, settings)
        spectral_all(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images."""
        return self.layers(images)
