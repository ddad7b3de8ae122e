"""Plain float32 beside the fast path: which decisions differ, and whether rounding explains them."""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from duel.models.inference import predict
from duel.rules.match import match_row

UNIT = 2.0**-8  # bfloat16's unit roundoff: 8 significant bits, rounded to nearest
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Answers:
    """One detector's answers to some images: plain float32, fast path, and the band, all [N]."""

    logits: np.ndarray  # plain float32; 0 is P(fake) = 0.5
    plain: np.ndarray  # P(fake)
    fast: np.ndarray  # P(fake)
    band: np.ndarray  # how far rounding to bfloat16 may move each logit

    @property
    def differs(self) -> np.ndarray:
        """Images that the two paths decide differently."""
        return (self.plain >= 0.5) != (self.fast >= 0.5)

    @property
    def outside(self) -> np.ndarray:
        """Of those, the ones that rounding does not explain."""
        return self.differs & (np.abs(self.logits) > self.band)

    @property
    def error(self) -> float:
        """Largest move of a logit as a share of its band, over all images whose P(fake) is not saturated."""
        open_ = np.abs(self.logits) < 8  # beyond, float32 has too few digits left near 1 to take the logit back
        fast = self.fast[open_].astype(np.float64)
        moved = np.abs(np.log(fast / (1 - fast)) - self.logits[open_])
        return float(np.max(moved / self.band[open_], initial=0.0))


def answers(detector: nn.Module, images: np.ndarray, device: torch.device = CPU) -> Answers:
    """What `detector` (in eval mode, on the CPU) says about uint8 images [N, 3, S, S] on either path.

    The band. The last layer adds up terms w_i h_i to the logit. Each of the L layers with weights rounds its
    weights and its inputs to bfloat16, each by a factor within 1 +- 2^-8; what lies between them (ReLU, pooling)
    makes no error larger. To first order, and where no layer magnifies a relative error of its inputs, every term
    has moved by at most 2 L 2^-8 of itself, so the logit by at most 2 L 2^-8 times the sum of |w_i h_i|. The band is
    taken from plain float32 alone, for each image; `error` says how much of it the fast path really uses.
    """
    logits, terms, layers = _plain(detector, images)
    fast = predict(copy.deepcopy(detector).to(device), images, device)
    band = 2 * layers * UNIT * terms
    return Answers(logits, 1 / (1 + np.exp(-logits)), fast, band)


@torch.inference_mode()
def _plain(detector: nn.Module, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Logits, the sum of |terms| of each, and the number of layers: float32, no autocast, contiguous format."""
    network = copy.deepcopy(detector).float().to(memory_format=torch.contiguous_format)
    weighted = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    sums: list[Tensor] = []

    def add_up(layer: nn.Linear, inputs: tuple[Tensor]) -> None:
        sums.append(nn.functional.linear(inputs[0].abs(), layer.weight.abs(), layer.bias.abs())[:, 0])

    weighted[-1].register_forward_pre_hook(add_up)
    parts = [torch.from_numpy(np.array(images[i : i + 128])).float() / 127.5 - 1 for i in range(0, len(images), 128)]
    with torch.autocast("cpu", enabled=False):
        logits = torch.cat([network(part) for part in parts])
    return logits.double().numpy(), torch.cat(sums).double().numpy(), len(weighted)


def same_winner(on_reals: Answers, on_fakes: Answers) -> bool:
    """Whether both paths give the match to the same side."""
    return match_row(on_reals.fast, on_fakes.fast)["winner"] == match_row(on_reals.plain, on_fakes.plain)["winner"]
