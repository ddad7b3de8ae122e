"""Small files that unfold to gigabytes take little memory, and the good images beside them still load."""

import contextlib
import io
import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bombs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from test_load import as_tar, as_zip

from duel.errors import UsageError
from duel.faces import draw_faces, limits, load_faces, pages
from duel.faces.decode import decode_face
from duel.faces.limits import Room
from duel.faces.parallel import in_order

# Resident memory is what counts: of address space, torch and pyarrow reserve any amount. The limit is for the machine's
# sake. One child for all attacks, as it takes seconds to start; each has its own peak.
CHILD = """
import json, resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_DATA, (8 << 30, 8 << 30))
from duel.faces import check_source, load_faces
for line in sys.stdin:
    source, cache = json.loads(line)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    check_source(source)
    about = load_faces(source, 32, 5000, 0, Path(cache), workers=4).manifest
    peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
    found = {"peak": 1024 * peak, "used": about.used, "reasons": [each["reason"] for each in about.skipped]}
    print(json.dumps(found), flush=True)
"""
PEAK = 2_000_000_000  # bytes; 600 MB of it are torch and what else is imported
Outcome = Callable[[Path], dict[str, Any]]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    """Load a source in a process that has 4 threads and little memory."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("peak memory is read from /proc")
    child = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin and child.stdout

    def load(source: Path) -> dict[str, Any]:
        child.stdin.write(json.dumps([str(source), str(tmp_path_factory.mktemp("cache"))]) + "\n")
        child.stdin.flush()
        line = child.stdout.readline()
        assert line, "the process has ended"
        return json.loads(line)

    yield load
    child.stdin.close()
    child.wait()


def chosen(attacks: Iterable[str], *quick: str) -> list[Any]:
    """All of them, those that are not named as slow tests."""
    return [pytest.param(name, marks=[] if name in quick else [pytest.mark.slow]) for name in attacks]


# What is no bomb once it is decoded with care, and what else is said.
REASONS = {
    "one_colour": "",
    "one_colour_see_through": "",
    "deep_grey": "",
    "exif_of_numbers": "",
    "too_many_pixels": "bytes to decode; at most 1,200,000,000",
    "jpeg_of_segments": "pieces of metadata",
    "png_of_chunks": "pieces of metadata",
    "tiff_of_strips": "tags hold more than",
    "tiff_of_one_tile": "bytes to decode",
    "icon": "more than 256x256",
}


@pytest.mark.parametrize("name", chosen(bombs.PICTURES, "png_of_chunks"))
def test_pictures(name: str, encoded: list[bytes], outcome: Outcome, tmp_path: Path) -> None:
    source, data = tmp_path / "faces", bombs.PICTURES[name]()
    source.mkdir()
    for n, good in enumerate(encoded[:210]):
        (source / f"{n:03}.png").write_bytes(good)
    for n in range(3):
        (source / f"bomb{n}.png").write_bytes(data)
    told = outcome(source)
    assert told["peak"] < PEAK
    if REASONS[name]:
        assert told["used"] == 210 and len(told["reasons"]) == 3
        assert all(REASONS[name] in reason for reason in told["reasons"])
    else:
        assert told["used"] == 213


@pytest.mark.parametrize("name", chosen(bombs.ARCHIVES, "lying_zip"))
def test_archives(name: str, encoded: list[bytes], outcome: Outcome, tmp_path: Path) -> None:
    file, make = bombs.ARCHIVES[name]
    make(tmp_path / file, encoded[:210])
    told = outcome(tmp_path / file)
    assert told["peak"] < PEAK and told["used"] == 210
    assert len(told["reasons"]) == bombs.USELESS[name]


def test_an_archive_that_wants_much_memory_as_a_whole(encoded: list[bytes], outcome: Outcome, tmp_path: Path) -> None:
    source = tmp_path / "shards"
    source.mkdir()
    bombs.large_dictionary(source / "a.tar.xz", encoded[:210])
    as_tar(source / "b.tar", {f"{n}.png": data for n, data in enumerate(encoded[:210])})
    told = outcome(source)
    assert told["peak"] < PEAK and told["used"] == 210
    assert told["reasons"] == ["cannot be read as a tar archive: Memory usage limit exceeded"]


@pytest.mark.filterwarnings("ignore")
def test_the_largest_cameras_pictures_are_read(tmp_path: Path) -> None:
    """200 million pixels, as telephones take them; draft mode makes them cheap."""
    file = io.BytesIO()
    Image.new("L", (16_320, 12_240), 90).save(file, "JPEG")
    assert abs(decode_face(file.getvalue(), 32).astype(int) - 90).max() <= 1


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_a_very_large_picture_is_the_same_face(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is averaged down before its mode changes."""
    small = Image.fromarray(draw_faces(1, 64, seed=2)[0].transpose(1, 2, 0)).resize(
        (1010, 900), Image.Resampling.BICUBIC
    )
    if mode == "RGBA":
        small.putalpha(small.convert("L"))
    image = Image.fromarray(np.asarray(small.convert("L")).astype(np.uint16) * 257) if mode == "I;16" else small
    image = image if mode in ("I;16", "RGBA") else image.convert(mode)
    file = io.BytesIO()
    image.save(file, "PNG", **({"transparency": 3} if mode == "P" else {}))
    plain = decode_face(file.getvalue(), 32).astype(int)
    monkeypatch.setattr("duel.faces.decode.REDUCED_ABOVE", 100_000)
    assert np.abs(decode_face(file.getvalue(), 32) - plain).max() <= 3


def test_tables_of_countless_rows_are_refused(encoded: list[bytes], tmp_path: Path) -> None:
    with pq.ParquetWriter(tmp_path / "a.parquet", pa.schema([("image", pa.binary())])) as writer:
        writer.write_table(pa.table({"image": encoded}))
        for _ in range(6):
            writer.write_table(pa.table({"image": pa.nulls(1_000_000, pa.binary())}))
    with pytest.raises(UsageError, match="more than 5,000,000 images"):
        load_faces(str(tmp_path / "a.parquet"), 32, 1000, 0, tmp_path / "cache")


@pytest.mark.parametrize("dictionary", [True, False])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_large_pages_are_not_unpacked(
    version: str, dictionary: bool, encoded: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = [*encoded[:230], bytes(3_000_000)]
    options = {"compression": "zstd", "use_dictionary": dictionary, "data_page_version": version}
    pq.write_table(pa.table({"image": values}), tmp_path / "a.parquet", 230, **options)
    column = pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(1).column(0)
    with (tmp_path / "a.parquet").open("rb") as file:
        assert 3_000_000 <= pages.largest_page(file, column) < 3_000_100
        monkeypatch.setattr(pages, "MAXIMUM_PAGE", 2_999_999)
        with pytest.raises(ValueError, match=r"a page of 3,000,.*row_group_size"):
            pages.largest_page(file, column)
    with pytest.raises(UsageError, match=r"a\.parquet.*a page of 3,000,"):
        load_faces(str(tmp_path / "a.parquet"), 32, 1000, 0, tmp_path / "cache")


def test_headers_of_pages_that_make_no_sense(tmp_path: Path) -> None:
    for data in (b"", b"\x15", b"\xff" * 100, b"\x1c" * 100, b"\x15" + b"\x80" * 30, b"\0", b"\x15\x01\x15\x01\0"):
        reader = pages._Compact(data)
        with contextlib.suppress(ValueError, IndexError):
            assert isinstance(reader.struct(), dict)


def test_a_zips_list_of_members_is_bounded(encoded: list[bytes], tmp_path: Path, monkeypatch) -> None:
    source = as_zip(tmp_path / "a.zip", {f"{n}.png": data for n, data in enumerate(encoded)})
    monkeypatch.setattr("duel.faces.archives.MAXIMUM_DIRECTORY", 5000)
    with pytest.raises(UsageError, match=r"a\.zip.*its list of members has"):
        load_faces(str(source), 32, 1000, 0, tmp_path / "cache")


def test_a_zip_packed_by_another_method_says_so(encoded: list[bytes], tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.png", encoded[0])
    with pytest.raises(UsageError, match="another method"):
        load_faces(str(tmp_path / "a.zip"), 32, 1000, 0, tmp_path / "cache")


def test_room_is_never_more_than_there_is() -> None:
    whole = 100_000_000
    room, inside, most = Room(whole), [], []

    def work(part: float) -> None:
        with room.of(int(part * whole)):
            inside.append(min(part, 1.0))
            most.append(sum(inside))
            time.sleep(0.002)
            inside.remove(min(part, 1.0))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [0.25, 0.5, 0.75, 1.0, 10.0] * 8))
    assert 0.75 < max(most) <= 1 and len(most) == 40


def test_what_waits_is_bounded_by_its_bytes() -> None:
    taken, done = [], []

    def items() -> Iterator[int]:
        for n in range(60):
            taken.append(n)
            yield n

    def work(chunk: list[int]) -> list[int]:
        return chunk

    for result in in_order(work, items(), 32, 2, lambda _: limits.MAXIMUM_ENCODED // 3):
        done.append(result)
        assert len(taken) - len(done) <= 4
    assert done == list(range(60))
