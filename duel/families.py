"""What can be set about each family of networks: one typed class a family, one line a family in the dicts below.

The classes hold no code of the networks, so that a sweep file can be checked without importing torch.
`duel.models` builds the networks from them.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Rate = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Settings(BaseModel):
    """Settings of one trial. Unknown names and values out of range are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class GeneratorSettings(Settings):
    """What every generator family shares: the adversarial training around the network."""

    latent: int = Field(100, ge=1, le=1024, description="numbers of noise that make one face")
    batch_size: int = Field(128, ge=4, le=4096, description="images a step")
    objective: Literal["non_saturating", "least_squares", "hinge"] = Field(
        "non_saturating", description="GAN objective (Goodfellow 2014, Mao 2017, Lim & Ye 2017)"
    )
    lr_generator: Rate = Field(2e-4, description="Adam learning rate of the generator")
    lr_discriminator: Rate = Field(2e-4, description="Adam learning rate of the discriminator")
    beta1: Fraction = Field(0.5, description="Adam's first beta, both networks")
    beta2: Fraction = Field(0.999, description="Adam's second beta, both networks")
    ema_images: int = Field(
        10_000, ge=0, description="half-life, in images, of the weights' moving average; 0 switches it off"
    )
    augment: bool = Field(False, description="DiffAugment on what the discriminator sees (Zhao 2020)")


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


class DetectorSettings(Settings):
    """What every detector family shares: supervised training on reals and on sparring generators' fakes."""

    sparring: Literal["one", "some", "all"] = Field(
        "all",
        description="whose fakes it trains on: one generator's, half of the finalists', or all finalists'",
    )
    batch_size: int = Field(128, ge=4, le=4096, description="images a step, half real and half fake")
    lr: Rate = Field(1e-3, description="AdamW learning rate")
    weight_decay: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = Field(1e-4, description="AdamW")
    dropout: Fraction = Field(0.2, description="before the last layer")
    flip: Probability = Field(0.5, description="chance of a mirrored image")
    blur: Probability = Field(0.0, description="chance of a Gaussian blur (Wang 2020)")
    jpeg: Probability = Field(0.0, description="chance of a JPEG compression (Wang 2020)")


class CnnSettings(DetectorSettings):
    """The university project's kind of plain CNN: convolution, ReLU, pooling, two dense layers."""

    width: int = Field(32, ge=4, le=512, description="channels of the first convolution, doubled a stage")
    depth: int = Field(3, ge=1, le=6, description="stages, each halving the image")


class Resnet18Settings(DetectorSettings):
    """ResNet-18 (He 2016) from torchvision, its stem fitted to small images."""

    width: int = Field(64, ge=8, le=256, description="channels of the first stage (64 in the paper)")
    depth: int = Field(4, ge=1, le=4, description="stages kept of the paper's four")


GENERATOR_FAMILIES: dict[str, type[GeneratorSettings]] = {"dcgan": DcganSettings}
DETECTOR_FAMILIES: dict[str, type[DetectorSettings]] = {"cnn": CnnSettings, "resnet18": Resnet18Settings}
FAMILIES: dict[str, dict[str, type[Settings]]] = {
    "generator": dict(GENERATOR_FAMILIES),
    "detector": dict(DETECTOR_FAMILIES),
}


def family_settings(side: str, family: str, values: dict) -> Settings:
    """The typed settings of `family` on `side` ('generator' or 'detector') from plain values, checked."""
    return FAMILIES[side][family](**values)
