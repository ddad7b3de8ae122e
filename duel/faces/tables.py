"""Faces in parquet files: a column of encoded images, plain bytes or Hugging Face's {bytes, path}.

Several files, as Hugging Face's shards, are read as one: their rows follow one another.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from duel.errors import UsageError
from duel.faces.decode import UnusableImage, decode_face
from duel.faces.patience import Patience
from duel.faces.sources import Read, file_identity
from duel.output import printable

PREFERRED = "image"  # the column taken where several hold images; what Hugging Face's data sets call theirs
_BATCH = 64
_PROBES = 512  # values tried before a column is taken to hold no images
_SPREAD = 8  # row groups, from the first to the last, that they are taken from


class ParquetSource:
    """The rows of the column whose values decode as images."""

    kind = "parquet"
    ignored = 0

    def __init__(self, path: Path, shards: Sequence[str] = (), unreachable: Sequence[dict[str, str]] = ()) -> None:
        """path: the file, or the folder that `shards` are in; unreachable: what else is there, see Source."""
        self.path = path
        self.shards = shards
        self.unreachable = unreachable

    @cached_property
    def _paths(self) -> list[Path]:
        return [self.path / shard for shard in self.shards] or [self.path]

    @cached_property
    def _files(self) -> list[pq.ParquetFile]:
        return [self._opened(path) for path in self._paths]

    def _opened(self, path: Path) -> pq.ParquetFile:
        try:
            return Patience()(partial(pq.ParquetFile, path))
        except Exception as error:  # pyarrow: ArrowInvalid, OSError, and others on broken footers
            raise _corrupt(path, error) from None

    @cached_property
    def column(self) -> str:
        """The column that holds the images. Raises UsageError where none does, or it is not clear which."""
        schema = self._files[0].schema_arrow
        for path, file in zip(self._paths, self._files, strict=True):
            if file.schema_arrow.names != schema.names:
                raise UsageError(
                    f"--faces {printable(str(self.path))!r}: its parquet files differ: {printable(path.name)!r} has "
                    f"the columns {_listed(file.schema_arrow.names)}, {printable(self._paths[0].name)!r} has "
                    f"{_listed(schema.names)}"
                )
        possible = [str(field.name) for field in schema if _may_hold_images(field.type)]
        if PREFERRED in possible and self._holds_images(PREFERRED):
            return PREFERRED
        found = [name for name in possible if name != PREFERRED and self._holds_images(name)]
        if len(found) > 1:
            raise UsageError(
                f"--faces {printable(str(self.path))!r} has several columns of images: {_listed(found)}; call the one "
                f"with the faces {PREFERRED!r}, or leave the others out"
            )
        if not found:
            raise self._no_column()
        return found[0]

    def _no_column(self) -> UsageError:
        columns = _listed([f"{field.name} ({field.type})" for field in self._files[0].schema_arrow])
        return UsageError(
            f"--faces {printable(str(self.path))!r} has no column of images (encoded bytes, or a struct "
            f"with a field 'bytes'); its columns: {columns}; its rows: {len(self.names)}"
        )

    @cached_property
    def names(self) -> Sequence[str]:
        """The images' names, in a fixed order."""
        if not self.shards:
            return [f"row {row}" for row in range(self._files[0].metadata.num_rows)]
        files = zip(self.shards, self._files, strict=True)
        return [f"{printable(shard)} row {row}" for shard, file in files for row in range(file.metadata.num_rows)]

    def identity(self) -> Any:
        """What the cache's key hashes; see Source."""
        return [[file_identity(path) for path in self._paths], self.unreachable]

    def check(self) -> None:
        """Raise UsageError unless there is an image."""
        _ = self.column  # found, or the error

    def read(self, indices: Sequence[int]) -> Iterator[tuple[int, Read]]:
        """Yield (index, function that returns the bytes) for ascending indices."""
        wanted = set(indices)
        start = 0
        for file, group in self._groups:
            end = start + self._files[file].metadata.row_group(group).num_rows
            if wanted.intersection(range(start, end)):
                for row, value in enumerate(self._values(self.column, file, group), start):
                    if row in wanted:
                        yield row, lambda value=value: _image_bytes(value)  # type: ignore[misc]
            start = end

    @cached_property
    def _groups(self) -> list[tuple[int, int]]:
        """Every row group: (file, number of the group in it)."""
        return [(n, group) for n, file in enumerate(self._files) for group in range(file.num_row_groups)]

    def _values(self, column: str, file: int, group: int) -> Iterator[Any]:
        """Yield the column's values: bytes, a dict, or None."""
        batches = self._files[file].iter_batches(batch_size=_BATCH, row_groups=[group], columns=[column])
        while True:
            try:
                values = next(batches).column(0).to_pylist()
            except StopIteration:
                return
            except Exception as error:  # a page that is broken in the middle of the file
                raise _corrupt(self._paths[file], error) from None
            yield from values

    def _holds_images(self, column: str) -> bool:
        """Whether any of many values decodes; the first rows alone may all be broken."""
        several = min(_SPREAD, len(self._groups))
        for n in range(several):
            file, group = self._groups[n * (len(self._groups) - 1) // max(1, several - 1)]
            filled = (value for value in self._values(column, file, group) if _data(value) is not None)
            if any(map(_decodes, islice(filled, _PROBES // several))):
                return True
        return False


def _corrupt(path: Path, error: Exception) -> UsageError:
    reason = str(error)[:120] or type(error).__name__
    return UsageError(f"--faces {printable(str(path))!r} cannot be read as parquet: {reason}")


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(columns)[:500] or "none"


def _may_hold_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _may_hold_images(field.type) for field in kind)
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return any(test(kind) for test in tests)


def _data(value: Any) -> Any:
    return value.get("bytes") if isinstance(value, dict) else value


def _image_bytes(value: Any) -> bytes:
    data = _data(value)
    if data is None:
        raise UnusableImage("the row holds no bytes")
    return bytes(data)


def _decodes(value: Any) -> bool:
    try:
        decode_face(_image_bytes(value), 16)
    except UnusableImage:
        return False
    return True
