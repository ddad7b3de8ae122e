"""Pictures whose pixels are all there are read, whatever else is wrong with them; those truly cut are not."""

import io
import struct
import zlib

import numpy as np
import pytest
from face_files import encode
from PIL import Image, PngImagePlugin

from duel.faces import draw_faces
from duel.faces.decode import UnusableImage, decode_face
from duel.faces.mend import mended

FACE = draw_faces(1, 64, seed=11)[0]
JPEGS: dict[str, dict[str, object]] = {
    "plain": {"quality": 95},
    "poor": {"quality": 20},
    "progressive": {"progressive": True},
    "restarts in a row": {"restart_marker_rows": 1},
    "restarts in blocks": {"restart_marker_blocks": 3},
    "full colour": {"subsampling": 0, "optimize": True},
}


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunk(png: bytes, extra: bytes, last: bool = False) -> bytes:
    """An extra chunk after the header, or after the pixels."""
    place = len(png) - 12 if last else 33
    return png[:place] + extra + png[place:]


def odd_pngs() -> dict[str, bytes]:
    png, xmp = encode(FACE, "PNG"), PngImagePlugin.PngInfo()
    xmp.add_text("XML:com.adobe.xmp", "a" * 2_000_000, zip=True)
    profile = chunk(b"iCCP", b"odd\0\0" + zlib.compress(bytes(5_000_000)))
    return {
        "a large profile": encode(FACE, "PNG", icc_profile=bytes(3_000_000)),
        "large XMP": encode(FACE, "PNG", pnginfo=xmp),
        "both, after the pixels": with_chunk(png, profile + chunk(b"zTXt", profile), last=True),
        "a profile of a wrong checksum": with_chunk(png, profile[:-1] + b"!"),
        "an unknown compression": with_chunk(png, chunk(b"iCCP", b"odd\0\7abc")),
        "much text": with_chunk(png, 70 * chunk(b"tEXt", b"a\0" + b"b" * 1_000_000)),
        "a wrong checksum of its EXIF": with_chunk(png, chunk(b"eXIf", b"MM\0*")[:-1] + b"!"),
    }


@pytest.mark.parametrize("name", odd_pngs())
def test_metadata_does_not_spoil_a_png(name: str) -> None:
    assert (decode_face(odd_pngs()[name], 64) == FACE).all()


def test_a_png_without_its_metadata_still_stands_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    png = encode(FACE[:, ::-1, ::-1], "PNG", exif=exif, icc_profile=bytes(3_000_000))
    assert (decode_face(png, 64) == FACE).all()


@pytest.mark.parametrize("part", [0.3, 0.7, 0.95])
def test_a_png_cut_amid_its_pixels_stays_broken(part: float) -> None:
    png = encode(FACE, "PNG", icc_profile=bytes(3_000_000))
    with pytest.raises(UnusableImage):
        decode_face(png[: int(len(png) * part)], 32)
    assert mended(encode(FACE, "PNG"), 10**8) is None


@pytest.mark.parametrize("kind", JPEGS)
def test_a_jpeg_needs_no_end_marker(kind: str) -> None:
    data = encode(FACE, "JPEG", **JPEGS[kind])
    for missing in (data[:-1], data[:-2], data[:-2] + bytes(700)):
        assert (decode_face(missing, 32) == decode_face(data, 32)).all()


@pytest.mark.parametrize("kind", JPEGS)
def test_a_jpeg_cut_amid_its_pixels_stays_broken(kind: str) -> None:
    """Cut at any of many places, just before and after markers too, whatever stands in the place of the rest."""
    data = encode(FACE, "JPEG", **JPEGS[kind])
    whole = np.asarray(Image.open(io.BytesIO(data)))
    markers = [n for n in range(600, len(data) - 2) if data[n] == 255 and data[n + 1] != 0]
    for place in {*range(300, len(data) - 8, 97), *markers[-6:], *(n + 2 for n in markers[-6:]), len(data) - 8}:
        for rest in (b"", bytes(900), b"\xff" * 50, b"<html>502 Bad Gateway</html>" * 90):
            more = mended(data[:place] + rest, 10**8)  # at best the last bits were gone, and they go without saying
            assert more is None or (np.asarray(Image.open(io.BytesIO(more))) == whole).all(), (place, rest[:8])
        if mended(data[:place], 10**8) is None:
            with pytest.raises(UnusableImage):
                decode_face(data[:place], 32)


def test_a_large_jpeg_is_not_mended_blindly() -> None:
    data = encode(FACE, "JPEG")[:-2]
    assert mended(data, 64 * 64) is not None and mended(data, 64 * 64 - 1) is None
    assert (
        mended(data[:20], 10**8) is None and mended(b"\xff\xd8\xff", 10**8) is None and mended(b"GIF89a", 10**8) is None
    )
