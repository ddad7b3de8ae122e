"""Faces in a parquet file: a column of encoded images, plain bytes or Hugging Face's {bytes, path}."""

from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from duel.errors import UsageError
from duel.faces.base import Archive, BrokenArchive, NoImages, Read, held, refused, require_fewer, too_large
from duel.faces.decode import UnusableImage, decode_face
from duel.faces.limits import MAXIMUM_BYTES
from duel.faces.pages import largest_page
from duel.faces.patience import Patience
from duel.output import printable

PREFERRED = "image"  # the column taken where several hold images; what Hugging Face's data sets call theirs
_BATCH = 64
_BATCH_BYTES = 64_000_000
_PROBES = 512  # values tried before a column is taken to hold no images
_SPREAD = 8  # row groups, from the first to the last, that they are taken from


class ParquetSource(Archive):
    """The rows of the column whose values decode as images."""

    kind = "parquet"

    @cached_property
    def _about(self) -> tuple[pq.FileMetaData, pa.Schema]:
        with self._opened() as file:
            return file.metadata, file.schema_arrow

    def _opened(self, metadata: pq.FileMetaData | None = None) -> pq.ParquetFile:
        """Of a folder's thousands, one is open at a time. Raises BrokenArchive."""
        try:
            # With a buffer's size, a column is read as it is needed rather than whole.
            return Patience()(partial(pq.ParquetFile, self.path, metadata=metadata, buffer_size=1 << 20))
        except Exception as error:  # pyarrow: ArrowInvalid, OSError, and others on broken footers
            raise BrokenArchive(self.path, "parquet", error) from None

    @cached_property
    def column(self) -> str:
        """The column that holds the images. Raises UsageError where none does, or it is not clear which."""
        possible = self.possible_columns()
        if PREFERRED in possible and self._holds_images(PREFERRED):
            return PREFERRED
        found = [name for name in possible if name != PREFERRED and self._holds_images(name)]
        if len(found) > 1:
            raise UsageError(
                f"--faces {printable(str(self.path))!r} has several columns of images: {listed(found)}; call the one "
                f"with the faces {PREFERRED!r}, or leave the others out"
            )
        if not found:
            raise self._no_column()
        return found[0]

    def columns(self) -> list[str]:
        """All that there are."""
        return [str(name) for name in self._about[1].names]

    def possible_columns(self) -> list[str]:
        """Those that may hold images, by their types. Raises BrokenArchive."""
        return [str(field.name) for field in self._about[1] if _may_hold_images(field.type)]

    def require_possible_column(self) -> None:
        """Raise NoImages unless there is one."""
        if not self.possible_columns():
            raise self._no_column()

    def _no_column(self) -> NoImages:
        columns = listed([f"{field.name} ({field.type})" for field in self._about[1]])
        return NoImages(
            f"--faces {printable(str(self.path))!r} has no column of images (encoded bytes, or a struct "
            f"with a field 'bytes'); its columns: {columns}; its rows: {self._about[0].num_rows}"
        )

    @cached_property
    def names(self) -> Sequence[str]:
        """The images' names, in a fixed order."""
        rows = self._about[0].num_rows
        require_fewer(self.path, rows)
        return [f"row {row}" for row in range(rows)]

    def check(self) -> None:
        """Raise UsageError unless there is an image."""
        require_fewer(self.path, self._about[0].num_rows)
        _ = self.column  # found, or the error

    def read(self, indices: Sequence[int]) -> Iterator[tuple[int, Read]]:
        """Yield (index, what returns the bytes) for ascending indices."""
        wanted = set(indices)
        start = 0
        for group in range(self._about[0].num_row_groups):
            end = start + self._about[0].row_group(group).num_rows
            if wanted.intersection(range(start, end)):
                for row, value in enumerate(self._values(self.column, group), start):
                    if row in wanted:
                        yield row, _read(value)
            start = end

    def _values(self, column: str, group: int) -> Iterator[pa.Scalar]:
        """Yield the column's values, each without a copy."""
        leaf = f"{column}.bytes" if pa.types.is_struct(self._about[1].field(column).type) else column
        with self._opened(self._about[0]) as file:
            try:
                size = max(1, min(_BATCH, _BATCH_BYTES // max(1, self._largest_page(leaf, group))))
                for batch in file.iter_batches(size, row_groups=[group], columns=[leaf]):
                    values = batch.column(0)
                    yield from pc.struct_field(values, "bytes") if leaf != column else values
            except Exception as error:  # a page that is broken in the middle of the file
                raise BrokenArchive(self.path, "parquet", error) from None

    def _largest_page(self, leaf: str, group: int) -> int:
        """See largest_page: no value is larger, however often it is repeated."""
        about = self._about[0].row_group(group)
        for n in range(about.num_columns):
            if about.column(n).path_in_schema == leaf:
                with self.path.open("rb") as file:
                    return largest_page(file, about.column(n))
        return 0

    def _holds_images(self, column: str) -> bool:
        """Whether any of many values decodes; the first rows alone may all be broken."""
        groups = self._about[0].num_row_groups
        several = min(_SPREAD, groups)
        for n in range(several):
            group = n * (groups - 1) // max(1, several - 1)
            filled = (value for value in self._values(column, group) if value.is_valid)
            if any(map(_decodes, islice(filled, _PROBES // several))):
                return True
        return False


def same_column(folder: Path, tables: Sequence[tuple[str, ParquetSource]]) -> None:
    """Have all tables take their images from the column that the first with images has.

    Raises UsageError where one lacks it, or no table holds images.
    """
    column, first, fault = "", tables[0] if tables else None, None
    for first in tables:
        try:
            column = first[1].column
            break
        except NoImages as error:
            fault = fault or error
    if first is None:
        return
    if not column:
        assert fault
        raise fault
    for name, table in tables:
        if column not in table.possible_columns():
            raise UsageError(
                f"--faces {printable(str(folder))!r}: its parquet files differ: {printable(name)!r} has "
                f"the columns {listed(table.columns())}, {printable(first[0])!r} has {listed(first[1].columns())}"
            )
        table.column = column


def listed(columns: Sequence[str]) -> str:
    """The columns' names as an error gives them."""
    return printable(", ".join(columns)[:500]) or "none"


def _may_hold_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _is_bytes(field.type) for field in kind)
    return _is_bytes(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    return any(test(kind) for test in tests)


def _read(value: pa.Scalar) -> Read:
    data = value.as_buffer()
    if data is None:
        return refused(UnusableImage("the row holds no bytes"))
    return refused(too_large(data.size)) if data.size > MAXIMUM_BYTES else held(data.to_pybytes())


def _decodes(value: pa.Scalar) -> bool:
    try:
        decode_face(_read(value)(), 16)
    except UnusableImage:
        return False
    return True
