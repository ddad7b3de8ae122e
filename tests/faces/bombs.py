"""Small files that unfold to more than a machine has; each is written without taking much memory itself."""

import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

MB = 1_000_000


def zeros(size: int) -> bytes:
    """So many zeros, deflated."""
    packer, out = zlib.compressobj(1), bytearray()
    for _ in range(size // MB):
        out += packer.compress(bytes(MB))
    return bytes(out + packer.compress(bytes(size % MB)) + packer.flush())


def png(width: int, height: int, colour: int, bits: int, *more: tuple[bytes, bytes], channels: int = 1) -> bytes:
    """A PNG of zeros; more: (kind, data) of further chunks."""
    row = 1 + (width * bits * channels + 7) // 8
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)), *more]
    chunks += [(b"IDAT", zeros(row * height)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, chunks))


def _chunk(chunk: tuple[bytes, bytes]) -> bytes:
    kind, data = chunk
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def small(kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), (200, 150, 120)).save(file, kind, **options)
    return file.getvalue()


def one_colour() -> bytes:
    return png(9_990, 9_990, 0, 8)


def one_colour_see_through() -> bytes:
    return png(9_990, 9_990, 6, 8, channels=4)


def deep_grey() -> bytes:
    return png(9_990, 9_990, 0, 16)


def too_many_pixels() -> bytes:
    return png(15_700, 15_700, 0, 1)


def jpeg_of_segments() -> bytes:
    data = small("JPEG")
    return data[:2] + b"\xff\xe5\0\2" * 10_000_000 + data[2:]


def png_of_chunks() -> bytes:
    data = png(64, 64, 2, 8, channels=3)
    return data[:33] + _chunk((b"prVt", b"")) * 5_000_000 + data[33:]


def exif_of_numbers() -> bytes:
    many = 40_000_000
    exif = b"MM\0*\0\0\0\x08" + struct.pack(">HHHIII", 1, 700, 3, many, 26, 0) + b"\x7f\x01" * many
    return png(64, 64, 2, 8, (b"eXIf", exif), channels=3)


def _tiff(tags: dict[int, tuple[int, int, int]], data: bytes) -> bytes:
    entries = b"".join(struct.pack("<HHII", tag, *value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


def tiff_of_strips() -> bytes:
    """As many strips as rows, of a picture 16 pixels wide."""
    rows = 6_000_000
    place = 8 + 2 + 9 * 12 + 4
    tags = {256: (4, 1, 16), 257: (4, 1, rows), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 277: (3, 1, 1)}
    tags |= {278: (4, 1, 1), 273: (4, rows, place), 279: (4, rows, place)}
    return _tiff(tags, b"\x7e\1\0\0" * rows)


def tiff_of_one_tile() -> bytes:
    """A tile of 400 million pixels for a picture of 64 x 64."""
    side = 20_000
    place = 8 + 2 + 10 * 12 + 4
    data = zeros(side * side)
    tags = {256: (4, 1, 64), 257: (4, 1, 64), 258: (3, 1, 8), 259: (3, 1, 8), 262: (3, 1, 1), 277: (3, 1, 1)}
    tags |= {322: (4, 1, side), 323: (4, 1, side), 324: (4, 1, place), 325: (4, 1, len(data))}
    return _tiff(tags, data)


def icon() -> bytes:
    picture = png(9_990, 9_990, 6, 8, channels=4)
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 32, 32, 0, 0, 1, 32, len(picture), 22) + picture


PICTURES: dict[str, Callable[[], bytes]] = {
    make.__name__: make
    for make in (
        one_colour,
        one_colour_see_through,
        deep_grey,
        too_many_pixels,
        jpeg_of_segments,
        png_of_chunks,
        exif_of_numbers,
        tiff_of_strips,
        tiff_of_one_tile,
        icon,
    )
}


def repeated_value(path: Path, good: list[bytes]) -> None:
    """A parquet file of a few kilobytes: one value of 100 MB, sixteen times."""
    values = pa.DictionaryArray.from_arrays(
        pa.array([0] * 16 + list(range(1, len(good) + 1)), pa.int32()), pa.array([bytes(100 * MB), *good], pa.binary())
    )
    pq.write_table(pa.table({"image": values}), path, compression="zstd", store_schema=False)


def repeated_prefix(path: Path, good: list[bytes]) -> None:
    """The same by another encoding: each value is the one before it, and nothing more."""
    value = bytes(100 * MB)
    chunks = [pa.array([each], pa.binary()) for each in good] + [pa.array([value], pa.binary())] * 12
    table = pa.table({"image": pa.chunked_array(chunks)})
    pq.write_table(table, path, compression="zstd", use_dictionary=False, column_encoding={"image": "DELTA_BYTE_ARRAY"})


def _header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


def _gzip(data: bytes) -> bytes:
    packer = zlib.compressobj(1, wbits=31)
    return packer.compress(data) + packer.flush()


def _gzip_zeros(size: int) -> bytes:
    packer = zlib.compressobj(1, wbits=31)
    return b"".join(packer.compress(bytes(MB)) for _ in range(size // MB)) + packer.flush()


def _good_members(good: list[bytes]) -> bytes:
    return b"".join(_header(f"{n}.png", len(data)) + data + bytes(-len(data) % 512) for n, data in enumerate(good))


def large_members(path: Path, good: list[bytes]) -> None:
    """A tar.gz of 3 MB: fourteen members of 192 MB."""
    member = _gzip(_header("zeros.jpg", 192 * MB)) + _gzip_zeros(192 * MB)
    path.write_bytes(member * 14 + _gzip(_good_members(good) + bytes(1024)))


def long_name(path: Path, good: list[bytes]) -> None:
    """A tar.gz of a member whose name has 3 GB; tar gives its beginning once more."""
    name = _gzip(_header("././@LongLink", 3072 * MB, b"L")) + _gzip_zeros(1024 * MB) * 3
    path.write_bytes(name + _gzip(_good_members(good) + bytes(1024)))


def many_members(path: Path, good: list[bytes]) -> None:
    """A tar.gz of 100,000 members without a byte."""
    empty = _gzip(_header("a", 0) * 10_000)
    path.write_bytes(empty * 10 + _gzip(_good_members(good) + bytes(1024)))


def large_dictionary(path: Path, good: list[bytes]) -> None:
    """A tar.xz that says it needs 3 GB, and unfolds to as much."""
    data = bytearray(lzma.compress(_good_members(good) + _header("zeros.jpg", 16 * MB) + bytes(16 * MB) + bytes(1024)))
    size = 4 * (data[12] + 1)
    assert data[14:16] == b"\x21\x01"  # LZMA2
    data[16] = 39  # 3 GB
    data[12 + size - 4 : 12 + size] = struct.pack("<I", zlib.crc32(data[12 : 12 + size - 4]))
    path.write_bytes(data)


def lying_zip(path: Path, good: list[bytes], kind: int = zipfile.ZIP_DEFLATED) -> None:
    """A zip of two members that say they have a kilobyte, and have 1.2 GB (packed by bzip2, 300 MB)."""
    with zipfile.ZipFile(path, "w") as archive:
        for n, data in enumerate(good):
            archive.writestr(f"{n}.png", data)
        for n in range(2):
            info = zipfile.ZipInfo(f"zeros{n}.jpg")
            info.compress_type, info._compresslevel = kind, 1  # type: ignore[attr-defined]
            with archive.open(info, "w") as member:
                for _ in range(1_200 if kind == zipfile.ZIP_DEFLATED else 300):
                    member.write(bytes(MB))
    data = bytearray(path.read_bytes())
    for n in range(2):
        place = data.rfind(f"zeros{n}.jpg".encode())
        data[place - 46 + 24 : place - 46 + 28] = struct.pack("<I", 1000)
    path.write_bytes(data)


ARCHIVES: dict[str, tuple[str, Callable[[Path, list[bytes]], None]]] = {
    "repeated_value": ("a.parquet", repeated_value),
    "repeated_prefix": ("a.parquet", repeated_prefix),
    "large_members": ("a.tar.gz", large_members),
    "long_name": ("a.tar.gz", long_name),
    "many_members": ("a.tar.gz", many_members),
    "lying_zip": ("a.zip", lying_zip),
    "lying_bzip2": ("a.zip", lambda path, good: lying_zip(path, good, zipfile.ZIP_BZIP2)),
}
USELESS = {"repeated_value": 16, "repeated_prefix": 12, "large_members": 14, "lying_zip": 2, "lying_bzip2": 2}
USELESS |= {"long_name": 0, "many_members": 0}  # images in them that are none
