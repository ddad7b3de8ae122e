"""Broken inputs end as a face, a listed skip or a UsageError that names the source: never otherwise."""

import functools
import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from face_files import encode
from PIL import Image

from duel.errors import UsageError
from duel.faces import check_source, draw_faces, load_faces
from duel.faces.decode import UnusableImage, decode_face

KINDS = ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000"]


@functools.cache
def image(kind: str) -> bytes:
    return encode(draw_faces(1, 64, seed=8)[0], kind)


def truncated(kind: str, part: float) -> bytes:
    return image(kind)[: int(part * len(image(kind)))]


def flipped(kind: str, seed: int) -> bytes:
    """Ten bits of the first 200 bytes flipped, the magic number spared."""
    data, rng = bytearray(image(kind)), np.random.default_rng(seed)
    for place in rng.integers(12, min(200, len(data)), 10):
        data[place] ^= 1 << int(rng.integers(8))
    return bytes(data)


def noise(seed: int) -> bytes:
    """A right beginning and then anything."""
    rng = np.random.default_rng(seed)
    return image(KINDS[seed % len(KINDS)])[:32] + rng.bytes(int(rng.integers(1, 3000)))


def odd_size(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "PNG")
    return file.getvalue()


BROKEN: dict[str, Callable[[], bytes]] = {
    "zero bytes": lambda: b"",
    "text": lambda: b"To whom it may concern: this is no picture.",
    "html": lambda: b"<html><body>404 Not Found</body></html>" * 40,
    "svg": lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="99" height="99"/>',
    "postscript": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\nshowpage\n",
    "git-lfs pointer": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n",
    "nul bytes": lambda: bytes(5000),
    **{f"{w}x{h}": functools.partial(odd_size, w, h) for w, h in [(1, 1), (1, 500), (500, 1), (15, 15), (16, 9000)]},
    **{
        f"{kind} cut at {part}": functools.partial(truncated, kind, part)
        for kind in KINDS
        for part in (0.005, 0.03, 0.1, 0.3, 0.6, 0.9, 0.99)
    },
    **{f"{kind} flipped {n}": functools.partial(flipped, kind, n) for kind in KINDS for n in range(8)},
    **{f"noise {n}": functools.partial(noise, n) for n in range(24)},
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.filterwarnings("ignore")
def test_a_broken_image_decodes_or_says_why(name: str) -> None:
    try:
        face = decode_face(BROKEN[name](), 32)
    except UnusableImage as reason:
        assert 5 < len(str(reason)) < 250
    else:
        assert face.shape == (3, 32, 32) and face.dtype == np.uint8


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "parquet"])
def test_all_broken_images_in_one_source(kind: str, encoded: list[bytes], tmp_path: Path) -> None:
    """Among 210 good ones each broken image is used or listed, and nothing gets in the way."""
    files = {f"{number:03}.jpg": make() for number, make in enumerate(BROKEN.values())}
    files |= {f"good{number:03}.png": data for number, data in enumerate(encoded[:210])}
    source = pack(kind, tmp_path, files)
    check_source(str(source))
    about = load_faces(str(source), 32, 5000, 0, tmp_path / "cache").manifest
    assert about.found == len(files) and about.used + len(about.skipped) == about.found
    assert about.used >= 210 and len(about.skipped) > 60
    assert all(item["name"] and item["reason"] for item in about.skipped)


def pack(kind: str, tmp_path: Path, files: dict[str, bytes]) -> Path:
    path = tmp_path / f"source.{kind}"
    if kind == "folder":
        path.mkdir()
        for name, data in files.items():
            (path / name).write_bytes(data)
    elif kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    elif kind == "tar":
        with tarfile.open(path, "w") as archive:
            for name, data in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    else:  # good ones first: a column is known by its first few values
        good_first = sorted(files.items(), reverse=True)
        pq.write_table(pa.table({"image": [data for _, data in good_first]}), path, row_group_size=64)
    return path


def spoiled(kind: str, how: str, tmp_path: Path, encoded: list[bytes]) -> Path:
    path = pack(kind, tmp_path, {f"{number:03}.png": data for number, data in enumerate(encoded[:205])})
    data, rng = bytearray(path.read_bytes()), np.random.default_rng(len(how))
    if how.startswith("cut"):
        data = data[: int(float(how.split()[1]) * len(data))]
    elif how == "text":
        data = bytearray(b"I am no archive.")
    elif how.startswith("bits"):
        rng = np.random.default_rng(int(how.split()[1]))
        for place in rng.integers(0, len(data), 300):
            data[place] ^= 1 << int(rng.integers(8))
    elif how.startswith("end"):
        rng = np.random.default_rng(int(how.split()[1]))
        for place in rng.integers(max(0, len(data) - 400), len(data), 8):
            data[place] ^= 1 << int(rng.integers(8))
    elif how == "empty":
        data = bytearray()
    path.write_bytes(data)
    return path


HOW = [
    "empty",
    "text",
    "cut 0.01",
    "cut 0.5",
    "cut 0.97",
    *(f"bits {n}" for n in range(6)),
    *(f"end {n}" for n in range(5)),
]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("kind", ["zip", "tar", "parquet"])
def test_spoiled_archives(kind: str, how: str, encoded: list[bytes], tmp_path: Path) -> None:
    source = spoiled(kind, how, tmp_path, encoded)
    for attempt in (
        check_source,
        functools.partial(load_faces, image_size=16, wanted=999, seed=0, cache_dir=tmp_path / "c"),
    ):
        try:
            attempt(str(source))
        except UsageError as error:
            assert source.name in str(error)


@pytest.mark.parametrize("seed", range(4))
def test_spoiled_gzip(seed: int, encoded: list[bytes], tmp_path: Path) -> None:
    source = tmp_path / "a.tar.gz"
    with tarfile.open(source, "w:gz") as archive:
        for number, data in enumerate(encoded[:205]):
            member = tarfile.TarInfo(f"{number}.png")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    data = bytearray(source.read_bytes())
    data[len(data) * (seed + 1) // 6] ^= 255
    source.write_bytes(data[: len(data) - 40 * seed])
    with pytest.raises(UsageError, match=r"a\.tar\.gz"):
        load_faces(str(source), 16, 999, 0, tmp_path / "c")


def bad_sources(tmp_path: Path) -> dict[str, tuple[Path | str, str]]:
    """Name -> (source, what its error must say)."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts" / "deep").mkdir(parents=True)
    (tmp_path / "texts" / "deep" / "a.txt").write_text("a")
    (tmp_path / "faces.rar").write_bytes(b"Rar!")
    (tmp_path / "one.jpg").write_bytes(image("JPEG"))
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "round").symlink_to(tmp_path / "round")
    os.mkfifo(tmp_path / "pipe.zip")
    (tmp_path / "folder.zip").mkdir()
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as archive:
        archive.writestr("readme.md", "nothing here")
    with tarfile.open(tmp_path / "none.tar", "w"):
        pass
    locked = bytearray((tmp_path / "none.zip").read_bytes().replace(b"readme.md", b"image.png"))
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.index(magic) + offset] |= 1
    (tmp_path / "locked.zip").write_bytes(locked)
    pq.write_table(pa.table({"id": [1, 2], "text": ["a", "b"], "blob": [b"x", None]}), tmp_path / "texts.parquet")
    pq.write_table(pa.table({"image": pa.array([], pa.binary())}), tmp_path / "no_rows.parquet")
    return {
        "empty name": ("", "allowed"),
        "missing": (tmp_path / "not" / "there", "No such file"),
        "nul in the name": ("a\0b", "null"),
        "name too long": ("x" * 5000, "too long"),
        "unknown kind": (tmp_path / "faces.rar", "unknown kind"),
        "one image": (tmp_path / "one.jpg", "unknown kind"),
        "empty folder": (tmp_path / "empty", "found no images"),
        "only text": (tmp_path / "texts", "1 .txt"),
        "dangling link": (tmp_path / "gone", "No such file"),
        "link to itself": (tmp_path / "round", "symbolic links"),
        "pipe": (tmp_path / "pipe.zip", "neither a file nor a folder"),
        "folder called zip": (tmp_path / "folder.zip", "found no images"),
        "zip without images": (tmp_path / "none.zip", "1 .md"),
        "tar without members": (tmp_path / "none.tar", "found no images"),
        "encrypted zip": (tmp_path / "locked.zip", "encrypted"),
        "parquet without images": (tmp_path / "texts.parquet", "blob (binary)"),
        "parquet without rows": (tmp_path / "no_rows.parquet", "rows: 0"),
        "device": ("/dev/null", "neither a file nor a folder"),
        "under a file": (tmp_path / "one.jpg" / "deeper", "Not a directory"),
    }


def test_bad_sources_are_found_before_any_work(tmp_path: Path) -> None:
    for name, (source, expected) in bad_sources(tmp_path).items():
        for attempt in (check_source, lambda text: load_faces(text, 16, 999, 0, tmp_path / "c")):
            with pytest.raises(UsageError) as error:
                attempt(str(source))
            assert expected in str(error.value) and "--faces" in str(error.value), (name, str(error.value))
    assert not list((tmp_path / "c").glob("*")) if (tmp_path / "c").exists() else True


def test_there_are_enough_broken_inputs() -> None:
    assert len(BROKEN) + 3 * len(HOW) + 4 + 19 >= 200
