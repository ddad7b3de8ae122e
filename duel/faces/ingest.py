"""A source's images -> batches of faces, on all cores, with what gave none."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from duel.errors import UsageError
from duel.faces.base import Read, Source
from duel.faces.decode import UnusableImage, decode_square, resize_squares
from duel.faces.limits import ENCODED, MAXIMUM_UNUSABLE
from duel.faces.parallel import in_order
from duel.faces.patience import Patience, is_read_error

_ROUNDS = 8  # through a source, to replace what was skipped
_SQUARES = 16_000_000  # bytes of squares that are resized together

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Request:
    """The arguments of load_faces."""

    name: str
    size: int
    wanted: int
    seed: int
    cache_dir: Path
    workers: int | None
    on_progress: Progress | None

    def report(self, done: int, total: int) -> None:
        """Tell how many images are done, of how many in all."""
        if self.on_progress:
            self.on_progress(done, total)


@dataclass(frozen=True)
class _Unused:
    """An image that gave no face."""

    index: int
    reason: str
    unreadable: bool  # not broken: the system did not hand out its bytes


@dataclass(frozen=True)
class Skipped:
    """What the manifest says of the images that gave no face."""

    items: list[dict[str, str]] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


Batch = tuple[np.ndarray, list[_Unused]]  # faces, uint8 [n, 3, S, S]


def decoded(source: Source, request: Request, skipped: Skipped) -> Iterator[np.ndarray]:
    """Yield batches of decoded faces until there are enough or the source is exhausted; fill `skipped`."""
    names, wanted = source.names, request.wanted
    order = np.arange(len(names))
    if len(names) > wanted:
        order = np.random.default_rng(request.seed).permutation(order)
    total, used, unused, taken = min(len(names), wanted), 0, 0, 0
    patiently = Patience()

    def work(items: list[tuple[int, Read]]) -> list[Batch]:
        return [_decode_batch(items, request.size, patiently)]

    for round_ in range(_ROUNDS):
        if used == wanted or taken == len(order):
            return
        # Sorted, so that an archive is read from front to back. Later rounds replace what was skipped; the last, of a
        # source that is mostly broken, takes what is left: each round may read all of an archive.
        several = wanted - used if round_ < _ROUNDS - 1 else len(order)
        batch = np.sort(order[taken : taken + several]).tolist()
        taken += len(batch)
        for faces, unusable in in_order(work, source.read(batch), 32, request.workers, _held):
            skipped.items.extend({"name": names[each.index], "reason": each.reason} for each in unusable)
            skipped.unreadable.extend(names[each.index] for each in unusable if each.unreadable)
            faces = faces[: wanted - used]
            used, unused = used + len(faces), unused + len(unusable)
            if unused > MAXIMUM_UNUSABLE:
                raise UsageError(
                    f"--faces {request.name!r}: over {MAXIMUM_UNUSABLE:,} unusable images{some_of(skipped.items)}"
                )
            yield faces
            request.report(min(used + unused, total), total)
            if used == wanted:
                return


def _held(item: tuple[int, Read]) -> int:
    """Bytes of an image file that is read before its turn."""
    return item[1].size if item[1].held else 0


def _decode_batch(items: list[tuple[int, Read]], size: int, patiently: Patience) -> Batch:
    squares, unusable, faces, waiting = [], [], [], 0
    for index, read in items:
        try:
            with ENCODED.of(0 if read.held else read.size):
                squares.append(decode_square(patiently(read), size))
            waiting += squares[-1].nbytes
        except UnusableImage as error:
            unusable.append(_Unused(index, str(error), unreadable=False))
        except Exception as error:  # reading: permissions, a broken zip member, a file that has just gone
            reason = f"cannot be read: {getattr(error, 'strerror', None) or error}"
            unusable.append(_Unused(index, reason, unreadable=is_read_error(error)))
        if waiting > _SQUARES:
            faces.append(resize_squares(squares, size))
            squares, waiting = [], 0
    faces.append(resize_squares(squares, size))
    return np.concatenate(faces) if len(faces) > 1 else faces[0], unusable


def some_of(skipped: list[dict[str, str]]) -> str:
    """The first few of what was skipped, in brackets."""
    some = "; ".join(f"{item['name']}: {item['reason']}" for item in skipped[:5])
    more = f"; and {len(skipped) - 5} more" if len(skipped) > 5 else ""
    return f" ({some}{more})" if some else ""
