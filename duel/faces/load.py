"""From the name of a source to the array of its faces, by way of the cache."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from duel.errors import DuelError, UsageError
from duel.faces.base import Source
from duel.faces.cache import cache_key, forget_entry, new_entry, read_entry, require_writable, write_images, write_rest
from duel.faces.decode import DECODER_VERSION, MINIMUM_SIDE, quiet_pillow
from duel.faces.drawn import DRAWING_VERSION, drawn_in_order
from duel.faces.duplicates import GROUPING_VERSION, find_groups
from duel.faces.ingest import Progress, Request, Skipped, decoded, some_of
from duel.faces.manifest import Manifest
from duel.faces.patience import is_read_error
from duel.faces.sources import open_source

DRAWN = "drawn"
MINIMUM_FACES = 200  # distinct faces; with fewer there is nothing to learn, nor enough to split four ways
IMAGE_SIZES = (16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Faces:
    """A set of faces, ready for training."""

    images: np.ndarray  # uint8 [N, 3, S, S], RGB; read-only, mapped from the cache
    groups: np.ndarray  # int64 [N]; exact and near duplicates share a number
    manifest: Manifest


def check_source(source: str) -> None:
    """Raise UsageError when `source` is missing, unreadable, of an unknown kind or without images. Quick."""
    if source != DRAWN:
        with quiet_pillow():
            open_source(source).check()


def load_faces(
    source: str,
    image_size: int,
    wanted: int,
    seed: int,
    cache_dir: Path,
    workers: int | None = None,
    on_progress: Progress | None = None,
) -> Faces:
    """Load up to `wanted` faces of `image_size` pixels, decoded once and then kept in `cache_dir`.

    source: 'drawn' (exactly `wanted` drawn faces), a folder, a .zip, a .tar or a .parquet file. Of a
    source with more images than wanted a sample is used, the same for the same seed; unusable images
    are listed in the manifest and replaced by others while there are any. Those that could not be read,
    after a few tries, are tried again by the next load: the cache does not keep them out.
    on_progress: called as on_progress(images done, images in all) while decoding.

    Raises UsageError for a source that cannot be read or has fewer than MINIMUM_FACES distinct faces
    (or than wanted, when that is less), DuelError when the disk is full.
    """
    if image_size not in IMAGE_SIZES:
        raise UsageError(f"image_size is {image_size!r}; allowed: {', '.join(map(str, IMAGE_SIZES))}")
    if wanted < 1:
        raise UsageError(f"the number of faces wanted is {wanted!r}; it must be at least 1")
    request = Request(source, image_size, wanted, seed, Path(cache_dir), workers, on_progress)
    with quiet_pillow():
        return _load_drawn(request) if source == DRAWN else _load_real(request)


def _load_drawn(request: Request) -> Faces:
    size, wanted = request.size, request.wanted
    key = cache_key({"drawn": DRAWING_VERSION, "size": size, "wanted": wanted, "seed": request.seed})
    kept = read_entry(request.cache_dir / key)
    if kept:
        return Faces(*kept)

    def faces() -> Iterator[np.ndarray]:
        done = 0
        for drawn in drawn_in_order(wanted, size, request.seed, request.workers):
            yield drawn
            done += len(drawn)
            request.report(done, wanted)

    return _build(request, key, faces(), Manifest(DRAWN, "drawn", wanted, wanted, 0, [], 0, "", size), Skipped())


def _load_real(request: Request) -> Faces:
    source = open_source(request.name)
    whole, sample = _keys(source, request)
    for key in (whole, sample):
        kept = read_entry(request.cache_dir / key)
        if kept and (key == sample or kept[2].found <= request.wanted):
            if _readable_by_now(source, kept[2].unreadable):
                forget_entry(request.cache_dir, key)
                continue
            return Faces(kept[0], kept[1], replace(kept[2], source=request.name))
    require_writable(request.cache_dir)  # before an archive is listed, let alone decoded
    found = len(source.names)
    if found == 0:
        source.check()  # its error names what there is instead
    skipped = Skipped(list(source.unreachable))
    blank = Manifest(request.name, source.kind, found, 0, source.ignored, [], 0, "", request.size, source.column)
    blank = replace(blank, archives=list(source.archives), passed_over=list(source.passed_over))
    key = whole if found <= request.wanted else sample
    return _build(request, key, decoded(source, request, skipped), blank, skipped)


def _readable_by_now(source: Source, names: list[str]) -> bool:
    """Whether any of the images that could not be read when the cache's entry was made can be read now."""
    if not names:
        return False
    missing = set(names)
    for _, read in source.read([index for index, name in enumerate(source.names) if name in missing]):
        try:
            read()
        except Exception as error:
            if is_read_error(error):
                continue
        return True
    return False


def _keys(source: Source, request: Request) -> tuple[str, str]:
    """The cache's keys for the whole source and for a sample of it; found out without listing an archive."""
    settings: dict[str, Any] = {
        "source": [source.kind, source.identity()],
        "size": request.size,
        "least": MINIMUM_SIDE,
        "versions": [DECODER_VERSION, GROUPING_VERSION],
    }
    return cache_key(settings), cache_key({**settings, "wanted": request.wanted, "seed": request.seed})


def _build(
    request: Request,
    key: str,
    faces: Iterator[np.ndarray],
    manifest: Manifest,
    skipped: Skipped,
) -> Faces:
    """Write the faces and all that is known about them to the cache, and read them back."""
    needed = min(manifest.found, request.wanted) * (3 * request.size**2 + 8) + 100_000
    with new_entry(request.cache_dir, key, needed) as folder:
        digest = write_images(folder / "images.npy", faces, request.size)
        images = np.load(folder / "images.npy", mmap_mode="r")
        # Drawn faces differ by construction (and a test): looking for duplicates would only cost time.
        groups = np.arange(len(images)) if manifest.kind == "drawn" else find_groups(images, request.workers)
        distinct = int(groups.max()) + 1 if len(groups) else 0
        copies = len(images) - distinct
        manifest = replace(
            manifest,
            used=len(images),
            skipped=skipped.items,
            unreadable=skipped.unreadable,
            duplicates=copies,
            fingerprint=digest,
        )
        _require_enough(manifest, distinct, min(MINIMUM_FACES, request.wanted))
        write_rest(folder, groups, manifest)
    kept = read_entry(request.cache_dir / key)
    if kept is None:
        raise DuelError(f"the cache of faces in {request.cache_dir} does not read back what was written to it")
    return Faces(kept[0], kept[1], manifest)


def _require_enough(manifest: Manifest, distinct: int, least: int) -> None:
    if distinct >= least:
        return
    raise UsageError(
        f"--faces {manifest.source!r}: {distinct} usable distinct faces, but at least {least} are needed; "
        f"{manifest.found} images found, {manifest.duplicates} duplicates, {len(manifest.skipped)} skipped"
        + some_of(manifest.skipped)
    )
