"""Every format and mode comes out upright, square, RGB, and the same whichever way it was stored."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from duel.faces.decode import UnusableImage, decode_face, decode_square, resize_squares

SIZE = 32
pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow's, about odd files


def picture(width: int = 96, height: int = 96) -> Image.Image:
    """Red at the top left, green at the top right, blue at the bottom left, white at the bottom right."""
    image = Image.new("RGB", (width, height), (255, 255, 255))
    image.paste((220, 30, 30), (0, 0, width // 2, height // 2))
    image.paste((30, 180, 30), (width // 2, 0, width, height // 2))
    image.paste((30, 30, 220), (0, height // 2, width // 2, height))
    return image


def stored(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def corners(face: np.ndarray) -> list[list[int]]:
    """Colours near the four corners, top left first."""
    return [face[:, y, x].astype(int).tolist() for y in (6, -7) for x in (6, -7)]


EXPECTED = corners(decode_face(stored(picture(), "PNG"), SIZE))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "TGA", "JPEG", "WEBP", "GIF", "JPEG2000", "AVIF"])
def test_every_format_gives_the_same_face(kind: str) -> None:
    face = decode_face(stored(picture(), kind), SIZE)
    assert face.shape == (3, SIZE, SIZE) and face.dtype == np.uint8
    assert np.abs(np.subtract(corners(face), EXPECTED)).max() <= 14


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose that the tag asks the viewer to undo
    image = picture(96, 128)
    if orientation > 1:
        image = image.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    face = decode_face(stored(image, "JPEG", quality=95, exif=exif), SIZE)
    assert np.abs(np.subtract(corners(face), EXPECTED)).max() <= 14


def test_a_broken_exif_block_does_not_matter() -> None:
    face = decode_face(stored(picture(), "JPEG", quality=95, exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff"), SIZE)
    assert np.abs(np.subtract(corners(face), EXPECTED)).max() <= 14


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr", "RGBA", "LA", "I;16", "I", "F", "HSV", "LAB"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    grey = np.asarray(picture().convert("L"))
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    elif mode in ("I", "F"):
        image = Image.fromarray(grey.astype({"I": np.int32, "F": np.float32}[mode]))
    else:
        image = picture().convert("L" if mode == "LA" else "RGB").convert(mode)
    face = (
        decode_face(stored(image, "TIFF"), SIZE)
        if mode != "HSV"
        else decode_face(stored(image.convert("RGB"), "PNG"), SIZE)
    )
    assert face.shape == (3, SIZE, SIZE)
    brightness = np.array(corners(face)).mean(axis=1)
    assert brightness[3] > 240 and brightness[:3].max() < 160


def test_sixteen_bit_grey_keeps_its_scale() -> None:
    half = Image.fromarray(np.full((64, 64), 32896, dtype=np.uint16))
    assert set(np.unique(decode_face(stored(half, "PNG"), SIZE))) == {128}


def test_transparent_pictures_lie_on_white() -> None:
    image = picture().convert("RGBA")
    image.putalpha(0)
    assert decode_face(stored(image, "PNG"), SIZE).min() == 255
    palette = picture().quantize(8, dither=Image.Dither.NONE)
    assert decode_face(stored(palette, "PNG", transparency=palette.getpixel((0, 0))), SIZE)[:, 6, 6].min() == 255


def test_the_first_frame_of_an_animation_counts() -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue", "green")]
    for kind in ("GIF", "WEBP", "PNG"):
        data = stored(frames[0], kind, save_all=True, append_images=frames[1:])
        assert corners(decode_face(data, SIZE))[0][0] > 240


def test_the_middle_of_an_oblong_picture_is_kept() -> None:
    wide = Image.new("RGB", (300, 100), "black")
    wide.paste((255, 255, 255), (100, 0, 200, 100))
    assert decode_face(stored(wide, "PNG"), SIZE).mean() > 250
    assert decode_face(stored(wide.rotate(90, expand=True), "PNG"), SIZE).mean() > 250


def test_resizing_is_antialiased() -> None:
    fine = np.indices((256, 256)).sum(axis=0) % 2 * 255
    face = decode_face(stored(Image.fromarray(fine.astype(np.uint8)), "PNG"), SIZE)
    assert np.abs(face.astype(int) - 127).max() < 12


def test_resizing_gives_the_pixels_of_pillow() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (90, 90, 3), dtype=np.uint8)
    for size in (16, 32, 128):
        expected = Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC)
        difference = decode_face(stored(Image.fromarray(noise), "PNG"), size) - np.asarray(expected, int).transpose(
            2, 0, 1
        )
        assert np.abs(difference).max() <= 2


def test_a_face_does_not_depend_on_its_batch() -> None:
    """Squares of different sides, some to be made larger, some several times too large."""
    files = [stored(picture(side, side + 7), "PNG") for side in (20, 96, 300, 32, 96)]
    together = resize_squares([decode_square(data, SIZE) for data in files], SIZE)
    assert (together == np.stack([decode_face(data, SIZE) for data in files])).all()
    assert resize_squares([], SIZE).shape == (0, 3, SIZE, SIZE)


def test_draft_mode_stays_close_to_a_full_decode() -> None:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).resize((1024, 768))
    data = stored(noise, "JPEG", quality=95)
    whole = Image.open(io.BytesIO(data)).resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=(128, 0, 896, 768))
    difference = decode_face(data, SIZE).astype(int) - np.asarray(whole).transpose(2, 0, 1)
    assert np.abs(difference).mean() < 1.5


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello, I am a text", "not an image"),
        (stored(Image.new("RGB", (1, 1)), "PNG"), "1x1 pixels"),
        (stored(Image.new("RGB", (400, 15)), "PNG"), "400x15 pixels"),
        (stored(picture(), "JPEG")[:-300], "broken image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n", "not an image"),
    ],
)
def test_what_cannot_be_used_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(UnusableImage, match=reason):
        decode_face(data, SIZE)


@pytest.mark.parametrize("side", [10_001, 40_000, 2_000_000_000])
def test_a_huge_header_costs_nothing(side: int) -> None:
    data = bytearray(stored(picture(), "PNG"))
    data[16:24] = side.to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    with pytest.raises(UnusableImage):
        decode_face(bytes(data), SIZE)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_turned_once(orientation: int, compression: str | None) -> None:
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # as above
    image = picture(96, 128) if orientation == 1 else picture(96, 128).transpose(Image.Transpose(undo[orientation]))
    face = decode_face(stored(image, "TIFF", tiffinfo={274: orientation}, compression=compression), SIZE)
    assert np.abs(np.subtract(corners(face), EXPECTED)).max() <= 14


GREY = np.asarray(picture().convert("L")).astype(np.int64)


def tiff(pixels: np.ndarray, bits: int, sample_format: int, photometric: int = 1, samples: int = 1) -> bytes:
    """A plain TIFF of 96 x 96 pixels, as its tags say; Pillow cannot write all of these."""
    order, data = (">" if pixels.dtype.byteorder == ">" else "<"), pixels.tobytes()
    tags = {256: 96, 257: 96, 258: bits, 259: 1, 262: photometric, 273: 8, 277: samples, 278: 96, 279: len(data)}
    tags |= {338: 1} if samples > 1 else {}
    tags |= {339: sample_format}
    entries = [
        struct.pack(f"{order}HHI", tag, 4, 1) + struct.pack(f"{order}I", value)
        if tag in (273, 279)
        else struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0)
        for tag, value in tags.items()
    ]
    head = (b"MM\0*" if order == ">" else b"II*\0") + struct.pack(f"{order}I", 8 + len(data))
    return head + data + struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)


def twelve_bits(values: np.ndarray) -> np.ndarray:
    first, second = values.reshape(-1, 2).T
    return np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=1).astype(np.uint8)


DEEP = {
    "16 bits": lambda: tiff((GREY * 257).astype("<u2"), 16, 1),
    "16 bits, big end first": lambda: tiff((GREY * 257).astype(">u2"), 16, 1),
    "16 bits, white is zero": lambda: tiff((65535 - GREY * 257).astype("<u2"), 16, 1, 0),
    "8 bits, white is zero": lambda: tiff((255 - GREY).astype("u1"), 8, 1, 0),
    "12 bits": lambda: tiff(twelve_bits(GREY * 4095 // 255), 12, 1),
    "signed 16 bits": lambda: tiff((GREY * 32767 // 255).astype("<i2"), 16, 2),
    "signed 16 bits up to 255": lambda: tiff(GREY.astype("<i2"), 16, 2),
    "signed 32 bits up to 255": lambda: tiff(GREY.astype("<i4"), 32, 2),
    "signed 32 bits up to 255, big end first": lambda: tiff(GREY.astype(">i4"), 32, 2),
    "signed 32 bits up to 65535": lambda: tiff((GREY * 257).astype("<i4"), 32, 2),
    "floats up to 1": lambda: tiff((GREY / 255).astype("<f4"), 32, 3),
    "floats up to 255": lambda: tiff(GREY.astype("<f4"), 32, 3),
    "floats, white is zero": lambda: tiff((1 - GREY / 255).astype("<f4"), 32, 3, 0),
    "PGM of 16 bits": lambda: b"P5 96 96 65535\n" + (GREY * 257).astype(">u2").tobytes(),
    "PGM of 12 bits": lambda: b"P5 96 96 4095\n" + (GREY * 4095 // 255).astype(">u2").tobytes(),
    "PFM": lambda: b"Pf\n96 96\n-1.0\n" + (GREY[::-1] / 255).astype("<f4").tobytes(),
    "PNG of 16 bits": lambda: stored(Image.fromarray((GREY * 257).astype(np.uint16)), "PNG"),
    "JPEG 2000 of 16 bits": lambda: stored(Image.fromarray((GREY * 257).astype(np.uint16)), "JPEG2000"),
}


@pytest.mark.parametrize("kind", DEEP)
def test_deep_grey_comes_out_as_the_same_in_8_bits(kind: str) -> None:
    expected = decode_face(stored(picture().convert("L"), "PNG"), SIZE)
    assert np.abs(decode_face(DEEP[kind](), SIZE).astype(int) - expected).max() <= 2


def test_grey_without_a_scale_fills_its_range() -> None:
    for pixels, sample_format in [(GREY * 16_843_009, 1), (GREY * 1e6, 3), (GREY - 1000, 2)]:
        kind = {1: "<u4", 2: "<i4", 3: "<f4"}[sample_format]
        face = decode_face(tiff(pixels.astype(kind), 32, sample_format), SIZE)
        assert face[:, -7, -7].min() == 255 and face[:, -7, 6].max() == 0


def test_dark_floats_stay_dark() -> None:
    assert 100 <= decode_face(tiff((GREY / 600).astype("<f4"), 32, 3), SIZE).max() <= 112


def test_sixteen_bit_and_premultiplied_grey_may_be_transparent() -> None:
    data = stored(Image.fromarray((GREY * 257).astype(np.uint16)), "PNG", transparency=int(GREY[10, 10]) * 257)
    assert [corner[0] for corner in corners(decode_face(data, SIZE))] == pytest.approx([255, 118, 52, 255], abs=2)
    alpha = np.where(np.arange(96)[:, None] < 48, 0, 255) + 0 * GREY
    pixels = np.stack([GREY * alpha // 255, alpha], axis=2).astype(np.uint8)
    entry = bytearray(tiff(pixels, 8, 1, samples=2))
    assert [corner[0] for corner in corners(decode_face(bytes(entry), SIZE))] == pytest.approx(
        [255, 255, 52, 255], abs=2
    )


@pytest.mark.parametrize("mode", ["LAB", "YCbCr", "CMYK"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "jpeg"])
def test_colour_spaces_of_tiff_keep_the_colours(mode: str, compression: str | None) -> None:
    if mode == "LAB" and compression == "jpeg":
        pytest.skip("libtiff writes none")
    face = decode_face(stored(picture().convert(mode), "TIFF", compression=compression), SIZE)
    assert np.abs(np.subtract(corners(face), EXPECTED)).max() <= 14
