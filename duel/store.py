"""Where trials keep their state: a folder, or any URI that pyarrow opens (s3://, gs://, file://)."""

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import pyarrow.fs

from duel.errors import DuelError, UsageError
from duel.watchdog import pulse

T = TypeVar("T")
PATIENCE = 600.0  # seconds for which an object store that fails is asked again
LONGEST_PAUSE = 30.0
DIGEST = 32  # bytes of SHA-256 at the end of an object
PROBE = "probe"  # the folder in which a run tries its storage; one that was stopped meanwhile may have left it
NAME = re.compile(r"(?!\.+$)[A-Za-z0-9._-]+")  # of a run, an entrant or a file: it leads out of no folder


class Store:
    """Whole files by relative name under one root; a write is complete or absent.

    DuelError for a name that is none of duel's or leads out of the root: names come from files that others may write.

    root: a path, or a URI with a scheme. UsageError for a URI that pyarrow can't open.
    patience: seconds for which an object store that answers with an error, or not at all, is asked again; then
    OSError. A folder is asked once: what it says at first, it says later too.
    """

    def __init__(self, root: str, patience: float = PATIENCE):
        self.root, self._patience = root, patience
        try:
            if "://" in root:
                self._fs, self._base = pyarrow.fs.FileSystem.from_uri(root)
            else:
                self._fs, self._base = pyarrow.fs.LocalFileSystem(), os.path.abspath(root)
            if not self._base.strip("/"):
                raise ValueError("it names no folder")
        except (pyarrow.ArrowInvalid, OSError, ValueError) as error:
            raise UsageError(f"--storage {root}: {error}; give a folder or a URI such as s3://bucket/folder") from None
        self._local = isinstance(self._fs, pyarrow.fs.LocalFileSystem)

    @property
    def folder(self) -> Path | None:
        """The root, where it is a folder of this machine's file system."""
        return Path(self._base) if self._local else None

    def read(self, name: str, plain: bool = False, most: int | None = None) -> bytes | None:
        """The file's bytes, or None where there is none. plain: as written with `plain`.

        most: DuelError where it has more bytes, before any is read.
        """
        path = self._path(name)
        if most is not None and (size := self._patiently(lambda: self._fs.get_file_info(path).size) or 0) > most:
            raise DuelError(f"{self.root}/{name} has {size:,} bytes, and should have {most:,} at most")
        return self._patiently(lambda: self._read(path, plain))

    def write(self, name: str, data: bytes | memoryview, plain: bool = False) -> None:
        """Replace the file at once: by rename in a folder; an object store's put is atomic as it is.

        plain: no digest is added, so that others can read the object; `read` then does not notice an answer that was
        cut off.
        """
        path = self._path(name)
        if self._local:
            write_atomically(Path(path), data)
        else:
            digest = b"" if plain else _digest(data)
            self._patiently(lambda: self._put(path, data, digest))

    def remove(self, name: str) -> None:
        """Delete a file, or a folder and all in it; nothing happens where it is missing."""
        path = self._path(name)
        self._patiently(lambda: self._remove(path))

    def has(self, name: str) -> bool:
        """Whether there is a file of that name."""
        path = self._path(name)
        return self._patiently(lambda: self._fs.get_file_info(path).type == pyarrow.fs.FileType.File)

    def names(self) -> list[str]:
        """What lies in the root itself: files and folders; nothing where there is no root."""
        selector = pyarrow.fs.FileSelector(self._base, allow_not_found=True)
        return self._patiently(lambda: sorted(info.base_name for info in self._fs.get_file_info(selector)))

    def _read(self, path: str, plain: bool) -> bytes | None:
        try:
            with self._fs.open_input_stream(path) as stream:
                data = stream.read()
        except FileNotFoundError:
            return None
        if self._local or plain:
            return data
        # pyarrow takes an answer that breaks off for a whole one and fills it up with zeros.
        payload, digest = data[:-DIGEST], data[-DIGEST:]
        if _digest(payload) != digest:
            raise OSError(
                f"{path}: what came is not what was written; the connection was cut, or it is not duel's file"
            )
        return payload

    def _put(self, path: str, data: bytes | memoryview, digest: bytes) -> None:
        with self._fs.open_output_stream(path) as stream:
            stream.write(data)
            stream.write(digest)

    def _remove(self, path: str) -> None:
        kind = self._fs.get_file_info(path).type
        if kind == pyarrow.fs.FileType.Directory:
            self._fs.delete_dir(path)
        elif kind != pyarrow.fs.FileType.NotFound:
            self._fs.delete_file(path)

    def _patiently(self, work: Callable[[], T]) -> T:
        end, pause = time.monotonic() + self._patience, 1.0
        while True:
            try:
                return work()
            except OSError:
                if self._local or time.monotonic() + pause > end:
                    raise
            pulse()  # a worker that waits for its storage does not hang
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _path(self, name: str) -> str:
        return str(inside(Path(self._base), name)) if self._local else f"{self._base.rstrip('/')}/{checked(name)}"


def _digest(data: bytes | memoryview) -> bytes:
    return hashlib.sha256(data).digest()


def checked(name: str) -> str:
    """`name`, a relative path, if each part is one of NAME: it then leads nowhere else. DuelError if not."""
    if not all(NAME.fullmatch(part) for part in name.split("/")):
        raise DuelError(f"{name!r} is no name of a run's file: only letters, digits, '.', '_' and '-' are allowed")
    return name


def inside(folder: Path, name: str) -> Path:
    """The path of `name` below the folder. DuelError where it is no name, or a link on the way leads out of it."""
    path = folder / checked(name)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise DuelError(f"{path} leads to {path.resolve()}, out of {folder}")
    return path


def join(root: str, name: str) -> str:
    """`name` below a folder or URI; a URI's query (s3://bucket/folder?region=...) stays at its end."""
    if "://" not in root:
        return str(Path(root, name).absolute())
    base, mark, query = root.partition("?")
    return f"{base.rstrip('/')}/{name}{mark}{query}"


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Write beside `path`, then rename: a reader sees the old file or the whole new one."""
    with replaced(path) as file:
        file.write(data)


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an array as .npy, complete or not at all, straight from its own memory."""
    with replaced(path) as file:
        np.save(file, array)


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """A file beside `path` that takes its place once it is whole and on the disk: a power cut leaves no empty file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, survive a power cut: before what they were made from is deleted."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep_partials(folder: Path) -> None:
    """Remove what writers that were killed have left half written below a folder that nobody else writes to."""
    for path in folder.rglob(".*.partial"):
        path.unlink(missing_ok=True)
