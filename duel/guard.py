"""Guard against cheap wins: fakes that look real one by one but miss most faces, are no faces, or are training faces.

Precision and recall (Kynkaanniemi 2019), density and coverage (Naeem 2020) on features of a named network, and the
share of fakes that repeat a training face.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from duel.device import in_batches
from duel.errors import UsageError
from duel.metrics import features

PRECISION_NEIGHBOURS = 3  # the papers' defaults
DENSITY_NEIGHBOURS = 5
COPY_NEIGHBOURS = 50  # as Carlini 2023
COPY_QUANTILE = 0.01  # of held-out reals that count as copies: what a generator that copies nothing gets
THUMBNAIL = 16  # pixels a side
_FLAT = 4.0  # grey levels of contrast below which a picture counts as plain
_BLOCK = 1 << 24  # distances at once


@dataclass(frozen=True)
class Reference:
    """What fakes are compared with, measured once for all generators; arrays only, so that Ray shares them.

    real_features [N, D] float32; real_radii [N, 2] float64, see `squared_radii`; train_thumbnails [T, 3, 16, 16] uint8;
    copy_threshold: fakes whose `closeness` is below it count as copies.
    """

    real_features: np.ndarray
    real_radii: np.ndarray
    train_thumbnails: np.ndarray
    copy_threshold: float


def reference(real_features: np.ndarray, reals: np.ndarray, train: np.ndarray, device: torch.device) -> Reference:
    """Held-out `reals` uint8 [N, 3, S, S] with their features [N, D], and the generators' training faces [T, 3, S, S].

    No real may be a training face, nor a duplicate of one. Raises UsageError for fewer than 2 reals or training faces.
    """
    thumbs = thumbnails(train, device)
    threshold = np.quantile(closeness(thumbnails(reals, device), thumbs, device), COPY_QUANTILE)
    return Reference(real_features, squared_radii(real_features, device), thumbs, float(threshold))


def guard_row(fakes: np.ndarray, known: Reference, network: nn.Module, device: torch.device) -> dict[str, float]:
    """Precision, recall, density, coverage and copies of uint8 fakes [M, 3, S, S].

    `network`, on `device`, is that of the reference's features. Raises UsageError for fewer than 2 fakes.
    """
    scores = prdc(known.real_features, features(network, fakes, device), device, known.real_radii)
    return {**scores, "copies": copies(fakes, known, device)}


def copies(fakes: np.ndarray, known: Reference, device: torch.device) -> float:
    """Share of fakes, uint8 [M, 3, S, S], nearer to a training face than all but 1 % of held-out reals are.

    About 0.01 or less without copies, 1 where training faces are replayed. See `closeness`.
    """
    near = closeness(thumbnails(fakes, device), known.train_thumbnails, device)
    return float(np.mean(near < known.copy_threshold))


def mark(kid: float, kid_noise: float, copies: float, kid_share: float, copies_bound: float) -> str:
    """What a generator's results have to be read with: "", "not faces", "copies" or "not faces, copies".

    Not faces: its KID is worse than `kid_share` of the KID of noise (or no number). Copies: a larger share of its
    fakes than `copies_bound` repeat training faces.
    """
    found = {"not faces": not kid <= kid_share * kid_noise, "copies": copies > copies_bound}
    return ", ".join(name for name, given in found.items() if given)


def prdc(
    real: np.ndarray, fake: np.ndarray, device: torch.device, real_radii: np.ndarray | None = None
) -> dict[str, float]:
    """Precision, recall, density and coverage of fake features [M, D] against real features [N, D].

    With B(x) the ball around x that just reaches its k-th nearest neighbour of its own set (k: 3 for precision and
    recall, 5 for density and coverage): precision, the share of fakes in any real's ball; recall, the share of reals
    in any fake's ball (Kynkaanniemi 2019); density, the mean number of reals' balls that a fake is in, over k;
    coverage, the share of reals with a fake in their ball (Naeem 2020). Density may exceed 1.

    real_radii: `squared_radii(real, device)` where known. Raises UsageError for fewer than 2 features on a side.
    """
    ours = torch.tensor(squared_radii(real, device) if real_radii is None else real_radii, device=device)
    theirs = torch.tensor(squared_radii(fake, device), device=device)
    real_points = _points(real, device)
    covered = torch.zeros(2, len(real), dtype=torch.bool, device=device)
    precise, dense = torch.zeros(2, dtype=torch.float64, device=device)
    for rows, square in _squared_distances(_points(fake, device), real_points):
        precise += (square <= ours[:, 0]).any(1).sum()
        covered[0] |= (square <= theirs[rows, :1]).any(0)
        within = square <= ours[:, 1]
        dense += within.sum()
        covered[1] |= within.any(0)
    recall, coverage = covered.double().mean(1).tolist()
    neighbours = min(DENSITY_NEIGHBOURS, len(real) - 1)
    precision, density = (torch.stack([precise, dense / neighbours]) / len(fake)).tolist()
    return {"precision": precision, "recall": recall, "density": density, "coverage": coverage}


def squared_radii(points: np.ndarray, device: torch.device) -> np.ndarray:
    """float64 [N, 2]: each point's squared distance to its 3rd and its 5th nearest other one; points [N, D].

    To the farthest one where there are fewer others. Raises UsageError for fewer than 2 points.
    """
    if len(points) < 2:
        raise UsageError(f"neighbours need at least 2 images a side, got {len(points)}")
    placed = _points(points, device)
    orders = [min(k, len(points) - 1) for k in (PRECISION_NEIGHBOURS, DENSITY_NEIGHBOURS)]
    found = []
    for rows, square in _squared_distances(placed, placed):
        index = torch.arange(len(square), device=device)
        square[index, index + rows.start] = 0.0  # itself, always the first
        nearest = square.topk(orders[-1] + 1, largest=False).values
        found.append(nearest[:, orders])
    return torch.cat(found).cpu().numpy()


def _points(array: np.ndarray, device: torch.device) -> Tensor:
    """float64: |a|^2 + |b|^2 - 2ab leaves little of float32 where points are close."""
    return torch.tensor(array, device=device).double()


def _squared_distances(left: Tensor, right: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Rows of `left` [N, D] and their squared distances [n, M] to `right` [M, D], a block at a time."""
    step = max(1, _BLOCK // len(right))
    lengths = (right * right).sum(1)
    for start in range(0, len(left), step):
        block = left[start : start + step]
        squares = torch.addmm(lengths, block, right.T, alpha=-2).add_((block * block).sum(1, keepdim=True))
        yield slice(start, start + len(block)), squares.clamp_(min=0)


def thumbnails(images: np.ndarray, device: torch.device) -> np.ndarray:
    """uint8 [N, 3, S, S] -> averages of boxes, uint8 [N, 3, 16, 16]."""
    parts = [_averages(part) for part in in_batches(images, device)]
    return torch.cat(parts).cpu().numpy()


def _averages(images: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(images.float(), THUMBNAIL).round_().to(torch.uint8)


def closeness(thumbs: np.ndarray, train_thumbs: np.ndarray, device: torch.device) -> np.ndarray:
    """float32 [N]: how much nearer than others the nearest training face is; 0 for the same picture, 1 for no nearer.

    The distance to the nearest training face, over the mean of those to the 50 nearest (Carlini 2023, "Extracting
    training data from diffusion models"). A plain distance would call blurred and average faces copies, as they are
    near to many. Distances are between thumbnails brought to mean 0 and length 1, and each training face counts as it
    is and mirrored. Raises UsageError for fewer than 2 training faces.
    """
    if len(train_thumbs) < 2:
        raise UsageError(f"copies need at least 2 training faces, got {len(train_thumbs)}")
    known = _unit(torch.tensor(train_thumbs, device=device))
    shown = torch.tensor(thumbs, device=device)
    neighbours = min(COPY_NEIGHBOURS, 2 * len(known))
    found = []
    # Mirroring what is compared comes to the same as mirroring the training faces, and takes less memory.
    both = (_squared_distances(_unit(seen), known) for seen in (shown, shown.flip(-1)))
    for (_, upright), (_, mirrored) in zip(*both, strict=True):
        nearest = torch.cat([upright, mirrored], 1).topk(neighbours, largest=False).values.sqrt()
        found.append(nearest[:, 0] / nearest.mean(1).clamp(min=1e-6))
    return torch.cat(found).cpu().numpy()


def _unit(thumbs: Tensor) -> Tensor:
    """float32 [N, D] of mean 0 and length 1; plain pictures stay near 0."""
    flat = thumbs.flatten(1).float()
    flat -= flat.mean(1, keepdim=True)
    return flat.div_(torch.linalg.vector_norm(flat, dim=1, keepdim=True).clamp_(min=_FLAT * flat.shape[1] ** 0.5))
