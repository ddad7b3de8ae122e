"""Faces in a parquet file: a column of encoded images, plain bytes or Hugging Face's {bytes, path}."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from duel.errors import UsageError
from duel.faces.decode import UnusableImage, decode_face
from duel.faces.sources import Read, file_identity, printable

_BATCH = 64
_PROBES = 8  # values tried before a column is taken to hold no images


class ParquetSource:
    """The rows of the first column whose values decode as images."""

    kind = "parquet"
    ignored = 0

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def _file(self) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self.path)
        except Exception as error:  # pyarrow: ArrowInvalid, OSError, and others on broken footers
            raise self._corrupt(error) from None

    @cached_property
    def _column(self) -> str:
        schema = self._file.schema_arrow
        for field in schema:
            if _may_hold_images(field.type) and any(map(_decodes, self._first_values(field.name))):
                return str(field.name)
        columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
        raise UsageError(
            f"--faces {printable(str(self.path))!r} has no column of images (encoded bytes, or a struct "
            f"with a field 'bytes'); its columns: {columns[:500] or 'none'}; "
            f"its rows: {self._file.metadata.num_rows}"
        )

    @cached_property
    def names(self) -> Sequence[str]:
        """The images' names, in a fixed order."""
        return [f"row {row}" for row in range(self._file.metadata.num_rows)]

    def identity(self) -> Any:
        """What the cache's key hashes; see Source."""
        return file_identity(self.path)

    def check(self) -> None:
        """Raise UsageError unless there is an image."""
        _ = self._column  # found, or the error

    def read(self, indices: Sequence[int]) -> Iterator[tuple[int, Read]]:
        """Yield (index, function that returns the bytes) for ascending indices."""
        wanted = set(indices)
        start = 0
        for group in range(self._file.num_row_groups):
            end = start + self._file.metadata.row_group(group).num_rows
            if wanted.intersection(range(start, end)):
                for row, value in enumerate(self._values(self._column, [group]), start):
                    if row in wanted:
                        yield row, lambda value=value: _image_bytes(value)  # type: ignore[misc]
            start = end

    def _values(self, column: str, groups: list[int] | None = None) -> Iterator[Any]:
        """Yield the column's values: bytes, a dict, or None."""
        batches = self._file.iter_batches(batch_size=_BATCH, row_groups=groups, columns=[column])
        while True:
            try:
                values = next(batches).column(0).to_pylist()
            except StopIteration:
                return
            except Exception as error:  # a page that is broken in the middle of the file
                raise self._corrupt(error) from None
            yield from values

    def _first_values(self, column: str) -> Iterator[Any]:
        tried = 0
        for value in self._values(column):
            if value is not None and tried < _PROBES:
                tried += 1
                yield value
            elif tried >= _PROBES:
                return

    def _corrupt(self, error: Exception) -> UsageError:
        reason = str(error)[:120] or type(error).__name__
        return UsageError(f"--faces {printable(str(self.path))!r} cannot be read as parquet: {reason}")


def _may_hold_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _may_hold_images(field.type) for field in kind)
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return any(test(kind) for test in tests)


def _image_bytes(value: Any) -> bytes:
    data = value.get("bytes") if isinstance(value, dict) else value
    if data is None:
        raise UnusableImage("the row holds no bytes")
    return bytes(data)


def _decodes(value: Any) -> bool:
    try:
        decode_face(_image_bytes(value), 16)
    except UnusableImage:
        return False
    return True
