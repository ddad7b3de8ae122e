"""The cache of decoded faces: one folder a source and setting, complete or not there at all.

<cache>/<key>/images.npy    uint8 [N, 3, S, S]
<cache>/<key>/groups.npy    int64 [N]
<cache>/<key>/manifest.json

An entry is written beside its place and renamed into it, so two processes never see each other's half;
an entry whose pixels no longer match its fingerprint is rebuilt. Folders and files get the modes that the cache folder
and the umask give them, so that a group can share one: who may only read takes what is there.
"""

import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from duel.errors import DuelError, UsageError
from duel.faces.manifest import Manifest

_STALE_AFTER = 86_400  # seconds; a temporary folder this old belongs to no running process
_BLOCK = 64 << 20
_FILES = ("images.npy", "groups.npy", "manifest.json")


def cache_key(settings: dict[str, Any]) -> str:
    """Name of the entry for settings (JSON-able): 32 hexadecimal digits."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]


def read_entry(folder: Path) -> tuple[np.ndarray, np.ndarray, Manifest] | None:
    """Return (images, read-only and mapped from the file; groups; manifest), or None when any is amiss."""
    try:
        if not all(stat.S_ISREG((folder / name).stat().st_mode) for name in _FILES):
            return None  # opening a pipe would wait for ever
        manifest = Manifest.from_dict(json.loads((folder / "manifest.json").read_text("utf-8")))
        images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
        groups = np.load(folder / "groups.npy", mmap_mode="r", allow_pickle=False)  # mapped: its shape is not known yet
    except Exception:  # missing, cut off, or not what it says it is: numpy and json have many errors for it
        return None
    size = manifest.image_size
    whole = images.dtype == np.uint8 and images.shape == (manifest.used, 3, size, size)
    whole = whole and groups.dtype == np.int64 and groups.shape == (manifest.used,) and images.flags.c_contiguous
    return (images, np.array(groups), manifest) if whole and fingerprint(images) == manifest.fingerprint else None


def fingerprint(images: np.ndarray) -> str:
    """SHA-256 (hex) of the array's bytes."""
    flat = images.reshape(-1)
    digest = hashlib.sha256()
    for start in range(0, len(flat), _BLOCK):
        digest.update(np.ascontiguousarray(flat[start : start + _BLOCK]).data)
    return digest.hexdigest()


@contextmanager
def new_entry(cache_dir: Path, key: str, bytes_needed: int) -> Iterator[Path]:
    """A temporary folder that becomes the entry `key` when the block ends, and is removed when it fails.

    Raises UsageError when the cache folder cannot be made or written, or what is in the entry's place cannot be
    replaced; DuelError when the disk is full.
    """
    temporary = _temporary_folder(cache_dir, key)
    try:
        _require_space(cache_dir, bytes_needed)
        if read_entry(cache_dir / key) is None:  # broken; now, as an error would be late when all is decoded
            forget_entry(cache_dir, key)
        yield temporary
        _publish(temporary, cache_dir / key)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise _disk_full(cache_dir, bytes_needed) from None
        raise DuelError(f"the cache of faces in {cache_dir} cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def require_writable(cache_dir: Path) -> None:
    """Make the cache folder. Raises UsageError when it cannot be made or written, DuelError when the disk is full."""
    _temporary_folder(cache_dir, "probe").rmdir()


def _temporary_folder(cache_dir: Path, key: str) -> Path:
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        _remove_stale(cache_dir)
        folder = cache_dir / f".tmp-{key[:8]}-{secrets.token_hex(8)}"
        folder.mkdir()  # by mkdtemp it would be its owner's alone
        return folder
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DuelError(f"the disk that holds the cache of faces, {cache_dir}, is full") from None
        raise UsageError(
            f"the cache folder for faces, {cache_dir}, cannot be written: {error.strerror or error}; "
            "DUEL_CACHE can name another one"
        ) from None


def _remove_stale(cache_dir: Path) -> None:
    """What processes left that were killed."""
    for old in cache_dir.glob(".tmp-*"):
        with suppress(OSError):  # another process was quicker
            if time.time() - old.lstat().st_mtime > _STALE_AFTER:
                shutil.rmtree(old, ignore_errors=True)


def _require_space(cache_dir: Path, bytes_needed: int) -> None:
    if shutil.disk_usage(cache_dir).free < bytes_needed:
        raise _disk_full(cache_dir, bytes_needed)


def _disk_full(cache_dir: Path, bytes_needed: int) -> DuelError:
    free = shutil.disk_usage(cache_dir).free
    return DuelError(f"the cache of faces in {cache_dir} needs {bytes_needed:,} bytes, but {free:,} are free")


def _publish(temporary: Path, place: Path) -> None:
    """Rename into place. Whoever was there first stays if whole; what is broken there goes."""
    for _ in range(3):
        try:
            temporary.rename(place)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
        if read_entry(place) is not None:
            return
        _remove(place)
    raise DuelError(f"the cache of faces cannot replace {place}; remove it and try again")


def forget_entry(cache_dir: Path, key: str) -> None:
    """Remove an entry that is broken or no longer what could be had.

    Raises UsageError when it cannot be removed, or is another's who keeps it private, and perhaps well.
    """
    place = cache_dir / key
    try:
        if os.path.lexists(place):
            _require_readable(place)
            _remove(place)
    except OSError as error:
        raise UsageError(
            f"the cache of faces in {cache_dir} has an entry, {key}{_owner(place)}, that cannot be read or replaced: "
            f"{error.strerror or error}; make it readable or remove it, or have DUEL_CACHE name another folder"
        ) from None


def _require_readable(place: Path) -> None:
    """Raises PermissionError."""
    for name in _FILES:
        try:
            if stat.S_ISREG((place / name).stat().st_mode):
                (place / name).open("rb").close()
        except PermissionError:
            raise
        except OSError:
            continue


def _owner(place: Path) -> str:
    with suppress(OSError, KeyError):
        return f" of the user {place.owner()}"
    return ""


def _remove(place: Path) -> None:
    """By rename, so that no other process meets a half-removed entry; one may have been quicker. Raises OSError."""
    away = place.with_name(f".tmp-away-{secrets.token_hex(8)}")  # beside it: another's folder can't be moved into one
    with suppress(FileNotFoundError):
        place.rename(away)
        if away.is_dir() and not away.is_symlink():
            shutil.rmtree(away, ignore_errors=True)
        else:
            away.unlink()


def write_images(path: Path, batches: Iterable[np.ndarray], image_size: int) -> str:
    """Write batches of uint8 [n, 3, S, S] as they come to an .npy file; return the fingerprint of the array.

    Plain sequential writing: on a full disk it raises OSError, where a writable memory map would kill
    the process (SIGBUS).
    """
    digest, count = hashlib.sha256(), 0
    with path.open("wb") as file:
        _write_header(file, 0, image_size)
        start = file.tell()
        for batch in batches:
            data = np.ascontiguousarray(batch, dtype=np.uint8)
            file.write(data.data)
            digest.update(data.data)
            count += len(batch)
        file.seek(0)
        _write_header(file, count, image_size)
        if file.tell() != start:
            raise DuelError(f"{path}: the header of the array outgrew its place ({count} images)")
    return digest.hexdigest()


def _write_header(file: BinaryIO, count: int, image_size: int) -> None:
    """numpy pads the header so that the first axis may grow in place."""
    shape = (count, 3, image_size, image_size)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def write_rest(folder: Path, groups: np.ndarray, manifest: Manifest) -> None:
    """Complete an entry whose images.npy is written."""
    np.save(folder / "groups.npy", groups)
    (folder / "manifest.json").write_text(json.dumps(manifest.as_dict(), indent=1), "utf-8")
