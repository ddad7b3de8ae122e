"""DCGAN: Radford, Metz & Chintala 2016, 'Unsupervised Representation Learning with Deep Convolutional GANs'.

The paper's networks at any power of two from 16 to 256, with two later repairs as settings: nearest
upsampling against checkerboards (Odena 2016) and spectral normalisation (Miyato 2018).
"""

from itertools import pairwise

from torch import Tensor, nn

from duel.families import DcganSettings
from duel.models.convolutions import Double, Gather, Halve, Project
from duel.models.layers import NearestUpsample, growing, spectral_all, stages_down_to

WIDEST = 8  # the paper's 64x64 network grows to 8 times its first width; larger images stay there
FIRST = 4  # side of the smallest feature map


def _initialise(network: nn.Module) -> None:
    """Weights from N(0, 0.02), batch-norm scales from N(1, 0.02), as in the paper and its code."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d | NearestUpsample):
            nn.init.normal_(module.weight, 0.0, 0.02)


class DcganGenerator(nn.Module):
    """Noise [N, latent] -> images [N, 3, S, S] in [-1, 1]."""

    def __init__(self, image_size: int, settings: DcganSettings) -> None:
        super().__init__()
        self.latent = settings.latent
        channels = growing(settings.width, stages_down_to(FIRST, image_size), WIDEST)[::-1]
        layers: list[nn.Module] = [
            Project(settings.latent, channels[0], FIRST),
            nn.BatchNorm2d(channels[0]),
            nn.ReLU(inplace=True),
        ]
        for before, after in pairwise(channels):
            layers += [self._enlarge(settings, before, after), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        layers += [self._enlarge(settings, channels[-1], 3), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        _initialise(self)

    @staticmethod
    def _enlarge(settings: DcganSettings, before: int, after: int) -> nn.Module:
        if settings.upsample == "nearest":
            return NearestUpsample(before, after)
        return Double(before, after)

    def forward(self, noise: Tensor) -> Tensor:
        """Images of noise."""
        return self.layers(noise)


class DcganDiscriminator(nn.Module):
    """Images [N, 3, S, S] in [-1, 1] -> logits [N], high for real."""

    def __init__(self, image_size: int, settings: DcganSettings) -> None:
        super().__init__()
        channels = growing(settings.width_discriminator, stages_down_to(FIRST, image_size), WIDEST)
        layers: list[nn.Module] = []
        for stage, (before, after) in enumerate(pairwise([3, *channels])):
            norm = settings.norm_discriminator == "batch" and stage > 0  # none at the image, as in the paper
            layers.append(Halve(before, after, bias=not norm))
            layers += [nn.BatchNorm2d(after)] if norm else []
            layers.append(nn.LeakyReLU(0.2, inplace=True))
        layers += [Gather(channels[-1], 1, FIRST), nn.Flatten(0)]
        self.layers = nn.Sequential(*layers)
        _initialise(self)
        if settings.norm_discriminator == "spectral":
            spectral_all(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images."""
        return self.layers(images)
