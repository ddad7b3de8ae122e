"""Several archives in a folder read as one source: parquet shards, tars as webdataset has them, zips as downloaded.

All of one kind are taken, sorted by name, whatever split they are named after: duel makes its own partitions.
"""

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from duel.errors import UsageError
from duel.faces.archives import TarSource, ZipSource
from duel.faces.base import BrokenArchive, NoImages, Read, Source, no_images, refused, require_fewer
from duel.faces.decode import UnusableImage
from duel.faces.folder import FolderSource, plain_size
from duel.output import printable


def open_archive(kind: str, path: Path) -> Source:
    """One archive of a kind, which is not opened yet."""
    if kind == "parquet":
        from duel.faces.tables import ParquetSource  # pyarrow takes its time to import

        return ParquetSource(path)
    return ZipSource(path) if kind == "zip" else TarSource(path)


def open_shards(folder: FolderSource) -> Source | None:
    """The folder's archives of the first kind that holds images; None where there are none.

    Raises UsageError where there are neither images in the archives nor any beside them.
    """
    faults: list[UsageError] = []
    passed_over: list[str] = []
    for kind, names in folder.packed.items():
        if not names:
            continue
        try:
            shards = Shards(folder, kind, sorted(names), passed_over)
            shards.check()
            return shards
        except UsageError as error:
            faults.append(error)
            why = "no images" if isinstance(error, NoImages) else getattr(error, "reason", str(error))
            passed_over += [f"{printable(name)}: {why}" for name in sorted(names)]
    broken = [error for error in faults if not isinstance(error, NoImages)]
    if faults and not folder.holds(1):
        raise (broken or faults)[0]
    return None


class Shards:
    """Archives of one kind in a folder."""

    def __init__(self, folder: FolderSource, kind: str, names: Sequence[str], passed_over: Sequence[str]) -> None:
        self.kind = kind
        self._folder = folder
        self._passed_over = list(passed_over)
        self._broken: list[dict[str, str]] = []
        self._shards = [(name, open_archive(kind, folder.path / name)) for name in names if self._is_plain(name)]

    def _is_plain(self, name: str) -> bool:
        """Raises UsageError for what the system does not hand out."""
        path = self._folder.path / name
        try:
            plain_size(path)  # opening a pipe would wait for ever
            with path.open("rb"):
                return True
        except UnusableImage as error:
            self._broken.append({"name": printable(name), "reason": str(error)})
        except OSError as error:
            raise BrokenArchive(path, self.kind, error) from None
        return False

    @cached_property
    def _parts(self) -> list[tuple[str, Source, int]]:
        """(name, archive, how many images) of those that hold any; what is broken or holds none is noted."""
        readable = self._tables() if self.kind == "parquet" else self._shards
        found: list[tuple[str, Source, int]] = []
        total = 0
        for name, part in readable:
            with self._noting(name):
                if count := len(part.names):
                    found.append((printable(name), part, count))
                    total += count
                    require_fewer(self._folder.path, total)
                else:
                    raise no_images(self._folder.path / name, Counter())
        return found

    @contextmanager
    def _noting(self, name: str) -> Iterator[None]:
        """Note what is wrong with an archive and do without it; not when the system keeps it from us just now."""
        try:
            yield
        except NoImages:
            self._passed_over.append(f"{printable(name)}: no images")
        except BrokenArchive as error:
            if not error.lasting:
                raise
            self._broken.append({"name": printable(name), "reason": error.reason})

    def _tables(self) -> list[tuple[str, Source]]:
        """The parquet files, which all take their images from one column. Raises UsageError where they can't."""
        from duel.faces.tables import ParquetSource, same_column

        tables = []
        for name, part in self._shards:
            assert isinstance(part, ParquetSource)
            with self._noting(name):
                part.require_possible_column()
                tables.append((name, part))
        same_column(self._folder.path, tables)
        return list(tables)

    @cached_property
    def names(self) -> Sequence[str]:
        """The images' names, in a fixed order."""
        between = " " if self.kind == "parquet" else "/"
        return [f"{shard}{between}{name}" for shard, part, _ in self._parts for name in part.names]

    @property
    def ignored(self) -> int:
        """Other files, in the folder and in the archives."""
        parts = self._parts
        return sum(self._folder.others.values()) - len(parts) + sum(part.ignored for _, part, _ in parts)

    @property
    def column(self) -> str:
        """The column that the images are from."""
        return self._parts[0][1].column if self._parts else ""

    @property
    def archives(self) -> Sequence[str]:
        """Those that the images are from."""
        return [name for name, _, _ in self._parts]

    @property
    def passed_over(self) -> Sequence[str]:
        """Images and archives of other kinds in the folder, and archives without images."""
        _ = self._parts  # all are noted
        kinds = [kind for kind in self._folder.packed if kind != self.kind]
        known = {each.rsplit(": ", 1)[0] for each in self._passed_over}
        others = [printable(name) for kind in kinds for name in self._folder.packed[kind]]
        others += self._folder.names
        instead = [f"{name}: the {self.kind} files beside it are used" for name in others if name not in known]
        return self._passed_over + instead

    @property
    def unreachable(self) -> Sequence[dict[str, str]]:
        """Folders that could not be listed, and broken archives."""
        _ = self._parts
        return [*self._folder.unreachable, *self._broken]

    def identity(self) -> Any:
        """What the cache's key hashes; see Source."""
        files = [[printable(name), *part.identity()] for name, part in self._shards]
        return [printable(str(self._folder.path.resolve())), files, self._folder.unreachable]

    def check(self) -> None:
        """Raise UsageError unless there is an image; stops at the first, but looks at the columns of all tables."""
        faults: list[UsageError] = []
        if self.kind == "parquet" and self._parts:
            return
        for _, part in self._shards:
            try:
                return part.check()
            except UsageError as error:
                faults.append(error)
        broken = [fault for fault in faults if not isinstance(fault, NoImages)]
        raise (broken or [no_images(self._folder.path, self._folder.others, self._broken)])[0]

    def read(self, indices: Sequence[int]) -> Iterator[tuple[int, Read]]:
        """Yield (index, what returns the bytes) for ascending indices."""
        start = 0
        for _, part, count in self._parts:
            low, high = bisect_left(indices, start), bisect_left(indices, start + count)
            if low < high:
                yield from self._read(part, indices[low:high], start)
            start += count

    def _read(self, part: Source, indices: Sequence[int], start: int) -> Iterator[tuple[int, Read]]:
        """What comes after a break in the archive is unusable."""
        left = deque(indices)
        try:
            for index, read in part.read([index - start for index in indices]):
                left.remove(index + start)
                yield index + start, read
        except BrokenArchive as error:
            if not error.lasting:
                raise
            yield from ((index, refused(UnusableImage(error.reason))) for index in left)
