"""Files whose pixels are all there, though Pillow calls them broken: they are mended and decoded again.

A PNG with metadata that Pillow refuses (over 1 MB of ICC profile or XMP, a wrong checksum) loses the metadata.
A JPEG that lacks its end marker gets one. What is truly cut stays as it is.
"""

import hashlib
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
from PIL import Image

from duel.faces.limits import DECODING, MAXIMUM_DECODING
from duel.faces.weigh import bytes_to_decode

_PNG = b"\x89PNG\r\n\x1a\n"
_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")  # the chunks that a PNG's first frame is made of
_JPEG, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_STEP_BACK = 16  # bytes, some of a JPEG's last pixels


def mended(data: bytes, maximum_pixels: int) -> bytes | None:
    """Return the file as Pillow can read it, or None where there is nothing to mend, or not all pixels are there."""
    if data.startswith(_PNG):
        return _png_without_metadata(data)
    if data.startswith(_JPEG):
        return _jpeg_with_its_end(data, maximum_pixels)
    return None


def _png_without_metadata(data: bytes) -> bytes | None:
    kept, place = bytearray(_PNG), len(_PNG)
    while place + 8 <= len(data):
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        chunk = data[place : place + 12 + length]
        if kind in _PIXELS or (kind == b"eXIf" and _checks(chunk)):  # which way is up
            kept += chunk
        place += 12 + length
    return bytes(kept) if len(kept) < len(data) else None


def _checks(chunk: bytes) -> bool:
    return zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")


def _jpeg_with_its_end(data: bytes, maximum_pixels: int) -> bytes | None:
    """Complete, and no more than complete, is what decodes to the same pixels whatever bytes come next.

    Shortened a little it must not: else its end is not where the pixels end, and something else is wrong with it.
    """
    body = data.rstrip(b"\0\xff")  # half an end marker, or the zeros of a block that was never written
    rest = data[len(body) :]
    if rest.startswith(b"\xff"):
        body += b"\xff\0"  # a byte of the pixels, should it be one
    elif rest in (b"\0", b"\0\xff"):
        body += b"\0"  # likewise; many zeros are none
    if (
        _has_every_scan(body)
        and _ends_here(body, maximum_pixels)
        and not _ends_here(body[:-_STEP_BACK], maximum_pixels)
    ):
        return body + _JPEG_END
    return None


def _ends_here(body: bytes, maximum_pixels: int) -> bool:
    with suppress(Exception):
        first = _pixels(body + _JPEG_END, maximum_pixels)
        return all(_pixels(body + more + _JPEG_END, maximum_pixels) == first for more in _continuations(body))
    return False


def _continuations(body: bytes) -> Iterator[bytes]:
    """Bytes that the decoder takes for pixels if it lacks any, also where it waits for its next restart marker."""
    scan = body.rfind(b"\xff\xda")
    last = max(body.rfind(bytes([0xFF, kind]), max(scan, 0)) for kind in range(0xD0, 0xD8))
    following = body[last + 1] - 0xD0 + 1 if last >= 0 else 0
    for seed in range(2):
        noise = np.random.default_rng(seed).integers(1, 255, (9, 64), dtype=np.uint8)  # 0 and 255 mean other things
        for rows in (noise, 255 - noise):
            markers = [b"", *(bytes([0xFF, 0xD0 + (following + n) % 8]) for n in range(8))]
            yield b"".join(marker + row.tobytes() for marker, row in zip(markers, rows, strict=True))


def _pixels(data: bytes, maximum_pixels: int) -> bytes:
    """Digest of a JPEG's pixels at full size."""
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        cost = bytes_to_decode(image, image.size, data)
        if cost > MAXIMUM_DECODING or image.width * image.height > maximum_pixels:
            raise ValueError("too many pixels")
        with DECODING.of(cost):
            return hashlib.sha256(image.tobytes()).digest()


def _has_every_scan(data: bytes) -> bool:
    """Whether a JPEG's scans, as their headers announce them, give each component all that it has.

    A progressive one that ends between two scans decodes well, only coarsely.
    """
    frame: bytes = b""
    given: set[tuple[int, int]] = set()  # (component, coefficient) that came down to their last bit
    place, progressive = 2, False
    while found := re.compile(rb"\xff+([\xc0-\xcf\xda-\xfe])").search(data, place):
        kind = found[1][0]
        length = int.from_bytes(data[found.end() : found.end() + 2], "big")
        segment, place = data[found.end() + 2 : found.end() + length], found.end() + length
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            frame, progressive = segment[6::3], kind in (0xC2, 0xC6, 0xCA, 0xCE)
        elif kind == 0xDA and len(segment) >= 6:
            start, end, approximation = segment[-3:] if progressive else (0, 63, 0)
            if approximation & 15 == 0:
                given |= {(component, at) for component in segment[1:-3:2] for at in range(start, end + 1)}
    return bool(frame) and given >= {(component, at) for component in frame for at in range(64)}
