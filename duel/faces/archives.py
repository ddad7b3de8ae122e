"""Images in zip and tar archives, read in place."""

import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from duel.errors import UsageError
from duel.faces.decode import MAXIMUM_BYTES
from duel.faces.patience import Patience
from duel.faces.sources import Read, endings, file_identity, is_image_name, no_images, too_large
from duel.output import printable


class ZipSource:
    """Images in a zip archive."""

    kind = "zip"
    column = ""
    unreachable: Sequence[dict[str, str]] = ()

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ignored = 0

    @cached_property
    def _archive(self) -> zipfile.ZipFile:
        try:
            return Patience()(partial(zipfile.ZipFile, self.path))
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
        """The images' names, in a fixed order."""
        return [printable(info.filename) for info in self._members]

    def identity(self) -> Any:
        """What the cache's key hashes; see Source."""
        return file_identity(self.path)

    def check(self) -> None:
        """Raise UsageError unless there is an image."""
        if not self._members:
            raise no_images(self.path, endings(info.filename for info in self._archive.infolist()))

    def read(self, indices: Sequence[int]) -> Iterator[tuple[int, Read]]:
        """Yield (index, function that returns the bytes) for ascending indices."""
        for index in indices:
            yield index, lambda info=self._members[index]: self._read(info)  # type: ignore[misc]

    def _read(self, info: zipfile.ZipInfo) -> bytes:
        if info.file_size > MAXIMUM_BYTES:
            raise too_large(info.file_size)
        with self._archive.open(info) as member:
            return member.read()


class TarSource:
    """Images in a tar archive, compressed or not, read from front to back."""

    kind = "tar"
    column = ""
    unreachable: Sequence[dict[str, str]] = ()

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
        """The images' names, in a fixed order."""
        names = [member.name for _, member in self._files()]
        images = [name for name in names if is_image_name(name)]
        self.ignored = len(names) - len(images)
        return [printable(name) for name in images]

    def identity(self) -> Any:
        """What the cache's key hashes; see Source."""
        return file_identity(self.path)

    def check(self) -> None:
        """Raise UsageError unless there is an image."""
        seen: Counter[str] = Counter()
        for _, member in self._files():
            if is_image_name(member.name):
                return
            seen.update(endings([member.name]))
        raise no_images(self.path, seen)

    def read(self, indices: Sequence[int]) -> Iterator[tuple[int, Read]]:
        """Yield (index, function that returns the bytes) for ascending indices."""
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
        raise too_large(size)
    return data


def _corrupt(path: Path, kind: str, error: Exception) -> UsageError:
    reason = str(error)[:120] or type(error).__name__
    return UsageError(f"--faces {printable(str(path))!r} cannot be read as a {kind} archive: {reason}")
