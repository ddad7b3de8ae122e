"""Every format and mode comes out upright, square, RGB, and the same whichever way it was stored."""

import io
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
    if mode != "I":  # 32-bit integers up to 255 are read on the scale of 16 bits
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
