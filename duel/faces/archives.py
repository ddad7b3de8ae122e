"""Images in zip and tar archives, read in place. Archives in archives are not looked into."""

import io
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, BinaryIO

from duel.errors import UsageError
from duel.faces.base import (
    Archive,
    BrokenArchive,
    Read,
    count_ending,
    endings,
    held,
    is_image_name,
    no_images,
    refused,
    require_fewer,
    short,
    too_large,
)
from duel.faces.decode import UnusableImage
from duel.faces.limits import MAXIMUM_BYTES, MAXIMUM_DIRECTORY
from duel.faces.patience import Patience
from duel.faces.unxz import UnpackedXz
from duel.output import printable

_PIECE = 1 << 20  # bytes that are unpacked at a time
_LONGEST_HEADER = 1 << 18  # bytes of a tar's header that gives a long name or attributes
_MOST_HEADERS = 1000  # attributes for all members


class ZipSource(Archive):
    """Images in a zip archive."""

    kind = "zip"
    column = ""

    @cached_property
    def _archive(self) -> zipfile.ZipFile:
        try:
            return Patience()(partial(_opened_zip, self.path))
        except Exception as error:  # BadZipFile, but also struct and unicode errors from broken directories
            raise BrokenArchive(self.path, "a zip archive", error) from None

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
        return [short(info.filename) for info in self._members]

    def check(self) -> None:
        """Raise UsageError unless there is an image."""
        if not self._members:
            raise no_images(self.path, endings(info.filename for info in self._archive.infolist()))

    def read(self, indices: Sequence[int]) -> Iterator[tuple[int, Read]]:
        """Yield (index, what returns the bytes) for ascending indices."""
        for index in indices:
            info = self._members[index]
            yield index, Read(info.file_size, False, partial(self._read, info))

    def _read(self, info: zipfile.ZipInfo) -> bytes:
        if info.file_size > MAXIMUM_BYTES:
            raise too_large(info.file_size)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # these unpack without a bound
            raise UnusableImage("packed by another method than a zip's usual one")
        with self._archive.open(info) as member:
            pieces = []
            while piece := member.read(_PIECE):  # in pieces, as its size may be a lie
                pieces.append(piece)
            return b"".join(pieces)


class _ZipFile(io.BufferedReader):
    """Refuses to read a list of members that would fill the memory."""

    def read(self, size: int | None = -1, /) -> bytes:
        """As any file's."""
        if size is not None and size > MAXIMUM_DIRECTORY:
            raise zipfile.BadZipFile(f"its list of members has {size:,} bytes; at most {MAXIMUM_DIRECTORY:,} are read")
        return super().read(size)


def _opened_zip(path: Path) -> zipfile.ZipFile:
    file = _ZipFile(io.FileIO(path))
    try:
        return zipfile.ZipFile(file)
    except BaseException:
        file.close()
        raise


class TarSource(Archive):
    """Images in a tar archive, compressed or not, read from front to back."""

    kind = "tar"
    column = ""

    def _files(self) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
        try:
            with self.path.open("rb") as file, _opened_tar(file) as archive:
                while member := archive.next():
                    archive.members.clear()  # type: ignore[attr-defined]  # else it keeps every one
                    if len(archive.pax_headers) > _MOST_HEADERS:
                        raise tarfile.ReadError("too many headers")
                    if member.isfile():
                        yield archive, member
        except Exception as error:  # tarfile, gzip, bz2 and lzma each have errors of their own
            raise BrokenArchive(self.path, "a tar archive", error) from None

    @cached_property
    def names(self) -> Sequence[str]:
        """The images' names, in a fixed order."""
        images = []
        for _, member in self._files():
            if not is_image_name(member.name):
                self.ignored += 1
                continue
            images.append(short(member.name))
            require_fewer(self.path, len(images))
        return images

    def check(self) -> None:
        """Raise UsageError unless there is an image."""
        seen: Counter[str] = Counter()
        for _, member in self._files():
            if is_image_name(member.name):
                return
            count_ending(seen, member.name)
        raise no_images(self.path, seen)

    def read(self, indices: Sequence[int]) -> Iterator[tuple[int, Read]]:
        """Yield (index, what returns the bytes) for ascending indices."""
        wanted = set(indices)
        images = ((tar, member) for tar, member in self._files() if is_image_name(member.name))
        for index, (archive, member) in enumerate(images):
            if index in wanted:
                yield index, self._read(archive, member)  # now: a compressed tar cannot go back
            if index == indices[-1]:
                return

    def _read(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> Read:
        if member.size > MAXIMUM_BYTES:
            return refused(too_large(member.size))
        file = archive.extractfile(member)
        return held(file.read() if file else b"")


class _Member(tarfile.TarInfo):
    """Passes over headers that would fill the memory, which tarfile reads whole, however long they say they are."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        long = self.type in (*tarfile.GNU_TYPES, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError("it holds sparse files")
        if long and self.size > _LONGEST_HEADER:
            archive.offset = archive.fileobj.tell() + self._block(self.size)  # type: ignore[attr-defined]
            return self
        return super()._proc_member(archive)  # type: ignore[misc]

    def _proc_gnusparse_10(self, *_: Any) -> None:
        raise tarfile.ReadError("it holds sparse files")


def _opened_tar(file: BinaryIO) -> tarfile.TarFile:
    start = file.read(6)
    file.seek(0)
    if start == b"\xfd7zXZ\0" or (start[:3] == b"]\0\0" and any(start[3:5])):  # the second: LZMA alone
        return tarfile.open(fileobj=io.BufferedReader(UnpackedXz(file)), mode="r|", tarinfo=_Member)
    return tarfile.open(fileobj=file, mode="r:*", tarinfo=_Member)
