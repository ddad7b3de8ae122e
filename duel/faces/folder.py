"""Images in a folder of any depth, and the archives that lie there."""

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

from duel.errors import UsageError
from duel.faces.base import (
    TABLE_SUFFIXES,
    TAR_SUFFIXES,
    Read,
    count_ending,
    is_image_name,
    no_images,
    require_fewer,
    too_large,
)
from duel.faces.decode import UnusableImage
from duel.faces.limits import MAXIMUM_BYTES
from duel.faces.patience import Patience
from duel.output import printable

# In this order they are tried where a folder holds several kinds.
ARCHIVES = {"parquet": TABLE_SUFFIXES, "tar": TAR_SUFFIXES, "zip": (".zip",)}


def archive_kind(name: str) -> str:
    """parquet, tar or zip, by the name's ending; "" for other files, and for hidden ones in a folder."""
    return next((kind for kind, suffixes in ARCHIVES.items() if name.lower().endswith(suffixes)), "")


class FolderSource:
    """Images in a folder of any depth. Symlinks are followed, each real folder once, so loops end."""

    kind = "folder"
    column = ""
    archives: Sequence[str] = ()

    def __init__(self, path: Path) -> None:
        self.path = path
        self.others: Counter[str] = Counter()
        self.packed: dict[str, list[str]] = {kind: [] for kind in ARCHIVES}  # found so far
        self.unreachable: list[dict[str, str]] = []
        self._patiently = Patience()
        self._walking = self._walk()  # once: a mount may take minutes to list many files
        self._found: list[tuple[str, int, int]] = []  # so far

    def _walk(self) -> Iterator[tuple[str, int, int]]:
        """Yield (path relative to the folder, size, mtime in ns) for image-like names; see _measured."""
        visited: set[tuple[int, int]] = set()
        todo = [""]
        while todo:
            folder = todo.pop()
            try:
                about = self._patiently((self.path / folder).stat)
                if (about.st_dev, about.st_ino) in visited:
                    continue
                visited.add((about.st_dev, about.st_ino))
                entries = self._patiently(partial(_entries, self.path / folder))
            except OSError as error:
                if not folder:
                    raise UsageError(f"--faces {printable(str(self.path))!r}: {error.strerror}") from None
                reason = f"the folder cannot be listed: {error.strerror or error}"
                self.unreachable.append({"name": f"{printable(folder)}/", "reason": reason})
                continue
            for entry in entries:
                name = f"{folder}/{entry.name}" if folder else entry.name
                if _is_folder(entry):
                    todo.append(name)
                elif is_image_name(entry.name):
                    yield name, *_measured(_stat(entry))
                else:
                    count_ending(self.others, entry.name)
                    kind = archive_kind(entry.name)
                    if kind and not entry.name.startswith("."):
                        self.packed[kind].append(name)

    def holds(self, images: int) -> bool:
        """Whether there are so many; walks no further than needed."""
        self._found.extend(islice(self._walking, max(0, images - len(self._found))))
        return len(self._found) >= images

    @cached_property
    def _files(self) -> list[tuple[str, int, int]]:
        """(name, size, mtime in ns) sorted by name."""
        for found in self._walking:
            self._found.append(found)
            require_fewer(self.path, len(self._found))
        return sorted(self._found)

    @property
    def names(self) -> Sequence[str]:
        """The images' names, in a fixed order."""
        return [printable(name) for name, _, _ in self._files]

    @property
    def ignored(self) -> int:
        """Other files, by their names no images."""
        return sum(self.others.values())

    @property
    def passed_over(self) -> Sequence[str]:
        """Archives beside the images."""
        _ = self._files  # all are found
        packed = sorted(name for names in self.packed.values() for name in names)
        return [f"{printable(name)}: the images beside it are used" for name in packed]

    def identity(self) -> Any:
        """What the cache's key hashes; see Source."""
        files = [(printable(name), size, changed) for name, size, changed in self._files]
        return [printable(str(self.path.resolve())), files, self.unreachable]

    def check(self) -> None:
        """Raise UsageError unless there is an image."""
        if not self.holds(1):
            raise no_images(self.path, self.others, self.unreachable)

    def read(self, indices: Sequence[int]) -> Iterator[tuple[int, Read]]:
        """Yield (index, what returns the bytes) for ascending indices."""
        for index in indices:
            name, size, _ = self._files[index]
            yield index, Read(max(size, 0), False, partial(self._read, name, size))

    def _read(self, name: str, size: int) -> bytes:
        if size < 0:
            size = plain_size(self.path / name)
        with open(os.path.join(self.path, name), "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size  # it may have grown since it was listed
            if size > MAXIMUM_BYTES:
                raise too_large(size)
            data = file.read(size + 1)
            while len(data) < size and (more := file.read(size + 1 - len(data))):  # a network's file may come in parts
                data += more
        if len(data) > size:
            raise UnusableImage("it grew while it was read")
        return data


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """What cannot be looked at counts as one, unless by its name it is an image: listing it then says why."""
    try:
        return entry.is_dir()
    except OSError as error:
        return error.errno != errno.ELOOP and not is_image_name(entry.name)


def plain_size(path: Path) -> int:
    """Size in bytes. Raises UnusableImage for other than plain files (a pipe would wait for ever), or OSError."""
    try:
        about = path.stat()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ELOOP):
            raise
        about = None
    if about is None or not stat.S_ISREG(about.st_mode):
        raise UnusableImage("not a plain file, or a link to nothing")
    return about.st_size


def _stat(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat()
    except OSError:
        return None


def _measured(about: os.stat_result | None) -> tuple[int, int]:
    """Size and mtime in ns; -1 and 0 for what is not known for a plain file."""
    return (about.st_size, about.st_mtime_ns) if about and stat.S_ISREG(about.st_mode) else (-1, 0)
