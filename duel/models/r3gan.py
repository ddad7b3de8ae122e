"""R3GAN: Huang, Gokaslan, Kuleshov & Tompkin 2024, 'The GAN is dead; long live the GAN! A Modern GAN Baseline'.

Generator and discriminator mirror each other: stages of residual blocks without norms, kept steady by their first
weights (Fixup: Zhang 2019), bilinear changes of size, and a learned 4x4 basis at the small end. Here channels
double away from the image, up to 8 times the first, and a tanh keeps the images in [-1, 1].
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from duel.families import R3ganSettings
from duel.models.convolutions import Pointwise
from duel.models.grouped import Grouped
from duel.models.layers import growing, stages_down_to
from duel.models.resampling import Bilinear, mean_of_four

WIDEST = 8
BASIS = 4  # side of the smallest feature map
EXPANSION = 2  # of the inverted bottleneck
GROUP = 16  # channels that a grouped convolution mixes
SLOPE = 0.2
LAYERS = 3  # convolutions of a residual branch


class Block(nn.Module):
    """Inverted bottleneck, [N, C, S, S] -> [N, C, S, S]: 1x1, grouped 3x3 and 1x1 convolution, added to the input."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        hidden = EXPANSION * width
        groups = hidden // math.gcd(hidden, GROUP)
        self.layers = nn.Sequential(
            Pointwise(width, hidden),
            nn.LeakyReLU(SLOPE),  # not in place: on CUDA it is given a view, which autograd would copy
            Grouped(hidden, hidden, groups),
            nn.LeakyReLU(SLOPE, inplace=True),
            Pointwise(hidden, width, bias=False),
        )
        self._initialise(blocks)

    def _initialise(self, blocks: int) -> None:
        """Fixup for a network of so many blocks: the last convolution is 0, the others shrink with the depth."""
        gain = nn.init.calculate_gain("leaky_relu", SLOPE) * blocks ** (-1 / (2 * LAYERS - 2))
        for convolution in (self.layers[0], self.layers[2]):
            _normal(convolution, gain)
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.layers[4].weight)  # type: ignore[arg-type]

    def forward(self, maps: Tensor) -> Tensor:
        """Feature maps of the same shape."""
        return maps + self.layers(maps)


def _normal(layer: nn.Module, gain: float = 1.0) -> nn.Module:
    """`layer` with weights that keep variance, times gain^2."""
    weight: Tensor = layer.weight  # type: ignore[assignment]
    nn.init.normal_(weight, 0.0, gain / math.sqrt(weight[0].numel()))
    return layer


def _fit(before: int, after: int) -> nn.Module:
    return nn.Identity() if before == after else _normal(Pointwise(before, after, bias=False))


class Enlarge(nn.Module):
    """Bilinear: [N, C, S, S] -> [N, D, 2S, 2S]. The channels change where there are fewer pixels."""

    def __init__(self, before: int, after: int, side: int) -> None:
        super().__init__()
        self.fit = _fit(before, after)
        self.enlarge = Bilinear(side)

    def forward(self, maps: Tensor) -> Tensor:
        """Feature maps of twice the side."""
        return self.enlarge(self.fit(maps))


class Reduce(nn.Module):
    """Bilinear, which between four pixels is their mean: [N, C, 2S, 2S] -> [N, D, S, S]."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.fit = _fit(before, after)

    def forward(self, maps: Tensor) -> Tensor:
        """Feature maps of half the side."""
        return self.fit(mean_of_four(maps))


class GenerativeBasis(nn.Module):
    """Noise [N, latent] -> maps [N, C, 4, 4]: a learned picture a channel, each as strong as the noise says."""

    def __init__(self, latent: int, width: int) -> None:
        super().__init__()
        self.basis = nn.Parameter(torch.randn(width, BASIS, BASIS))
        self.strength = _normal(nn.Linear(latent, width, bias=False))

    def forward(self, noise: Tensor) -> Tensor:
        """The maps."""
        return self.strength(noise)[:, :, None, None] * self.basis


class DiscriminativeBasis(nn.Module):
    """Maps [N, C, 4, 4] -> logits [N]: how much of a learned picture each channel shows, in one number."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.basis = nn.Parameter(torch.randn(width, BASIS, BASIS) / BASIS)
        self.strength = _normal(nn.Linear(width, 1, bias=False))

    def forward(self, maps: Tensor) -> Tensor:
        """The logits."""
        return self.strength((maps.float() * self.basis).sum((2, 3))).flatten()


def _stages(image_size: int, width: int) -> list[int]:
    """Channels at each side from the image's down to 4."""
    return growing(width, stages_down_to(BASIS, image_size) + 1, WIDEST)


def _blocks(width: int, depth: int, stages: int) -> list[nn.Module]:
    return [Block(width, depth * stages) for _ in range(depth)]


class R3ganGenerator(nn.Module):
    """Noise [N, latent] -> images [N, 3, S, S] in [-1, 1]."""

    def __init__(self, image_size: int, settings: R3ganSettings) -> None:
        super().__init__()
        self.latent = settings.latent
        channels = _stages(image_size, settings.width)[::-1]
        layers: list[nn.Module] = [GenerativeBasis(settings.latent, channels[0])]
        layers += _blocks(channels[0], settings.depth, len(channels))
        for stage, (before, after) in enumerate(pairwise(channels)):
            layers += [Enlarge(before, after, BASIS * 2**stage), *_blocks(after, settings.depth, len(channels))]
        layers += [_normal(Pointwise(channels[-1], 3, bias=False)), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, noise: Tensor) -> Tensor:
        """Images of noise."""
        return self.layers(noise)


class R3ganDiscriminator(nn.Module):
    """Images [N, 3, S, S] in [-1, 1] -> logits [N], high for real."""

    def __init__(self, image_size: int, settings: R3ganSettings) -> None:
        super().__init__()
        channels = _stages(image_size, settings.width_discriminator)
        layers: list[nn.Module] = [_normal(Pointwise(3, channels[0], bias=False))]
        for before, after in pairwise(channels):
            layers += [*_blocks(before, settings.depth, len(channels)), Reduce(before, after)]
        layers += [*_blocks(channels[-1], settings.depth, len(channels)), DiscriminativeBasis(channels[-1])]
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images."""
        return self.layers(images)
