"""Where faces come from: a folder, a zip, a tar or parquet files, all read the same way.

A source lists its images once and hands out their bytes; nothing is ever extracted to disk, so names
such as ../../etc/passwd inside an archive are only names.
"""

import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from duel.errors import UsageError
from duel.faces.decode import EXTENSIONS, MAXIMUM_BYTES, UnusableImage
from duel.faces.patience import Patience
from duel.output import printable

Read = Callable[[], bytes]
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
TABLE_SUFFIXES = (".parquet", ".pq")
ALLOWED = "'drawn', a folder of images or of parquet files, a .zip, a .tar (.gz, .bz2, .xz) or a .parquet file"


class Source(Protocol):
    """A set of image files."""

    kind: str

    @property
    def names(self) -> Sequence[str]:
        """Every image found, in a fixed order."""

    @property
    def ignored(self) -> int:
        """How many other files there were."""

    @property
    def column(self) -> str:
        """The column that the images are from; "" where there are none."""

    @property
    def unreachable(self) -> Sequence[dict[str, str]]:
        """Folders that could not be looked into, {"name", "reason"}; known once `names` is."""

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
        return _open_folder(path)
    if not stat.S_ISREG(mode):
        raise UsageError(f"--faces {source!r} is neither a file nor a folder; allowed: {ALLOWED}")
    name = path.name.lower()
    if name.endswith(".zip"):
        return archives.ZipSource(path)
    if name.endswith(TAR_SUFFIXES):
        return archives.TarSource(path)
    if name.endswith(TABLE_SUFFIXES):
        from duel.faces.tables import ParquetSource

        return ParquetSource(path)
    raise UsageError(f"--faces {source!r} is a file of an unknown kind; allowed: {ALLOWED}")


def _open_folder(path: Path) -> Source:
    folder = FolderSource(path)
    tables = folder.tables_alone()
    if not tables:
        return folder
    from duel.faces.tables import ParquetSource

    return ParquetSource(path, tables, folder.unreachable)


def is_image_name(name: str) -> bool:
    """Whether the name ends like an image's; macOS's ._ companions and hidden files do not count."""
    return not name.rsplit("/", 1)[-1].startswith(".") and ending(name) in EXTENSIONS


def ending(name: str) -> str:
    """.jpg of Folder/IMAGE.JPG; nothing where there is no ending."""
    base = name.rsplit("/", 1)[-1]
    dot = base.rfind(".")
    return base[dot:].lower() if dot > 0 else ""


def file_identity(path: Path) -> list[Any]:
    """Resolved path, size in bytes and time of the last change."""
    about = path.stat()
    return [printable(str(path.resolve())), about.st_size, about.st_mtime_ns]


def no_images(path: Path, seen: Counter[str], unreachable: Sequence[dict[str, str]] = ()) -> UsageError:
    """The error for a source without images; seen: endings of its other files."""
    unseen = "".join(f"; {each['name']}: {each['reason']}" for each in unreachable[:5])
    kinds = ", ".join(f"{count} {ending or 'without ending'}" for ending, count in seen.most_common(5))
    return UsageError(
        f"--faces {printable(str(path))!r}: found no images (other files: {kinds or 'none'}{unseen}); "
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
    column = ""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.others: Counter[str] = Counter()
        self.tables: list[str] = []
        self.unreachable: list[dict[str, str]] = []
        self._patiently = Patience()
        self._walking = self._walk()  # once: a mount may take minutes to list many files
        self._found: list[tuple[str, os.stat_result | None]] = []  # so far

    def _walk(self) -> Iterator[tuple[str, os.stat_result | None]]:
        """Yield (path relative to the folder, stat or None where there is none to be had) for image-like names."""
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
                    yield name, _stat(entry)
                else:
                    self.others[ending(entry.name)] += 1
                    if entry.name.lower().endswith(TABLE_SUFFIXES) and not entry.name.startswith("."):
                        self.tables.append(name)

    def tables_alone(self) -> list[str]:
        """The parquet files in a folder without images, by name; of one with images, none."""
        return [] if self._holds_image() else sorted(self.tables)

    def _holds_image(self) -> bool:
        """Walk no further than to the first image."""
        if not self._found:
            self._found.extend(islice(self._walking, 1))
        return bool(self._found)

    @cached_property
    def _files(self) -> list[tuple[str, int, int]]:
        """(name, size, mtime in ns) sorted by name; size -1 marks what is not known for a plain file."""
        self._found.extend(self._walking)
        found = []
        for name, about in self._found:
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
        return [printable(str(self.path.resolve())), files, self.unreachable]

    def check(self) -> None:
        """Raise UsageError unless there is an image."""
        if not self._holds_image():
            raise no_images(self.path, self.others, self.unreachable)

    def read(self, indices: Sequence[int]) -> Iterator[tuple[int, Read]]:
        """Yield (index, function that returns the bytes) for ascending indices."""
        for index in indices:
            name, size, _ = self._files[index]
            yield index, lambda name=name, size=size: self._read(name, size)  # type: ignore[misc]

    def _read(self, name: str, size: int) -> bytes:
        if size < 0:
            size = _plain_size(self.path / name)
        if size > MAXIMUM_BYTES:
            raise too_large(size)
        return (self.path / name).read_bytes()


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """What cannot be looked at counts as one, unless by its name it is an image: listing it then says why."""
    try:
        return entry.is_dir()
    except OSError as error:
        return error.errno != errno.ELOOP and not is_image_name(entry.name)


def _plain_size(path: Path) -> int:
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
