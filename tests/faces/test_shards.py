"""Archives in a folder, as people have them: webdataset's tars, CelebA's zip, splits, and what lies beside them."""

import errno
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from test_load import as_parquet, as_tar, as_zip, files

from duel.errors import UsageError
from duel.faces import Faces, check_source, load_faces
from duel.faces.archives import TarSource
from duel.faces.base import BrokenArchive
from duel.faces.sources import open_source

MAKERS = {"zip": as_zip, "tar": as_tar, "parquet": as_parquet}


def load(source: Path, tmp_path: Path, wanted: int = 1000, seed: int = 0) -> Faces:
    check_source(str(source))
    return load_faces(str(source), 32, wanted, seed, tmp_path / "cache")


def webdataset(folder: Path, encoded: list[bytes], shards: int = 3) -> Path:
    """Samples of an image, a caption and a description each, as img2dataset writes them."""
    folder.mkdir()
    for shard, part in enumerate(np.array_split(np.arange(len(encoded)), shards)):
        members: dict[str, bytes] = {}
        for n in part:
            key = f"{shard:05}{n:04}"
            members |= {f"{key}.json": b"{}", f"{key}.png": encoded[n], f"{key}.txt": b"a face"}
        as_tar(folder / f"{shard:05}.tar", members)
        (folder / f"{shard:05}_stats.json").write_text("{}")
    return folder


def test_a_folder_of_tar_shards(drawn: np.ndarray, encoded: list[bytes], tmp_path: Path) -> None:
    source = webdataset(tmp_path / "wds", encoded)
    faces = load(source, tmp_path)
    about = faces.manifest
    assert (faces.images == drawn).all()
    assert (about.kind, about.found, about.used, about.ignored) == ("tar", 260, 260, 3 + 2 * 260)
    assert about.archives == ["00000.tar", "00001.tar", "00002.tar"] and about.passed_over == []
    assert open_source(str(source)).names[0] == "00000.tar/000000000.png"
    sample = load(source, tmp_path, wanted=230, seed=3).images
    known = {face.tobytes(): n for n, face in enumerate(drawn)}
    places = [known[face.tobytes()] for face in sample]
    assert places == sorted(places) and len(set(places)) == 230


@pytest.mark.parametrize("kind", MAKERS)
def test_one_archive_in_a_folder_is_as_the_archive(kind: str, folder: Path, tmp_path: Path) -> None:
    plain = load(folder, tmp_path).manifest.fingerprint
    source = tmp_path / "download" / "deep"
    source.mkdir(parents=True)
    MAKERS[kind](source / f"faces.{kind}", files(folder))
    about = load(tmp_path / "download", tmp_path).manifest
    assert (about.kind, about.fingerprint, about.archives) == (kind, plain, [f"deep/faces.{kind}"])


def celeba(root: Path) -> None:
    (root / "Anno").mkdir(parents=True)
    (root / "Eval").mkdir()
    (root / "Img").mkdir()
    (root / "Anno" / "list_attr_celeba.txt").write_text("202599\n5_o_Clock_Shadow Arched_Eyebrows\n")
    (root / "Eval" / "list_eval_partition.txt").write_text("000001.jpg 0\n")


@pytest.mark.parametrize("how", ["zip", "folder", "both"])
def test_celeba(how: str, folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "CelebA"
    celeba(root)
    images = {f"img_align_celeba/{n:06}.png": data for n, data in enumerate(files(folder).values())}
    if how != "folder":
        as_zip(root / "Img" / "img_align_celeba.zip", images)
    if how != "zip":
        for name, data in images.items():
            (root / "Img" / name).parent.mkdir(exist_ok=True)
            (root / "Img" / name).write_bytes(data)
    about = load(root, tmp_path).manifest
    assert (about.kind, about.used) == ("zip" if how == "zip" else "folder", 230)
    assert about.archives == (["Img/img_align_celeba.zip"] if how == "zip" else [])
    told = ["Img/img_align_celeba.zip: the images beside it are used"]
    assert about.passed_over == (told if how == "both" else [])
    assert about.ignored == (3 if how == "both" else 2)


def test_a_few_stray_images_are_no_set_of_faces(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "repository"
    (source / "assets").mkdir(parents=True)
    as_parquet(source / "train-00000-of-00001.parquet", files(folder))
    shutil.copy(folder / "001.png", source / "assets" / "logo.png")
    about = load(source, tmp_path).manifest
    assert (about.kind, about.used) == ("parquet", 230)
    assert about.passed_over == ["assets/logo.png: the parquet files beside it are used"]


def test_archives_without_images_are_passed_over(folder: Path, tmp_path: Path) -> None:
    """Of several kinds the first with images is read: parquet, tar, zip."""
    source = tmp_path / "several"
    source.mkdir()
    as_tar(source / "labels.tar", {"labels.txt": b"a face"})
    as_zip(source / "b.zip", files(folder))
    as_zip(source / "a.zip", {"readme.md": b"no image"})
    about = load(source, tmp_path).manifest
    assert (about.kind, about.archives, about.used) == ("zip", ["b.zip"], 230)
    assert sorted(about.passed_over) == ["a.zip: no images", "labels.tar: no images"]
    as_tar(source / "c.tar", files(folder))
    about = load(source, tmp_path).manifest
    assert (about.kind, about.archives) == ("tar", ["c.tar"])
    assert "b.zip: the tar files beside it are used" in about.passed_over


def test_every_split_is_read(encoded: list[bytes], drawn: np.ndarray, tmp_path: Path) -> None:
    """duel makes its own partitions: those of a data set's makers are only names."""
    source = tmp_path / "data"
    source.mkdir()
    for name, part in {"test": encoded[:50], "train": encoded[50:200], "validation": encoded[200:]}.items():
        as_tar(source / f"{name}-00000.tar", {f"{n}.png": data for n, data in enumerate(part)})
    faces = load(source, tmp_path)
    assert (faces.images == drawn).all() and len(faces.manifest.archives) == 3


def test_the_order_is_the_names(encoded: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = webdataset(tmp_path / "wds", encoded)
    first = load(source, tmp_path).manifest, list(open_source(str(source)).names)
    plain = os.scandir

    class Turned:
        """Lists a folder the other way round."""

        def __init__(self, path: Path) -> None:
            self.found = sorted(plain(path), key=lambda each: each.name, reverse=True)

        def __enter__(self) -> list[os.DirEntry[str]]:
            return self.found

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr("duel.faces.folder.os.scandir", Turned)
    again = load_faces(str(source), 32, 1000, 0, tmp_path / "other").manifest
    assert (again, list(open_source(str(source)).names)) == first


SPOILS: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "text": lambda data: b"404 Not Found",
}


@pytest.mark.parametrize("how", SPOILS)
@pytest.mark.parametrize("kind", MAKERS)
def test_a_broken_shard_is_named_and_the_others_read(
    kind: str, how: str, encoded: list[bytes], drawn: np.ndarray, tmp_path: Path
) -> None:
    source = tmp_path / "shards"
    source.mkdir()
    for n, part in enumerate((encoded[:20], encoded[20:])):
        MAKERS[kind](source / f"{n}.{kind}", {f"{m:03}.png": data for m, data in enumerate(part)})
    broken = source / f"0.{kind}"
    broken.write_bytes(SPOILS[how](broken.read_bytes()))
    faces = load(source, tmp_path)
    assert (faces.images == drawn[20:]).all()
    (told,) = faces.manifest.skipped
    assert told["name"] == f"0.{kind}" and told["reason"].startswith("cannot be read as") and len(told["reason"]) < 250
    assert faces.manifest.archives == [f"1.{kind}"]
    (source / f"1.{kind}").unlink()
    with pytest.raises(UsageError, match=rf"0\.{kind}"):
        load(source, tmp_path)


def test_a_break_in_the_middle_of_a_table(encoded: list[bytes], tmp_path: Path) -> None:
    source = tmp_path / "shards"
    source.mkdir()
    for n, part in enumerate((encoded[:60], encoded[60:])):
        as_parquet(source / f"{n}.parquet", {f"{m:03}.png": data for m, data in enumerate(part)})
    about = pq.ParquetFile(source / "0.parquet").metadata.row_group(1).column(2)
    data = bytearray((source / "0.parquet").read_bytes())
    data[about.dictionary_page_offset : about.dictionary_page_offset + 40] = b"\xff" * 40
    (source / "0.parquet").write_bytes(data)
    about = load(source, tmp_path).manifest
    assert (about.found, about.used) == (260, 250)
    assert [item["name"] for item in about.skipped] == [f"0.parquet row {n}" for n in range(50, 60)]


def test_shards_that_are_no_files(encoded: list[bytes], tmp_path: Path) -> None:
    source = webdataset(tmp_path / "wds", encoded)
    os.mkfifo(source / "pipe.tar")
    (source / "gone.tar").symlink_to("nowhere.tar")
    (source / "self.tar").symlink_to("self.tar")
    (source / ".hidden.tar").write_bytes(b"")
    (source / "elsewhere.tar").symlink_to(shutil.copy(source / "00000.tar", tmp_path / "other.tar"))
    about = load(source, tmp_path).manifest
    assert about.used == 260 + 87 and about.duplicates == 87
    assert {item["name"] for item in about.skipped} == {"pipe.tar", "gone.tar", "self.tar"}


def test_a_shard_that_cannot_be_read_just_now_is_refused(
    encoded: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Skipped, it would be missing from the cache's entry also when all is well again."""
    source = webdataset(tmp_path / "wds", encoded)
    plain = TarSource._files

    def failing(self: TarSource):
        if self.path.name == "00001.tar":
            raise BrokenArchive(self.path, "a tar archive", OSError(errno.EIO, "Input/output error"))
        return plain(self)

    with monkeypatch.context() as patch:
        patch.setattr(TarSource, "_files", failing)
        with pytest.raises(UsageError, match=r"00001\.tar.*Input/output error"):
            load(source, tmp_path)
    assert load(source, tmp_path).manifest.used == 260


def test_the_cache_knows_the_shards(encoded: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = webdataset(tmp_path / "wds", encoded)
    first = load(source, tmp_path, 170).manifest
    with monkeypatch.context() as patch:
        patch.setattr(TarSource, "names", None)  # not listed again
        assert load(source, tmp_path, 170).manifest == first
    (source / "00002.tar").unlink()
    assert (first.found, load(source, tmp_path, 170).manifest.found) == (260, 174)


def test_archives_in_archives_are_only_files(folder: Path, tmp_path: Path) -> None:
    inner = as_zip(tmp_path / "inner.zip", files(folder)).read_bytes()
    outer = as_zip(tmp_path / "outer.zip", {"inner.zip": inner})
    with pytest.raises(UsageError, match=r"found no images.*1 \.zip"):
        check_source(str(outer))


def test_links_to_folders_are_followed_once(folder: Path, tmp_path: Path) -> None:
    """Photographs are often linked, from within the folder and from elsewhere."""
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "a").symlink_to(folder)
    (linked / "b").symlink_to(folder)
    (linked / "loop").symlink_to(linked)
    assert load(linked, tmp_path).manifest.found == 230


def test_a_very_deep_folder_is_told(folder: Path, tmp_path: Path) -> None:
    here = os.getcwd()
    try:
        os.chdir(folder)
        for _ in range(30):
            os.mkdir("d" * 200)
            os.chdir("d" * 200)
        shutil.copy(folder / "001.png", "deep.png")
    finally:
        os.chdir(here)
    about = load(folder, tmp_path).manifest
    assert about.used == 230 and "File name too long" in about.skipped[0]["reason"]


def test_sparse_and_linked_members_of_a_tar(encoded: list[bytes], tmp_path: Path) -> None:
    path = as_tar(tmp_path / "a.tar", {f"{n}.png": data for n, data in enumerate(encoded)})
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("linked.png")
        link.type, link.linkname = tarfile.LNKTYPE, "0.png"
        archive.addfile(link)
    assert load(path, tmp_path).manifest.found == 260
