"""Generators and detectors: plain nn.Modules. Two explicit dicts name every family.

A generator maps noise [N, latent] to images [N, 3, S, S] in [-1, 1] and has the attribute `latent`.
A detector (duel.models.detector) maps images [N, 3, S, S] in [-1, 1] to logits [N]; P(fake) = sigmoid(logit).
A family's typed settings are in `duel.families`, under the same name.
"""

from collections.abc import Callable
from typing import Any

from torch import nn

from duel.errors import UsageError
from duel.models.cnn import CnnDetector
from duel.models.dcgan import DcganDiscriminator, DcganGenerator
from duel.models.patch import PatchDetector
from duel.models.probe import ProbeDetector
from duel.models.r3gan import R3ganDiscriminator, R3ganGenerator
from duel.models.residual import ResidualDetector
from duel.models.resnet18 import Resnet18Detector
from duel.models.sagan import SaganDiscriminator, SaganGenerator
from duel.models.sngan import SnganDiscriminator, SnganGenerator
from duel.models.spectrum import SpectrumDetector

Builder = Callable[[int, Any], nn.Module]  # (image_size, the family's settings) -> network

GENERATORS: dict[str, Builder] = {
    "dcgan": DcganGenerator,
    "sngan": SnganGenerator,
    "sagan": SaganGenerator,
    "r3gan": R3ganGenerator,
}
DISCRIMINATORS: dict[str, Builder] = {
    "dcgan": DcganDiscriminator,
    "sngan": SnganDiscriminator,
    "sagan": SaganDiscriminator,
    "r3gan": R3ganDiscriminator,
}
DETECTORS: dict[str, Builder] = {
    "cnn": CnnDetector,
    "resnet18": Resnet18Detector,
    "residual": ResidualDetector,
    "spectrum": SpectrumDetector,
    "patch": PatchDetector,
    "probe": ProbeDetector,
}

IMAGE_SIZES = (16, 32, 64, 128, 256)


def _build(builders: dict[str, Builder], family: str, image_size: int, settings: Any) -> nn.Module:
    if family not in builders:
        raise UsageError(f"family: {family!r} is unknown here; allowed: {', '.join(builders)}")
    if image_size not in IMAGE_SIZES:
        raise UsageError(f"image_size: {image_size} is not one of {', '.join(map(str, IMAGE_SIZES))}")
    return builders[family](image_size, settings)


def build(side: str, family: str, image_size: int, settings: Any) -> nn.Module:
    """A fresh network of `family` on `side` ('generator' or 'detector'), in training mode, on the CPU.

    Its first weights come from torch's global random state. Raises UsageError for an unknown family or size.
    """
    return _build({"generator": GENERATORS, "detector": DETECTORS}[side], family, image_size, settings)


def build_discriminator(family: str, image_size: int, settings: Any) -> nn.Module:
    """The network that a generator of `family` trains against: images -> logits [N], high for real."""
    return _build(DISCRIMINATORS, family, image_size, settings)
