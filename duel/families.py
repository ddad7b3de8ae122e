"""What can be set about each family of networks: one typed class a family, one line a family in the dicts below.

The classes hold no code of the networks, so that a sweep file can be checked without importing torch.
`duel.models` builds the networks from them.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Rate = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Gamma = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Settings(BaseModel):
    """Settings of one trial. Unknown names and values out of range are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


ObjectiveName = Literal["non_saturating", "least_squares", "hinge", "relativistic"]


class GeneratorSettings(Settings):
    """What every generator family shares: the adversarial training around the network."""

    latent: int = Field(100, ge=1, le=1024, description="numbers of noise that make one face")
    batch_size: int = Field(128, ge=4, le=4096, description="images a step")
    objective: ObjectiveName = Field(
        "non_saturating", description="GAN objective (Goodfellow 2014, Mao 2017, Lim & Ye 2017, RpGAN in Huang 2024)"
    )
    lr_generator: Rate = Field(2e-4, description="Adam learning rate of the generator")
    lr_discriminator: Rate = Field(2e-4, description="Adam learning rate of the discriminator")
    beta1: Fraction = Field(0.5, description="Adam's first beta, both networks")
    beta2: Fraction = Field(0.999, description="Adam's second beta, both networks")
    ema_images: int = Field(
        10_000, ge=0, description="half-life, in images, of the weights' moving average; 0 switches it off"
    )
    augment: bool = Field(False, description="DiffAugment on what the discriminator sees (Zhao 2020)")
    r1: Gamma = Field(0.0, description="gamma of the gradient penalty on reals (Mescheder 2018); 0 switches it off")
    r2: Gamma = Field(0.0, description="gamma of the gradient penalty on fakes; 0 switches it off")
    penalty_every: int = Field(
        16, ge=1, le=64, description="steps from one penalty to the next, which counts so many times (Karras 2020)"
    )


class DcganSettings(GeneratorSettings):
    """DCGAN (Radford 2016): strided and transposed convolutions, batch norm, noise to image."""

    width: int = Field(64, ge=4, le=512, description="channels of the generator's last hidden layer")
    width_discriminator: int = Field(64, ge=4, le=512, description="channels of the discriminator's first layer")
    upsample: Literal["transposed", "nearest"] = Field(
        "transposed", description="the paper's transposed convolutions, or nearest + convolution (Odena 2016)"
    )
    norm_discriminator: Literal["batch", "spectral"] = Field(
        "batch", description="the paper's batch norm, or spectral normalisation (Miyato 2018)"
    )


class SnganSettings(GeneratorSettings):
    """SNGAN (Miyato 2018): residual blocks, batch norm in the generator, spectral norm in the discriminator."""

    latent: int = Field(128, ge=1, le=1024, description="numbers of noise that make one face")
    objective: ObjectiveName = Field("hinge", description="GAN objective")
    beta1: Fraction = Field(0.0, description="Adam's first beta, both networks")
    beta2: Fraction = Field(0.9, description="Adam's second beta, both networks")
    width: int = Field(64, ge=4, le=512, description="channels of the generator's last block")
    width_discriminator: int = Field(64, ge=4, le=512, description="channels of the discriminator's first block")


class SaganSettings(SnganSettings):
    """SAGAN (Zhang 2019): SNGAN's blocks, self-attention, spectral norm in both networks, two learning rates."""

    lr_generator: Rate = Field(1e-4, description="Adam learning rate of the generator")
    lr_discriminator: Rate = Field(4e-4, description="Adam learning rate of the discriminator (TTUR: Heusel 2017)")
    attention: Literal[8, 16, 32] = Field(
        32, description="side of the feature map that attends to itself; at most half of the image's"
    )


class R3ganSettings(GeneratorSettings):
    """R3GAN (Huang 2024): plain residual networks without norms, the relativistic objective, R1 and R2."""

    latent: int = Field(64, ge=1, le=1024, description="numbers of noise that make one face")
    objective: ObjectiveName = Field("relativistic", description="GAN objective")
    beta1: Fraction = Field(0.0, description="Adam's first beta, both networks")
    beta2: Fraction = Field(0.99, description="Adam's second beta, both networks")
    r1: Gamma = Field(1.0, description="gamma of the gradient penalty on reals; 0 switches it off")
    r2: Gamma = Field(1.0, description="gamma of the gradient penalty on fakes; 0 switches it off")
    penalty_every: int = Field(1, ge=1, le=64, description="steps from one penalty to the next; 1 in the paper")
    width: int = Field(64, ge=4, le=512, description="channels of the generator's last stage")
    width_discriminator: int = Field(64, ge=4, le=512, description="channels of the discriminator's first stage")
    depth: int = Field(2, ge=1, le=4, description="residual blocks a stage (2 in the paper), both networks")


class DetectorSettings(Settings):
    """What every detector family shares: supervised training on reals and on sparring generators' fakes."""

    sparring: Literal["one", "some", "all"] = Field(
        "all",
        description="whose fakes it trains on: of each season's finalists: one's, half of theirs, or all of theirs",
    )
    batch_size: int = Field(128, ge=4, le=4096, description="images a step, half real and half fake")
    lr: Rate = Field(1e-3, description="AdamW learning rate")
    weight_decay: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = Field(1e-4, description="AdamW")
    dropout: Fraction = Field(0.2, description="before the last layer")
    false_alarms: Fraction = Field(
        0.05,
        description="share of validation reals that may be called fake, to see unseen generators; 0: Platt's threshold",
    )
    flip: Probability = Field(0.5, description="chance of a mirrored image")
    blur: Probability = Field(0.0, description="chance of a Gaussian blur (Wang 2020)")
    blur_sigma: Annotated[float, Field(gt=0, le=20, allow_inf_nan=False)] = Field(
        3.0, description="the strongest blur's sigma, in pixels of a 256x256 image"
    )
    jpeg: Probability = Field(0.0, description="chance of a JPEG compression (Wang 2020)")
    jpeg_quality: int = Field(30, ge=1, le=100, description="the lowest JPEG quality; the highest is 100")
    noise: Probability = Field(0.0, description="chance of Gaussian noise on every pixel")
    noise_sigma: Annotated[float, Field(gt=0, le=128, allow_inf_nan=False)] = Field(
        10.0, description="the strongest noise's sigma, in levels of 0 to 255"
    )


class CnnSettings(DetectorSettings):
    """The university project's kind of plain CNN: convolution, ReLU, pooling, two dense layers."""

    width: int = Field(32, ge=4, le=512, description="channels of the first convolution, doubled a stage")
    depth: int = Field(3, ge=1, le=6, description="stages, each halving the image")


class Resnet18Settings(DetectorSettings):
    """ResNet-18 (He 2016) from torchvision, its stem fitted to small images."""

    width: int = Field(64, ge=8, le=256, description="channels of the first stage (64 in the paper)")
    depth: int = Field(4, ge=1, le=4, description="stages kept of the paper's four")


class ResidualSettings(CnnSettings):
    """A plain CNN on noise residuals: SRM (Fridrich & Kodovsky 2012, Zhou 2018) or NPR (Tan 2024)."""

    front: Literal["srm", "npr"] = Field(
        "srm", description="high-pass filters, or relations of the pixels of each 2x2 square"
    )


class SpectrumSettings(CnnSettings):
    """A classifier of log-spectra (Frank 2020); width and depth are the CNN's."""

    transform: Literal["dct", "fft"] = Field("dct", description="cosine transform, or Fourier transform's power")
    block: Literal[0, 8, 16, 32, 64] = Field(
        0, description="side of the blocks whose power is averaged; 0: the whole image, as in the paper"
    )
    classifier: Literal["cnn", "linear"] = Field("cnn", description="what reads the spectrum")


class PatchSettings(DetectorSettings):
    """Patches judged one by one, their logits averaged (Chai 2020)."""

    width: int = Field(32, ge=4, le=512, description="channels of every convolution")
    depth: int = Field(
        4, ge=1, le=4, description="3x3 convolutions; a patch has 3 + 2 stride (depth - 1) pixels a side"
    )
    stride: Literal[1, 2] = Field(2, description="pixels between neighbouring patches")


class ProbeSettings(DetectorSettings):
    """A linear head on frozen features (Ojha 2023) of EfficientNet-Lite0."""

    input_size: Literal[32, 64, 96, 128, 160, 192, 224] = Field(
        128, description="side in pixels to which images are brought for the frozen network"
    )


GENERATOR_FAMILIES: dict[str, type[GeneratorSettings]] = {
    "dcgan": DcganSettings,
    "sngan": SnganSettings,
    "sagan": SaganSettings,
    "r3gan": R3ganSettings,
}
DETECTOR_FAMILIES: dict[str, type[DetectorSettings]] = {
    "cnn": CnnSettings,
    "resnet18": Resnet18Settings,
    "residual": ResidualSettings,
    "spectrum": SpectrumSettings,
    "patch": PatchSettings,
    "probe": ProbeSettings,
}
FAMILIES: dict[str, dict[str, type[Settings]]] = {
    "generator": dict(GENERATOR_FAMILIES),
    "detector": dict(DETECTOR_FAMILIES),
}


class GeneratorSeason(Settings):
    """How a generator trial of season 2 or later competes: prioritised fictitious self-play (Vinyals 2019)."""

    evasion: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = Field(
        1.0, description="weight of the loss that a panel of earlier detectors sees through its fakes"
    )
    panel: int = Field(3, ge=1, le=64, description="detectors on the panel, frozen; at most as many as there are")
    pfsp_power: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] = Field(
        1.0, description="p: detectors are drawn with weights (their chance to catch this generator)^p"
    )
    lr_scale: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] = Field(
        0.5, description="learning rates, times those that its parent had"
    )


class DetectorSeason(Settings):
    """How a detector trial of season 2 or later competes: replay of all seasons' fakes, the hard ones more often."""

    fresh: bool = Field(False, description="start from nothing instead of from an earlier entrant")
    pfsp_power: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] = Field(
        1.0, description="p: a generator's share of the fakes goes by (its chance to get past)^p"
    )
    lr_scale: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] = Field(
        0.5, description="learning rate, times the one that its parent had; a fresh start has its own"
    )


SEASONS: dict[str, type[Settings]] = {"generator": GeneratorSeason, "detector": DetectorSeason}
# Trained as an entrant was but for one thing: without the panel's loss; on the newest season's fakes alone; on the
# fakes of the seasons before alone.
TWINS = {"generator": ["no-evasion"], "detector": ["no-replay", "no-rivals"]}


def family_settings(side: str, family: str, values: dict) -> Settings:
    """The typed settings of `family` on `side` ('generator' or 'detector') from plain values, checked."""
    return FAMILIES[side][family](**values)
