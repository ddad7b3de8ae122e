"""Where trials keep their state: a folder, or any URI that pyarrow opens (s3://, gs://, file://)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.fs

from duel.errors import UsageError


class Store:
    """Whole files by relative name under one root; a write is complete or absent.

    root: a path, or a URI with a scheme. UsageError for a URI that pyarrow can't open.
    """

    def __init__(self, root: str):
        self.root = root
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

    def read(self, name: str) -> bytes | None:
        """The file's bytes, or None where there is none."""
        try:
            with self._fs.open_input_stream(self._path(name)) as stream:
                return stream.read()
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Replace the file at once: by rename in a folder; an object store's put is atomic as it is."""
        path = self._path(name)
        if self._local:
            write_atomically(Path(path), data)
            return
        with self._fs.open_output_stream(path) as stream:
            stream.write(data)

    def remove(self, name: str) -> None:
        """Delete a folder and all in it; nothing happens where it is missing."""
        if self._fs.get_file_info(self._path(name)).type == pyarrow.fs.FileType.Directory:
            self._fs.delete_dir(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._base.rstrip('/')}/{name}"


def join(root: str, name: str) -> str:
    """`name` below a folder or URI; a URI's query (s3://bucket/folder?region=...) stays at its end."""
    if "://" not in root:
        return str(Path(root, name).absolute())
    base, mark, query = root.partition("?")
    return f"{base.rstrip('/')}/{name}{mark}{query}"


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Write beside `path`, then rename: a reader sees the old file or the whole new one."""
    with _replaced(path) as partial:
        partial.write_bytes(data)


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an array as .npy, complete or not at all, straight from its own memory."""
    with _replaced(path) as partial, partial.open("wb") as file:
        np.save(file, array)


@contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """A name beside `path`, for a file that takes its place once it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
