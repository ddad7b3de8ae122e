"""The pages of a parquet file's column, as their headers announce them: pyarrow unpacks them whole, whatever they say.

A header is a struct in Thrift's compact protocol:
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md, its fields those of PageHeader in
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift.
"""

from collections.abc import Iterator
from typing import Any, BinaryIO

from duel.faces.limits import MAXIMUM_PAGE

_WINDOW = 1 << 16  # bytes in which a header mostly ends; statistics may make it longer
_LONGEST = 16 << 20
_DEEPEST = 8

_UNPACKED, _PACKED, _DATA, _DATA_V2, _VALUES = 2, 3, 5, 8, 1  # fields
_STRUCT = 12


def largest_page(file: BinaryIO, column: Any) -> int:
    """Bytes, unpacked, of the largest page in a column of a row group (pyarrow's ColumnChunkMetaData).

    Raises ValueError where one has more than MAXIMUM_PAGE, or the headers make no sense.
    """
    start = column.data_page_offset
    if column.has_dictionary_page and 0 < column.dictionary_page_offset < start:
        start = column.dictionary_page_offset
    largest = 0
    for size in _pages(file, start, start + column.total_compressed_size, column.num_values):
        largest = max(largest, size)
        if largest > MAXIMUM_PAGE:
            raise ValueError(
                f"a page of {largest:,} bytes; at most {MAXIMUM_PAGE:,} are read (written with a row_group_size of "
                "100, say, its pages are smaller)"
            )
    return largest


def _pages(file: BinaryIO, place: int, end: int, values: int) -> Iterator[int]:
    """Yield the larger of each page's two sizes, packed and unpacked."""
    while values > 0 and place < end:
        header, length = _header(file, place, end)
        packed, unpacked = header.get(_PACKED, -1), header.get(_UNPACKED, -1)
        if packed < 0 or unpacked < 0:
            raise ValueError("a page without a size")
        yield max(packed, unpacked)
        place += length + packed
        values -= (header.get(_DATA) or header.get(_DATA_V2) or {}).get(_VALUES, 0)


def _header(file: BinaryIO, place: int, end: int) -> tuple[dict[int, Any], int]:
    """The header's numbers by field, and its length in bytes."""
    for window in (_WINDOW, _LONGEST):
        file.seek(place)
        reader = _Compact(file.read(min(window, end - place)))
        try:
            return reader.struct(), reader.place
        except IndexError:
            continue
    raise ValueError("a page whose header does not end")


class _Compact:
    """Reads Thrift's compact protocol: integers and structs are kept, all else is skipped."""

    def __init__(self, data: bytes) -> None:
        self._data, self.place = data, 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Its fields. Raises IndexError where the data end before it does, ValueError for what is no struct."""
        if depth > _DEEPEST:
            raise ValueError("a page's header is too deep")
        found: dict[int, Any] = {}
        field = 0
        while head := self._byte():
            field = field + (head >> 4) if head >> 4 else self._integer()
            found[field] = self._value(head & 15, depth)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2):  # a truth, in its field's head
            return None
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._integer()
        if kind == 7:
            return self._skip(8)
        if kind == 8:
            return self._skip(self._varint())
        if kind in (9, 10):
            return self._list(depth)
        if kind == _STRUCT:
            return self.struct(depth + 1)
        raise ValueError("a page's header holds what none does")

    def _list(self, depth: int) -> None:
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._varint()
        for _ in range(count):
            if head & 15 in (1, 2):
                self._skip(1)
            else:
                self._value(head & 15, depth + 1)

    def _byte(self) -> int:
        self.place += 1
        return self._data[self.place - 1]

    def _skip(self, length: int) -> None:
        if self.place + length > len(self._data):
            raise IndexError
        self.place += length

    def _varint(self) -> int:
        number = shift = 0
        while True:
            byte = self._byte()
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number
            if shift > 63:
                raise ValueError("a number without an end in a page's header")

    def _integer(self) -> int:
        number = self._varint()
        return (number >> 1) ^ -(number & 1)
