"""Which column of a parquet file the faces are from, and many files as one."""

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from face_files import encode

from duel.errors import UsageError
from duel.faces import Faces, check_source, load_faces
from duel.faces.sources import open_source


@pytest.fixture(scope="module")
def edges(drawn: np.ndarray) -> list[bytes]:
    """Pictures that are no faces, as many as there are faces."""
    return [encode(np.abs(np.diff(face.astype(int), axis=2, prepend=0)).astype(np.uint8), "PNG") for face in drawn]


def load(source: Path, tmp_path: Path, wanted: int = 1000, seed: int = 0) -> Faces:
    return load_faces(str(source), 32, wanted, seed, tmp_path / "cache")


def write(path: Path, columns: dict[str, list[bytes | None]], rows: int = 50) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({name: pa.array(data, pa.binary()) for name, data in columns.items()}), path, rows)
    return path


def refusal(source: Path, tmp_path: Path) -> str:
    with pytest.raises(UsageError) as first:
        check_source(str(source))
    with pytest.raises(UsageError) as second:
        load(source, tmp_path)
    assert str(first.value) == str(second.value) and str(source) in str(first.value)
    return str(first.value)


@pytest.mark.parametrize("order", [("conditioning_image", "image"), ("image", "conditioning_image")])
def test_image_is_preferred_and_named(
    order: tuple[str, str], drawn: np.ndarray, encoded: list[bytes], edges: list[bytes], tmp_path: Path
) -> None:
    columns = {"conditioning_image": edges, "image": encoded}
    faces = load(write(tmp_path / "a.parquet", {name: columns[name] for name in order}), tmp_path)
    assert (faces.images == drawn).all() and faces.manifest.column == "image"
    assert load(tmp_path / "a.parquet", tmp_path).manifest == faces.manifest  # out of the cache too


def test_the_only_column_is_taken_and_named(encoded: list[bytes], tmp_path: Path) -> None:
    no_images: list[bytes | None] = [b"no image"] * 260
    source = write(tmp_path / "a.parquet", {"image": no_images, "embedding": no_images, "photo": encoded})
    assert load(source, tmp_path).manifest.column == "photo"


def test_several_columns_are_refused(encoded: list[bytes], edges: list[bytes], tmp_path: Path) -> None:
    message = refusal(write(tmp_path / "a.parquet", {"mask": edges, "photo": encoded}), tmp_path)
    assert "mask, photo" in message and "'image'" in message


@pytest.mark.parametrize("broken", [1, 8, 50, 200])
@pytest.mark.parametrize("rows", [50, 1000])
def test_broken_first_rows_do_not_hide_a_column(broken: int, rows: int, encoded: list[bytes], tmp_path: Path) -> None:
    for bad in (b"broken", None, b"", encoded[0][:200]):
        source = write(tmp_path / "a.parquet", {"image": [bad] * broken + encoded[:210]}, rows)
        check_source(str(source))
    about = load(source, tmp_path).manifest
    assert (about.used, len(about.skipped), about.column) == (210, broken, "image")


def test_shards_in_a_folder_are_one_source(drawn: np.ndarray, encoded: list[bytes], tmp_path: Path) -> None:
    source = tmp_path / "celeba"
    for n, part in enumerate((encoded[:90], encoded[90:100], encoded[100:])):
        write(source / "data" / f"train-0000{n}-of-00003.parquet", {"image": part}, 40)
    (source / "README.md").write_text("A data set")
    check_source(str(source))
    faces = load(source, tmp_path)
    assert (faces.images == drawn).all()
    assert (faces.manifest.kind, faces.manifest.found, faces.manifest.column) == ("parquet", 260, "image")
    sample = load(source, tmp_path, wanted=230, seed=3)
    whole = load(write(tmp_path / "whole.parquet", {"image": encoded}), tmp_path, wanted=230, seed=3)
    assert sample.manifest.fingerprint == whole.manifest.fingerprint
    names = open_source(str(source)).names
    assert names[89:91] == ["data/train-00000-of-00003.parquet row 89", "data/train-00001-of-00003.parquet row 0"]
    write(source / "data" / "train-00002-of-00003.parquet", {"image": encoded[100:250]}, 40)
    assert load(source, tmp_path).manifest.found == 250


def test_images_come_before_tables_in_a_folder(folder: Path, encoded: list[bytes], tmp_path: Path) -> None:
    write(folder / "more.parquet", {"image": encoded})
    about = load(folder, tmp_path).manifest
    assert (about.kind, about.found, about.ignored, about.column) == ("folder", 230, 3, "")


def test_shards_that_differ_are_named(encoded: list[bytes], tmp_path: Path) -> None:
    source = tmp_path / "shards"
    write(source / "a.parquet", {"image": encoded})
    write(source / "b.parquet", {"photo": encoded})
    message = refusal(source, tmp_path)
    assert "'b.parquet' has the columns photo" in message and "'a.parquet' has image" in message


def test_a_table_beside_the_shards_is_no_shard(encoded: list[bytes], tmp_path: Path) -> None:
    """Captions say, or a split without labels: only the column of images must be the same."""
    source = tmp_path / "shards"
    write(source / "data" / "test-0.parquet", {"image": encoded[:100]})
    write(source / "data" / "train-0.parquet", {"label": [b"a face"] * 160, "image": encoded[100:]})
    pq.write_table(pa.table({"caption": ["a face"] * 260}), source / "captions.parquet")
    about = load(source, tmp_path).manifest
    assert (about.used, about.column) == (260, "image")
    assert about.archives == ["data/test-0.parquet", "data/train-0.parquet"]
    assert about.passed_over == ["captions.parquet: no images"]


def test_shards_of_broken_rows_do_not_hide_the_column(encoded: list[bytes], tmp_path: Path) -> None:
    source = tmp_path / "shards"
    write(source / "a.parquet", {"image": [None] * 20})
    write(source / "b.parquet", {"image": encoded})
    about = load(source, tmp_path).manifest
    assert (about.used, len(about.skipped), about.skipped[0]["name"]) == (260, 20, "a.parquet row 0")


def test_values_are_the_same_however_a_column_is_packed(
    drawn: np.ndarray, encoded: list[bytes], tmp_path: Path
) -> None:
    values = [{"bytes": data, "path": "x" * 1000} for data in encoded]
    for n, (kind, version) in enumerate(itertools.product(["NONE", "snappy", "zstd"], ["1.0", "2.0"])):
        for dictionary in (True, False):
            source = tmp_path / f"{n}{dictionary}.parquet"
            options = {"compression": kind, "data_page_version": version, "use_dictionary": dictionary}
            pq.write_table(pa.table({"image": values}), source, 90, **options)
            assert (load(source, tmp_path).images == drawn).all()
