"""Where faces come from: a folder, a zip, a tar or a parquet file, all read the same way.

A source lists its images once and hands out their bytes; nothing is ever extracted to disk, so names
such as ../../etc/passwd inside an archive are only names.
"""

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from duel.errors import UsageError
from duel.faces.decode import EXTENSIONS, MAXIMUM_BYTES, UnusableImage

Read = Callable[[], bytes]
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
ALLOWED = "'drawn', a folder of images, a .zip, a .tar (.gz, .bz2, .xz) or a .parquet file"


class Source(Protocol):
    """A set of image files."""

    kind: str

    @property
    def names(self) -> Sequence[str]:
        """Every image found, in a fixed order."""

    @property
    def ignored(self) -> int:
        """How many other files there were."""

    def identity(self) -> Any:
        """What changes when the source does (JSON-able, cheap); the cache's key hashes it."""

    def check(self) -> None:
        """Raise UsageError if the source holds no image or cannot be read; stops at the first image."""

    def read(self, indices: Sequence[int]) -> Iterator[tuple[int, Read]]:
        """Yield (index, function that returns the bytes) for ascending `indices`.

        The function may be called in another thread; it raises OSError and the like, or UnusableImage.
        """


def open_source(source: str) -> Source:
    """Find out what kind of source a path is. Raises UsageError when it is none."""
    path = Path(source)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"--faces {source!r}: {reason}; allowed: {ALLOWED}") from None
    if not source:
        raise UsageError(f"--faces '': an empty name; allowed: {ALLOWED}")
    from duel.faces import archives  # below this module; pyarrow, further down, also takes its time to import

    if stat.S_ISDIR(mode):
        return FolderSource(path)
    if not stat.S_ISREG(mode):
        raise UsageError(f"--faces {source!r} is neither a file nor a folder; allowed: {ALLOWED}")
    name = path.name.lower()
    if name.endswith(".zip"):
        return archives.ZipSource(path)
    if name.endswith(TAR_SUFFIXES):
        return archives.TarSource(path)
    if name.endswith((".parquet", ".pq")):
        from duel.faces.tables import ParquetSource

        return ParquetSource(path)
    raise UsageError(f"--faces {source!r} is a file of an unknown kind; allowed: {ALLOWED}")


def is_image_name(name: str) -> bool:
    """Whether the name ends like an image's; macOS's ._ companions and hidden files do not count."""
    return not name.rsplit("/", 1)[-1].startswith(".") and ending(name) in EXTENSIONS


def ending(name: str) -> str:
    """.jpg of Folder/IMAGE.JPG; nothing where there is no ending."""
    base = name.rsplit("/", 1)[-1]
    dot = base.rfind(".")
    return base[dot:].lower() if dot > 0 else ""


def printable(name: str) -> str:
    """A file name as text that any terminal and JSON can carry."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def file_identity(path: Path) -> list[Any]:
    """Resolved path, size in bytes and time of the last change."""
    about = path.stat()
    return [printable(str(path.resolve())), about.st_size, about.st_mtime_ns]


def no_images(path: Path, seen: Counter[str]) -> UsageError:
    """The error for a source without images; seen: endings of its other files."""
    kinds = ", ".join(f"{count} {ending or 'without ending'}" for ending, count in seen.most_common(5))
    return UsageError(
        f"--faces {printable(str(path))!r}: found no images (other files: {kinds or 'none'}); "
        f"allowed endings: {' '.join(sorted(EXTENSIONS))}"
    )


def too_large(size: int) -> UnusableImage:
    """The reason to skip a file of that many bytes."""
    return UnusableImage(f"{size:,} bytes; at most {MAXIMUM_BYTES:,} are read")


def endings(names: Iterable[str]) -> Counter[str]:
    """How often each ending occurs."""
    return Counter(ending(name) for name in names)


class FolderSource:
    """Images in a folder of any depth. Symlinks are followed, each real folder once, so loops end."""

    kind = "folder"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.others: Counter[str] = Counter()

    def _walk(self) -> Iterator[tuple[str, os.stat_result | None]]:
        """Yield (path relative to the folder, stat or None where it dangles) for image-like names."""
        self.others.clear()
        visited: set[tuple[int, int]] = set()
        todo = [""]
        while todo:
            folder = todo.pop()
            try:
                about = (self.path / folder).stat()
                if (about.st_dev, about.st_ino) in visited:
                    continue
                visited.add((about.st_dev, about.st_ino))
                entries = sorted(os.scandir(self.path / folder), key=lambda entry: entry.name)
            except OSError as error:
                if not folder:
                    raise UsageError(f"--faces {printable(str(self.path))!r}: {error.strerror}") from None
                self.others["unreadable folder"] += 1
                continue
            for entry in entries:
                name = f"{folder}/{entry.name}" if folder else entry.name
                if _is_folder(entry):
                    todo.append(name)
                elif is_image_name(entry.name):
                    yield name, _stat(entry)
                else:
                    self.others[ending(entry.name)] += 1

    @cached_property
    def _files(self) -> list[tuple[str, int, int]]:
        """(name, size, mtime in ns) sorted by name; size -1 marks what is not a plain file."""
        found = []
        for name, about in self._walk():
            plain = about is not None and stat.S_ISREG(about.st_mode)
            found.append((name, about.st_size, about.st_mtime_ns) if about and plain else (name, -1, 0))
        return sorted(found)

    @property
    def names(self) -> Sequence[str]:
        """The images' names, in a fixed order."""
        return [printable(name) for name, _, _ in self._files]

    @property
    def ignored(self) -> int:
        """Other files, by their names no images."""
        return sum(self.others.values())

    def identity(self) -> Any:
        """What the cache's key hashes; see Source."""
        files = [(printable(name), size, changed) for name, size, changed in self._files]
        return [printable(str(self.path.resolve())), files]

    def check(self) -> None:
        """Raise UsageError unless there is an image."""
        if next(self._walk(), None) is None:
            raise no_images(self.path, self.others)

    def read(self, indices: Sequence[int]) -> Iterator[tuple[int, Read]]:
        """Yield (index, function that returns the bytes) for ascending indices."""
        for index in indices:
            name, size, _ = self._files[index]
            yield index, lambda name=name, size=size: self._read(name, size)  # type: ignore[misc]

    def _read(self, name: str, size: int) -> bytes:
        if size < 0:  # never opened: a pipe would wait for ever
            raise UnusableImage("not a plain file, or a link to nothing")
        if size > MAXIMUM_BYTES:
            raise too_large(size)
        return (self.path / name).read_bytes()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _stat(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat()
    except OSError:
        return None
