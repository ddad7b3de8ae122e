"""Disjoint parts of the faces, with every group of duplicates inside one part."""

import numpy as np


def split_faces(groups: np.ndarray, sizes: dict[str, int], seed: int) -> dict[str, np.ndarray]:
    """Draw disjoint partitions of the faces.

    groups: int [N], the same number for images that are duplicates of each other; no group is ever
    spread over two partitions (what of a group does not fit in its partition is left out).
    sizes: images asked for, by partition.

    Returns ascending int64 indices by partition: exactly the asked sizes when there are enough faces;
    otherwise every partition shrinks in the same proportion (rounded down). The same seed gives the
    same split. Raises ValueError for a negative size.
    """
    if any(size < 0 for size in sizes.values()):
        raise ValueError(f"partition sizes must not be negative, got {sizes}")
    asked = np.array(list(sizes.values()), dtype=np.int64)
    rng = np.random.default_rng(seed)
    parts = _fill(groups, _shrink(asked, min(1.0, len(groups) / max(1, asked.sum()))), rng)
    # Duplicates can leave a partition short of its share: the others then shrink with it.
    reached = min((len(part) / size for part, size in zip(parts, asked, strict=True) if size), default=1.0)
    kept = _shrink(asked, reached)
    return {name: np.sort(rng.permutation(part)[:size]) for name, part, size in zip(sizes, parts, kept, strict=True)}


def _shrink(asked: np.ndarray, factor: float) -> np.ndarray:
    return np.floor(asked * factor + 1e-9).astype(np.int64)


def _fill(groups: np.ndarray, sizes: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Large groups first, each to the partition with the largest share still open; then the single faces."""
    order = rng.permutation(len(groups))
    shuffled = groups[order]
    _, first, label = np.unique(shuffled, return_index=True, return_inverse=True)
    counts = np.bincount(label)
    members = np.split(order[np.argsort(label, kind="stable")], np.cumsum(counts)[:-1])
    shared = np.nonzero(counts > 1)[0]
    shared = shared[np.lexsort((first[shared], -counts[shared]))]
    parts: list[list[np.ndarray]] = [[] for _ in sizes]
    room = sizes.copy()
    for group in shared:
        fits = room >= counts[group]
        share = np.where(fits if fits.any() else room > 0, room / np.maximum(sizes, 1), -1.0)
        chosen = int(np.argmax(share)) if len(share) else -1
        if chosen < 0 or room[chosen] == 0:
            break
        parts[chosen].append(members[group][: room[chosen]])
        room[chosen] -= len(parts[chosen][-1])
    singles = order[np.sort(first[counts == 1])]
    cuts = np.minimum(np.cumsum(room), len(singles))
    # Too few single faces: every partition gets its share of them rather than the last one nothing.
    if len(singles) < room.sum():
        cuts = np.floor(np.cumsum(room) * (len(singles) / room.sum())).astype(np.int64)
    rest = np.split(singles, cuts)
    return [np.concatenate([*part, extra]) for part, extra in zip(parts, rest, strict=False)]
