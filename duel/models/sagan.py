"""SAGAN: Zhang, Goodfellow, Metaxas & Odena 2019, 'Self-Attention Generative Adversarial Networks'.

SNGAN's residual networks with one layer of self-attention each and with spectral norm in both. The paper
conditions batch norm on a class; here are no classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from duel.families import SaganSettings
from duel.models.convolutions import Pointwise
from duel.models.layers import spectral_all, stages_down_to
from duel.models.sngan import FIRST, SnganGenerator, discriminator_layers

SHARE = 8  # the paper's k: queries, keys and values have so many times fewer channels than the maps


class SelfAttention(nn.Module):
    """Every pixel of a map [N, C, S, S] looks at all others; what it finds is added, times gamma, at first 0.

    Keys and values are pooled to half the side, as the authors' own networks do: a quarter of the work.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // SHARE)
        self.query = Pointwise(channels, inner)
        self.key = Pointwise(channels, inner)
        self.value = Pointwise(channels, inner)
        self.out = Pointwise(inner, channels)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, maps: Tensor) -> Tensor:
        """The maps, and what they attend to."""
        query, key, value = self.query(maps), *(F.max_pool2d(layer(maps), 2) for layer in (self.key, self.value))
        attention = (_pixels(query) @ _pixels(key).transpose(1, 2)).softmax(-1)  # [N, from, to]
        found = (attention @ _pixels(value)).transpose(1, 2)
        return maps + self.gamma.to(maps.dtype) * self.out(found.unflatten(2, maps.shape[2:]))


def _pixels(maps: Tensor) -> Tensor:
    """[N, C, S, S] -> [N, S S, C], which maps with their channels last are already."""
    return maps.permute(0, 2, 3, 1).flatten(1, 2)


def _attention_side(image_size: int, settings: SaganSettings) -> int:
    """The side asked for, or the largest that is below the image's."""
    return min(settings.attention, image_size // 2)


class SaganGenerator(SnganGenerator):
    """Noise [N, latent] -> images [N, 3, S, S] in [-1, 1]."""

    def __init__(self, image_size: int, settings: SaganSettings) -> None:
        super().__init__(image_size, settings)
        block = stages_down_to(FIRST, _attention_side(image_size, settings))
        channels: int = self.layers[block].channels  # type: ignore[assignment]
        self.layers.insert(block + 1, SelfAttention(channels))
        spectral_all(self)


class SaganDiscriminator(nn.Module):
    """Images [N, 3, S, S] in [-1, 1] -> logits [N], high for real."""

    def __init__(self, image_size: int, settings: SaganSettings) -> None:
        super().__init__()
        self.layers = discriminator_layers(image_size, settings)
        halvings = stages_down_to(_attention_side(image_size, settings), image_size)
        channels: int = self.layers[halvings - 1].channels  # type: ignore[assignment]
        self.layers.insert(halvings, SelfAttention(channels))
        spectral_all(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images."""
        return self.layers(images)
