import io
from pathlib import Path

import numpy as np
import pytest
from face_files import encode
from PIL import Image, ImageEnhance

from duel.faces import draw_faces, load_faces
from duel.faces.decode import decode_face
from duel.faces.duplicates import find_groups


def large(face: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(face.transpose(1, 2, 0)))


def bytes_of(image: Image.Image, quality: int = 92) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


COPIES = {
    "the same bytes": lambda image: bytes_of(image),
    "poorer JPEG": lambda image: bytes_of(image, 45),
    "smaller": lambda image: bytes_of(image.resize((97, 97), Image.Resampling.BICUBIC)),
    "cropped by a little": lambda image: bytes_of(image.crop((2, 2, 126, 126))),
    "moved by two pixels": lambda image: bytes_of(image.crop((2, 0, 128, 126))),
    "brighter": lambda image: bytes_of(ImageEnhance.Brightness(image).enhance(1.15)),
    "black and white": lambda image: bytes_of(image.convert("L")),
    "mirrored": lambda image: bytes_of(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
}

HARDER = ("cropped by a little", "moved by two pixels", "black and white")


@pytest.fixture(scope="module")
def originals() -> np.ndarray:
    return draw_faces(160, 128, seed=21)


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("change", COPIES)
def test_copies_are_found_and_others_left_alone(originals: np.ndarray, change: str, size: int) -> None:
    first = [decode_face(bytes_of(large(face)), size) for face in originals]
    copies = [decode_face(COPIES[change](large(face)), size) for face in originals]
    groups = find_groups(np.stack(first + copies))
    assert len(np.unique(groups[:160])) == 160
    missed = (groups[160:] != groups[:160]).sum()
    assert missed <= (16 if change in HARDER else 1), f"{missed} of 160 missed"


def test_groups_are_numbered_in_order_and_chain() -> None:
    faces = draw_faces(6, 64, seed=1)
    assert find_groups(faces[[0, 1, 0, 2, 1, 0]]).tolist() == [0, 1, 0, 2, 1, 0]


def test_few_and_plain_pictures() -> None:
    assert find_groups(np.zeros((0, 3, 32, 32), dtype=np.uint8)).tolist() == []
    assert find_groups(np.zeros((1, 3, 32, 32), dtype=np.uint8)).tolist() == [0]
    plain = np.zeros((4, 3, 16, 16), dtype=np.uint8)
    plain[1] += 200
    assert find_groups(plain).tolist() == [0, 1, 0, 0]


def test_many_copies_of_one_picture() -> None:
    faces = draw_faces(3, 32, seed=1)
    rng = np.random.default_rng(0)
    noisy = np.clip(faces[0] + rng.normal(0, 2, (1500, 3, 32, 32)), 0, 255).astype(np.uint8)
    groups = find_groups(np.concatenate([faces, noisy]))
    assert len(np.unique(groups[3:])) == 1 and groups.max() == 2


@pytest.mark.slow
def test_duplicates_in_utkface(utkface: Path, tmp_path: Path) -> None:
    faces = load_faces(str(utkface), 32, 20_000, seed=0, cache_dir=tmp_path / "cache")
    assert (faces.manifest.found, faces.manifest.used, faces.manifest.skipped) == (20_000, 20_000, [])
    contents = np.unique([face.tobytes() for face in faces.images], return_inverse=True)[1]
    assert (np.bincount(contents) > 1).sum() == 272  # groups of equal files
    assert 700 <= faces.manifest.duplicates <= 820
    assert np.bincount(faces.groups).max() <= 6  # no chain through faces that are merely alike
    for content in np.nonzero(np.bincount(contents) > 1)[0]:
        assert len(np.unique(faces.groups[contents == content])) == 1


def test_encode_gives_readable_files(drawn: np.ndarray) -> None:
    assert decode_face(encode(drawn[0]), 32).shape == (3, 32, 32)
