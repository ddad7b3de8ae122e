"""The bytes in an .xz file, unpacked with a bound on memory, which Python's own reader lacks."""

import io
import lzma
from typing import BinaryIO

from duel.faces.limits import MAXIMUM_ENCODED

_PIECE = 1 << 16


class UnpackedXz(io.RawIOBase):
    """Reads forward only. Raises lzma.LZMAError for broken files and those that need more memory, OSError."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._unpack = _decompressor()

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill as much of the buffer as comes at once; 0 at the end."""
        while True:
            if self._unpack.eof:  # another stream may follow, after zeros
                rest = (self._unpack.unused_data or self._file.read(_PIECE)).lstrip(b"\0")
                if not rest:
                    return 0
                self._unpack = _decompressor()
            else:
                rest = self._file.read(_PIECE) if self._unpack.needs_input else b""
                if self._unpack.needs_input and not rest:
                    raise lzma.LZMAError("it ends too early")
            data = self._unpack.decompress(rest, len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)


def _decompressor() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(memlimit=MAXIMUM_ENCODED)
