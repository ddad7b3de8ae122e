"""What decoding an image will take, known from its header."""

import struct
from collections.abc import Iterator
from itertools import islice

from PIL import Image

from duel.faces.limits import MAXIMUM_PIXELS

REDUCED_ABOVE = 16_000_000  # pixels; larger pictures are averaged down before anything else is done with them
_MANY = 24  # bytes a pixel, from the decoder to the square, with a copy for each change of the mode
# Bytes a pixel, measured, of what is reduced at once: the decoder's own buffers and Pillow's 4, or 8 with transparency.
_DECODERS = {"WEBP": 18, "AVIF": 18, "JPEG2000": 26}
_OTHERS = 12

_ICON = b"\0\0\1\0"
_SMALL = 250_000  # pixels of a JPEG whose scans are not looked at
_HARMLESS = 1_000_000  # bytes of a file whose metadata is not looked at: some forty times as much memory at most
_PARTS = 20_000  # pieces of metadata: photographs have dozens, panoramas and scans hundreds
_VALUES = 1_000_000  # numbers in the tags of a TIFF: two for each of its tiles
_BYTES = (1, 2, 6, 7)  # a TIFF's types of one byte
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN = 0xDA


def bytes_to_decode(image: Image.Image, whole: tuple[int, int], data: bytes) -> int:
    """Upper estimate for an opened image that is not loaded; whole: its size before it was drafted."""
    pixels = image.width * image.height
    if image.format == "TIFF":
        pixels = max(pixels, _tile(image))
    rate = _MANY if pixels <= REDUCED_ABOVE else _DECODERS.get(str(image.format), _OTHERS)
    cost = pixels * rate
    if "transparency" in image.info:
        cost += 4 * pixels
    if whole[0] * whole[1] > _SMALL and image.format in ("JPEG", "MPO") and _in_several_scans(data):
        cost += 2 * len(image.getbands()) * whole[0] * whole[1]  # libjpeg keeps all coefficients, drafted or not
    return cost


def _tile(image: Image.Image) -> int:
    """Pixels of a TIFF's tile, which may be larger than the picture."""
    tags = getattr(image, "tag_v2", {})
    width, height = (tags.get(tag, 0) for tag in (322, 323))
    return int(width) * int(height) if isinstance(width, int) and isinstance(height, int) else MAXIMUM_PIXELS + 1


def _in_several_scans(data: bytes) -> bool:
    """Whether a JPEG is progressive, or its first scan lacks some of the colours."""
    components = 0
    for kind, place in _segments(data):
        if kind in _FRAMES:
            if kind in (0xC2, 0xC6, 0xCA, 0xCE) or place + 10 > len(data):
                return True
            components = data[place + 9]
        elif kind == _SCAN:
            return place + 5 > len(data) or data[place + 4] < components
    return True


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield (kind, place of its 0xFF) of a JPEG's segments up to the first scan's."""
    place, kind = 2, 0
    while kind != _SCAN and (place := data.find(b"\xff", place)) >= 0 and place + 4 <= len(data):
        kind = data[place + 1]
        if kind == 0xFF:  # filler
            place += 1
            continue
        yield kind, place
        alone = kind in (0x00, 0x01) or 0xD0 <= kind <= 0xD9
        place += 2 + (0 if alone else int.from_bytes(data[place + 2 : place + 4], "big"))


def hoard(data: bytes) -> str:
    """Why Pillow would take far more memory than the file has bytes only to open it; "" where it won't."""
    if data.startswith(_ICON):
        return "an icon of more than 256x256 pixels" if _largest_icon(data) > 256 else ""
    if len(data) < _HARMLESS:
        return ""
    if data.startswith(b"\xff\xd8"):
        parts = sum(1 for _ in islice(_segments(data), _PARTS + 1))
    elif data.startswith(b"\x89PNG"):
        parts = sum(1 for _ in islice(_metadata_chunks(data), _PARTS + 1))
    elif data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return f"a TIFF whose tags hold more than {_VALUES:,} values" if _tiff_values(data) > _VALUES else ""
    else:
        return ""
    return f"more than {_PARTS:,} pieces of metadata" if parts > _PARTS else ""


def _largest_icon(data: bytes) -> int:
    """Pixels of the longest side, as the pictures in an icon's file say, which Pillow decodes as it opens it."""
    longest = 0
    for entry in range(6, min(6 + 16 * int.from_bytes(data[4:6], "little"), len(data)), 16):
        start = int.from_bytes(data[entry + 12 : entry + 16], "little")
        head = data[start : start + 24]
        if head.startswith(b"\x89PNG"):
            width, height = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
        else:
            width, height = (int.from_bytes(head[at : at + 4], "little", signed=True) for at in (4, 8))
            height //= 2  # the picture and its mask
        longest = max(longest, abs(width), abs(height))
    return longest


def _metadata_chunks(data: bytes) -> Iterator[int]:
    """Yield where a PNG's chunks without pixels begin."""
    place = 8
    while place + 8 <= len(data):
        if data[place + 4 : place + 8] != b"IDAT":
            yield place
        place += 12 + int.from_bytes(data[place : place + 4], "big")


def _tiff_values(data: bytes) -> int:
    """How many values the tags of a TIFF's first picture say they have; bytes, of which Pillow makes no numbers,
    only where together they are more than the file."""
    order = "<" if data.startswith(b"II") else ">"
    head, first, entry = ("Q", 8, "HHQ8x") if data[2:4] in (b"+\0", b"\0+") else ("H", 4, "HHL4x")
    (start,) = struct.unpack_from(order + ("Q" if first == 8 else "L"), data, first)
    if start + 8 > len(data):
        return 0
    (count,) = struct.unpack_from(order + head, data, start)
    start += struct.calcsize(order + head)
    size = struct.calcsize(order + entry)
    whole = min(count, (len(data) - start) // size)
    tags = [struct.unpack_from(order + entry, data, start + n * size) for n in range(min(whole, 65535))]
    plain = sum(number for _, kind, number in tags if kind in _BYTES)
    values = sum(number for _, kind, number in tags if kind not in _BYTES)
    return values + (plain if plain > len(data) else 0)
