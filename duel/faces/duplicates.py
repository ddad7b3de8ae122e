"""Which images are the same photograph: byte for byte, re-encoded, resized, retouched or mirrored.

Two steps. Candidates: pairs whose normalised 16x16 luma thumbnails lie within a radius, found by
comparing all with all on the thumbnails' low frequencies (a projection never lengthens a distance, so
no pair within the radius is lost). Decision: the fine detail of the two pictures must
correlate, at the best of a few small shifts; different people in the same pose and light fail there.
"""

import hashlib
from collections.abc import Callable, Iterator

import numpy as np
from scipy.fft import dct
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from duel.faces.parallel import default_workers, in_order

# Chosen on 20,000 UTKFace pictures by looking at the pairs on both sides of each number.
Pairs = tuple[np.ndarray, np.ndarray]  # int [P] each

GROUPING_VERSION = 1  # part of the cache key: a new number for any change to which images are grouped
RADIUS = 0.32  # between unit-length thumbnails; different faces are rarely nearer than 0.25
DETAIL = 0.85  # correlation of fine detail; different people seldom have more than 0.8
COLOUR = 0.9  # correlation of the colours' layout; asked of pairs that are not sure by detail alone
SURE_DETAIL = 0.92  # retouched or re-tinted copies pass here
_FREQUENCIES = 6  # 27 waves
_TILE = 64  # rows of a small matrix product; twice as many columns
_ROWS, _WIDE = 512, 8  # a block of the comparison: rows, tiles across
_MOST = 8  # candidates for each image in each block
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
        return [hashlib.sha256(images[index].tobytes()).hexdigest() for index in indices]

    digests = np.array(list(in_order(work, range(len(images)), 256, workers)))
    _, first, same = np.unique(digests, return_index=True, return_inverse=True)
    return same, first


def _near(images: np.ndarray, first: np.ndarray, workers: int) -> Iterator[np.ndarray]:
    """Yield int [P, 2] arrays of images that are near duplicates, mirrored ones included."""
    thumbs = np.concatenate(list(_thumbnails(images, first, workers)))
    flat = thumbs.reshape(len(thumbs), -1)
    axes = _low_frequencies(thumbs.shape[-1])
    for mirrored in (False, True):
        seen = thumbs[:, :, ::-1].reshape(flat.shape) if mirrored else flat
        for left, right in in_order(_candidates(seen, flat, axes), range(0, len(flat), _ROWS), 1, workers):
            agree = _same_picture(images, first[left], first[right], mirrored)
            yield np.stack([first[left[agree]], first[right[agree]]], axis=1)


def _low_frequencies(side: int) -> np.ndarray:
    """float32 [side * side, k]: the slowest waves of the cosine transform, orthonormal, without the mean."""
    waves = dct(np.eye(side), norm="ortho", axis=0)
    chosen = [(u, v) for u in range(side) for v in range(side) if 0 < u + v <= _FREQUENCIES]
    return np.stack([np.outer(waves[u], waves[v]).ravel() for u, v in chosen], axis=1).astype(np.float32)


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
    return np.asarray(rows @ (images.reshape(-1, 3 * size, size).astype(np.float32) @ box))


def _unit(thumbs: np.ndarray, least: float) -> np.ndarray:
    centred = thumbs - thumbs.mean(axis=(1, 2), keepdims=True)
    return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=(1, 2), keepdims=True), least))


def _candidates(seen: np.ndarray, flat: np.ndarray, axes: np.ndarray) -> Callable[[list[int]], list[Pairs]]:
    """Return a search for the pairs (i, j), i < j, whose thumbnails lie within RADIUS; it takes rows' starts.

    Matrix products compare a block of rows with all later ones: for projections p and q,
    p.q - |p|^2/2 - |q|^2/2 = -|p - q|^2/2. (A k-d tree is slower: faces fill too many dimensions.) The
    products are many small tiles, as BLAS runs those in the calling thread: its own threads would fight
    with ours, and on a busy machine cost ten times the work.
    """
    ours, theirs = _padded(seen @ axes), _padded(flat @ axes)
    ours[:, -1] = 1.0
    left_tiles = ours.reshape(-1, 1, _TILE, ours.shape[1])
    right_tiles = theirs.reshape(-1, 2 * _TILE, theirs.shape[1]).transpose(0, 2, 1).copy()
    # Both norms leave the product: one rides in theirs' last column, the other moves into the limit.
    limit = (0.5 * (seen @ axes) ** 2).sum(axis=1) - 0.5 * RADIUS**2 - 1e-5
    limits = np.pad(limit, (0, len(ours) - len(limit)), constant_values=np.inf).reshape(-1, 1, _TILE, 1)

    def search(starts: list[int]) -> list[Pairs]:
        found = [np.zeros((2, 0), dtype=np.int64)]
        block = slice(starts[0] // _TILE, (starts[0] + _ROWS) // _TILE)
        for first in range(starts[0] // (2 * _TILE), len(right_tiles), _WIDE):
            product = left_tiles[block] @ right_tiles[first : first + _WIDE]
            close = np.flatnonzero(product >= limits[block])
            tile_row, tile, row, column = np.unravel_index(close, product.shape)
            left = starts[0] + tile_row * _TILE + row
            right = (first + tile) * 2 * _TILE + column
            keep = (left < right) & (right < len(flat))
            left, right = _nearest(left[keep], right[keep], product.reshape(-1)[close[keep]])
            near = np.linalg.norm(seen[left] - flat[right], axis=1) <= RADIUS
            found.append(np.stack([left[near], right[near]]))
        pairs = np.concatenate(found, axis=1)
        return [(pairs[0], pairs[1])]

    return search


def _nearest(left: np.ndarray, right: np.ndarray, closeness: np.ndarray) -> Pairs:
    """The _MOST closest partners of each left: where everything looks alike, the pairs stay few."""
    order = np.lexsort((-closeness, left))
    left, right = left[order], right[order]
    starts = np.flatnonzero(np.diff(left, prepend=-1))
    rank = np.arange(len(left)) - np.repeat(starts, np.diff(np.append(starts, len(left))))
    return left[rank < _MOST], right[rank < _MOST]


def _padded(points: np.ndarray) -> np.ndarray:
    """Rows up to a whole number of tiles, and one more column with minus half the squared length."""
    missing = -len(points) % (2 * _TILE)
    lengths = -0.5 * (points**2).sum(axis=1, keepdims=True)
    return np.pad(np.hstack([points, lengths]), ((0, missing), (0, 0))).astype(np.float32)


def _same_picture(images: np.ndarray, left: np.ndarray, right: np.ndarray, mirrored: bool) -> np.ndarray:
    """bool [P]: whether fine detail agrees surely, or well enough together with the colours."""
    agree = np.zeros(len(left), dtype=bool)
    for start in range(0, len(left), 64):
        part = slice(start, start + 64)
        ours, theirs = images[left[part]], images[right[part]]
        ours = ours[..., ::-1] if mirrored else ours
        detail = _detail_correlation(ours, theirs)
        colour = _colour_correlation(ours, theirs)
        agree[part] = (detail >= SURE_DETAIL) | ((detail >= DETAIL) & (colour >= COLOUR))
    return agree


def _colour_correlation(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """float32 [P]: how alike the colours lie across the pictures; about 0 for grey ones."""
    ours, theirs = _chroma(left), _chroma(right)
    return np.asarray((ours * theirs).sum(axis=(1, 2, 3)))


def _chroma(images: np.ndarray) -> np.ndarray:
    """float32 [P, 3, 8, 8] of unit length: colour without brightness and without the average tint."""
    size = images.shape[-1] // 8
    means = images.reshape(len(images), 3, 8, size, 8, size).mean(axis=(3, 5), dtype=np.float32)
    means -= means.mean(axis=1, keepdims=True)
    means -= means.mean(axis=(2, 3), keepdims=True)
    return np.asarray(means / (np.sqrt((means**2).sum(axis=(1, 2, 3), keepdims=True)) + 1.0))


def _detail_correlation(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """float32 [P] in [-1, 1]. Both uint8 [P, 3, S, S]."""
    ours, theirs = _detail(left), _detail(right)
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
