"""Where faces come from: a folder, a zip, a tar or a parquet file, all read the same way.

A source lists its images once and hands out their bytes; nothing is ever extracted to disk, so names
such as ../../etc/passwd inside an archive are only names.
"""

import os
import stat
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
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
    if stat.S_ISDIR(mode):
        return FolderSource(path)
    if not stat.S_ISREG(mode):
        raise UsageError(f"--faces {source!r} is neither a file nor a folder; allowed: {ALLOWED}")
    name = path.name.lower()
    if name.endswith(".zip"):
        return ZipSource(path)
    if name.endswith(TAR_SUFFIXES):
        return TarSource(path)
    if name.endswith((".parquet", ".pq")):
        from duel.faces.tables import ParquetSource  # pyarrow takes a moment to import

        return ParquetSource(path)
    raise UsageError(f"--faces {source!r} is a file of an unknown kind; allowed: {ALLOWED}")


def is_image_name(name: str) -> bool:
    """Whether the name ends like an image's; macOS's ._ companions and hidden files do not count."""
    base = name.rsplit("/", 1)[-1]
    return not base.startswith(".") and os.path.splitext(base)[1].lower() in EXTENSIONS


def printable(name: str) -> str:
    """A file name as text that any terminal and JSON can carry."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def file_identity(path: Path) -> list[Any]:
    """Resolved path, size in bytes and time of the last change."""
    about = path.stat()
    return [printable(str(path.resolve())), about.st_size, about.st_mtime_ns]


def no_images(path: Path, seen: Counter[str]) -> UsageError:
    kinds = ", ".join(f"{count} {ending or 'without ending'}" for ending, count in seen.most_common(5))
    return UsageError(
        f"--faces {printable(str(path))!r}: found no images (other files: {kinds or 'none'}); "
        f"allowed endings: {' '.join(sorted(EXTENSIONS))}"
    )


def _too_large(size: int) -> UnusableImage:
    return UnusableImage(f"{size:,} bytes; at most {MAXIMUM_BYTES:,} are read")


class FolderSource:
    """Images in a folder of any depth. Symlinks are followed, each real folder once, so loops end."""

    kind = "folder"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.others: Counter[str] = Counter()

    def _walk(self) -> Iterator[tuple[str, os.stat_result | None]]:
        """Yield (path relative to the folder, stat or None where it dangles) for image-like names."""
        visited: set[tuple[int, int]] = set()
        todo = [""]
        while todo:
            folder = todo.pop()
            try:
                about = os.stat(self.path / folder)
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
                    self.others[os.path.splitext(entry.name)[1].lower()] += 1

    @cached_property
    def _files(self) -> list[tuple[str, int, int]]:
        """(name, size, mtime in ns) sorted by name; size -1 marks what is not a plain file."""
        self.others.clear()
        found = []
        for name, about in self._walk():
            plain = about is not None and stat.S_ISREG(about.st_mode)
            found.append((name, about.st_size, about.st_mtime_ns) if about and plain else (name, -1, 0))
        return sorted(found)

    @property
    def names(self) -> Sequence[str]:
        return [printable(name) for name, _, _ in self._files]

    @property
    def ignored(self) -> int:
        return sum(self.others.values())

    def identity(self) -> Any:
        files = [(printable(name), size, changed) for name, size, changed in self._files]
        return [printable(str(self.path.resolve())), files]

    def check(self) -> None:
        if next(self._walk(), None) is None:
            raise no_images(self.path, self.others)

    def read(self, indices: Sequence[int]) -> Iterator[tuple[int, Read]]:
        for index in indices:
            name, size, _ = self._files[index]
            yield index, lambda name=name, size=size: self._read(name, size)  # type: ignore[misc]

    def _read(self, name: str, size: int) -> bytes:
        if size < 0:  # never opened: a pipe would wait for ever
            raise UnusableImage("not a plain file, or a link to nothing")
        if size > MAXIMUM_BYTES:
            raise _too_large(size)
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


class ZipSource:
    """Images in a zip archive."""

    kind = "zip"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ignored = 0

    @cached_property
    def _archive(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.path)
        except Exception as error:  # BadZipFile, but also struct and unicode errors from broken directories
            raise _corrupt(self.path, "zip", error) from None

    @cached_property
    def _members(self) -> list[zipfile.ZipInfo]:
        files = [info for info in self._archive.infolist() if not info.is_dir()]
        images = [info for info in files if is_image_name(info.filename) and "__MACOSX/" not in info.filename]
        self.ignored = len(files) - len(images)
        if any(info.flag_bits & 0x1 for info in images):
            raise UsageError(f"--faces {printable(str(self.path))!r} is encrypted; only zips without a password")
        return sorted(images, key=lambda info: info.filename)

    @cached_property
    def names(self) -> Sequence[str]:
        return [printable(info.filename) for info in self._members]

    def identity(self) -> Any:
        return file_identity(self.path)

    def check(self) -> None:
        if not self._members:
            raise no_images(self.path, _endings(info.filename for info in self._archive.infolist()))

    def read(self, indices: Sequence[int]) -> Iterator[tuple[int, Read]]:
        for index in indices:
            yield index, lambda info=self._members[index]: self._read(info)  # type: ignore[misc]

    def _read(self, info: zipfile.ZipInfo) -> bytes:
        if info.file_size > MAXIMUM_BYTES:
            raise _too_large(info.file_size)
        with self._archive.open(info) as member:
            return member.read()


class TarSource:
    """Images in a tar archive, compressed or not, read from front to back."""

    kind = "tar"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ignored = 0

    def _files(self) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
        try:
            with tarfile.open(self.path, "r:*") as archive:
                for member in archive:
                    if member.isfile():
                        yield archive, member
        except Exception as error:  # tarfile, gzip, bz2 and lzma each have errors of their own
            raise _corrupt(self.path, "tar", error) from None

    @cached_property
    def names(self) -> Sequence[str]:
        names = [member.name for _, member in self._files()]
        images = [name for name in names if is_image_name(name)]
        self.ignored = len(names) - len(images)
        return [printable(name) for name in images]

    def identity(self) -> Any:
        return file_identity(self.path)

    def check(self) -> None:
        seen: Counter[str] = Counter()
        for _, member in self._files():
            if is_image_name(member.name):
                return
            seen.update(_endings([member.name]))
        raise no_images(self.path, seen)

    def read(self, indices: Sequence[int]) -> Iterator[tuple[int, Read]]:
        wanted = set(indices)
        images = ((tar, member) for tar, member in self._files() if is_image_name(member.name))
        for index, (archive, member) in enumerate(images):
            if index in wanted:
                data = self._bytes(archive, member)  # now: a compressed tar cannot go back
                yield index, lambda data=data, size=member.size: _or_too_large(data, size)  # type: ignore[misc]

    def _bytes(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | None:
        if member.size > MAXIMUM_BYTES:
            return None
        try:
            file = archive.extractfile(member)
            return file.read() if file else b""
        except Exception as error:
            raise _corrupt(self.path, "tar", error) from None


def _or_too_large(data: bytes | None, size: int) -> bytes:
    if data is None:
        raise _too_large(size)
    return data


def _endings(names: Any) -> Counter[str]:
    return Counter(os.path.splitext(name)[1].lower() for name in names)


def _corrupt(path: Path, kind: str, error: Exception) -> UsageError:
    reason = str(error)[:120] or type(error).__name__
    return UsageError(f"--faces {printable(str(path))!r} cannot be read as a {kind} archive: {reason}")
