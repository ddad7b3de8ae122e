"""Which images are the same photograph: byte for byte, re-encoded, resized, retouched or mirrored.

Two steps. Candidates: pairs whose normalised 16x16 luma thumbnails lie within a radius, found exactly by
a k-d tree on the thumbnails' leading principal components (a projection never lengthens a distance, so
no pair within the radius is lost). Decision: the fine detail of the two pictures must correlate, at the
best of a few small shifts; faces of different people with the same pose and light fail that test.
"""

import hashlib
from collections.abc import Iterator

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from duel.faces.parallel import default_workers, in_order

# Chosen on 20,000 UTKFace pictures by looking at the pairs on both sides of each number.
GROUPING_VERSION = 1  # part of the cache key: a new number for any change to which images are grouped
RADIUS = 0.35  # between unit-length thumbnails; different faces are rarely nearer than 0.25
DETAIL = 0.85  # correlation of fine detail; the same picture has more, different people seldom over 0.8
_NEIGHBOURS = 16  # candidates an image; a larger set of copies still hangs together through its members
_COMPONENTS = 24
_COARSE, _FINE = 16, 32
_SHIFT = 2  # pixels of the fine thumbnail, each way
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_FLAT = 4.0  # grey levels of contrast below which a picture counts as plain


def find_groups(images: np.ndarray, workers: int | None = None) -> np.ndarray:
    """Number the images so that duplicates share a number.

    images: uint8 [N, 3, S, S]. Returns int64 [N]; numbers start at 0 in order of appearance.
    """
    if not len(images):
        return np.zeros(0, dtype=np.int64)
    workers = workers or default_workers()
    same, first = _exact(images, workers)
    pairs = np.concatenate([np.zeros((0, 2), dtype=np.int64), *_near(images, first, workers)])
    edges = np.concatenate([np.stack([np.arange(len(images)), first[same]], axis=1), pairs])
    graph = coo_matrix((np.ones(len(edges), dtype=bool), (edges[:, 0], edges[:, 1])), shape=(len(images),) * 2)
    _, label = connected_components(graph, directed=False)
    _, appearance, label = np.unique(label, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(appearance))[label].astype(np.int64)


def _exact(images: np.ndarray, workers: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (for each image the number of its content, for each content its first image)."""

    def work(indices: list[int]) -> list[str]:
        return [hashlib.sha256(np.ascontiguousarray(images[index])).hexdigest() for index in indices]

    digests = np.array(list(in_order(work, range(len(images)), 256, workers)))
    _, first, same = np.unique(digests, return_index=True, return_inverse=True)
    return same, first


def _near(images: np.ndarray, first: np.ndarray, workers: int) -> Iterator[np.ndarray]:
    """Yield int [P, 2] arrays of images that are near duplicates, mirrored ones included."""
    thumbs = np.concatenate(list(_thumbnails(images, first, workers)))
    flat = thumbs.reshape(len(thumbs), -1)
    sample = flat[:: max(1, len(flat) // 8192)]
    centre = sample.mean(axis=0)
    _, axes = np.linalg.eigh((sample - centre).T @ (sample - centre))
    axes = axes[:, : -_COMPONENTS - 1 : -1]
    tree = cKDTree((flat - centre) @ axes, balanced_tree=False, compact_nodes=False)
    for mirrored in (False, True):
        seen = thumbs[:, :, ::-1].reshape(flat.shape) if mirrored else flat
        left, right = _candidates(tree, (seen - centre) @ axes, seen, flat, workers)
        agree = _same_detail(images, first[left], first[right], mirrored, workers)
        yield np.stack([first[left[agree]], first[right[agree]]], axis=1)


def _thumbnails(images: np.ndarray, chosen: np.ndarray, workers: int) -> Iterator[np.ndarray]:
    """Yield float32 [n, 16, 16] of zero mean and unit length; plain pictures stay near zero."""

    def work(parts: list[np.ndarray]) -> list[np.ndarray]:
        thumbs = [_luma(images[part], _COARSE) for part in parts]
        return [_unit(thumb, _FLAT * thumb.shape[-1]) for thumb in thumbs]

    return in_order(work, np.array_split(chosen, len(chosen) // 256 + 1), 1, workers)


def _luma(images: np.ndarray, side: int) -> np.ndarray:
    """uint8 [n, 3, S, S] -> box-averaged luma, float32 [n, side, side] (S at most, if smaller)."""
    size = images.shape[-1]
    side = min(side, size)
    box = np.kron(np.eye(side, dtype=np.float32), np.full((size // side, 1), side / size, dtype=np.float32))
    rows = np.kron(_LUMA[None], box.T)  # [side, 3 S]: averages rows and weighs the channels in one product
    across = images.reshape(-1, size).astype(np.float32) @ box
    return np.asarray(rows @ across.reshape(len(images), 3 * size, side))


def _unit(thumbs: np.ndarray, least: float) -> np.ndarray:
    centred = thumbs - thumbs.mean(axis=(1, 2), keepdims=True)
    return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=(1, 2), keepdims=True), least))


def _candidates(
    tree: cKDTree, points: np.ndarray, seen: np.ndarray, flat: np.ndarray, workers: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (i, j), i < j, whose whole thumbnails lie within RADIUS."""
    count = min(_NEIGHBOURS + 1, len(flat))
    distance, index = tree.query(points, k=[*range(1, count + 1)], distance_upper_bound=RADIUS, workers=workers)
    left, place = np.nonzero(np.isfinite(distance))
    right = index[left, place]
    left, right = np.minimum(left, right), np.maximum(left, right)
    left, right = np.unique(np.stack([left, right])[:, left < right], axis=1)
    near = np.linalg.norm(seen[left] - flat[right], axis=1) <= RADIUS
    return left[near], right[near]


def _same_detail(
    images: np.ndarray, left: np.ndarray, right: np.ndarray, mirrored: bool, workers: int
) -> np.ndarray:
    """bool [P]: whether the fine detail of the pictures agrees at the best small shift."""

    def work(parts: list[np.ndarray]) -> list[np.ndarray]:
        return [_detail_correlation(images[left[p]], images[right[p]], mirrored) >= DETAIL for p in parts]

    parts = np.array_split(np.arange(len(left)), len(left) // 64 + 1)
    return np.concatenate(list(in_order(work, parts, 1, workers)))


def _detail_correlation(left: np.ndarray, right: np.ndarray, mirrored: bool) -> np.ndarray:
    """float32 [P] in [-1, 1]. Both uint8 [P, 3, S, S]."""
    ours, theirs = _detail(left), _detail(right)
    if mirrored:
        ours = ours[:, :, ::-1]
    side = ours.shape[-1] - 2 * _SHIFT
    window = ours[:, _SHIFT:-_SHIFT, _SHIFT:-_SHIFT]
    length = np.linalg.norm(window, axis=(1, 2))
    best = np.full(len(ours), -1.0, dtype=np.float32)
    for down in range(2 * _SHIFT + 1):
        for across in range(2 * _SHIFT + 1):
            other = theirs[:, down : down + side, across : across + side]
            product = np.einsum("nyx,nyx->n", window, other)
            best = np.maximum(best, product / (length * np.linalg.norm(other, axis=(1, 2)) + 1e-3))
    return best


def _detail(images: np.ndarray) -> np.ndarray:
    luma = _luma(images, _FINE)
    return np.asarray(luma - gaussian_filter(luma, (0, 2, 2)))
