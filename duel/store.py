"""Where trials keep their state: a folder, or any URI that pyarrow opens (s3://, gs://, file://)."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import pyarrow.fs

from duel.errors import UsageError
from duel.watchdog import pulse

T = TypeVar("T")
PATIENCE = 600.0  # seconds for which an object store that fails is asked again
LONGEST_PAUSE = 30.0
DIGEST = 32  # bytes of SHA-256 at the end of an object


class Store:
    """Whole files by relative name under one root; a write is complete or absent.

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

    def read(self, name: str, plain: bool = False) -> bytes | None:
        """The file's bytes, or None where there is none. plain: as written with `plain`."""
        return self._patiently(lambda: self._read(self._path(name), plain))

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
        """Delete a folder and all in it; nothing happens where it is missing."""
        self._patiently(lambda: self._remove(self._path(name)))

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
        if self._fs.get_file_info(path).type == pyarrow.fs.FileType.Directory:
            self._fs.delete_dir(path)

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
        return f"{self._base.rstrip('/')}/{name}"


def _digest(data: bytes | memoryview) -> bytes:
    return hashlib.sha256(data).digest()


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
