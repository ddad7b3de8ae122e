"""Every kind of source gives the same faces; the cache is used when it may be, and rebuilt when not."""

import io
import json
import multiprocessing
import os
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from duel.errors import DuelError, UsageError
from duel.faces import MINIMUM_FACES, Faces, check_source, load_faces

Entries = Callable[[], list[Path]]


def load(
    source: Path | str, tmp_path: Path, wanted: int = 1000, seed: int = 0, size: int = 32, **more: object
) -> Faces:
    return load_faces(str(source), size, wanted, seed, tmp_path / "cache", **more)


def as_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def as_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def as_parquet(path: Path, files: dict[str, bytes], struct: bool = False) -> Path:
    values = [{"bytes": data, "path": name} for name, data in files.items()] if struct else list(files.values())
    labels = pa.array([str(i) for i in range(len(files))])
    blobs = pa.array([b"no image at all"] * len(files))
    pq.write_table(pa.table({"label": labels, "blob": blobs, "image": values}), path, row_group_size=50)
    return path


def files(folder: Path) -> dict[str, bytes]:
    found = sorted(folder.rglob("*.png"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if not path.name.startswith(".")}


def test_a_folder(folder: Path, tmp_path: Path) -> None:
    (folder / "broken.jpg").write_bytes(b"not a picture")
    check_source(str(folder))
    seen: list[tuple[int, int]] = []
    faces = load(folder, tmp_path, on_progress=lambda done, total: seen.append((done, total)))
    about = faces.manifest
    assert faces.images.shape == (230, 3, 32, 32) and faces.images.dtype == np.uint8
    assert not faces.images.flags.writeable
    assert faces.groups.tolist() == list(range(230)) and faces.groups.dtype == np.int64
    assert (about.kind, about.found, about.used, about.duplicates, about.ignored) == (
        "folder",
        231,
        230,
        0,
        2,
    )
    assert [item["name"] for item in about.skipped] == ["broken.jpg"]
    assert about.source == str(folder) and about.image_size == 32 and len(about.fingerprint) == 64
    assert seen[-1] == (231, 231) and seen == sorted(seen)
    json.dumps(about.as_dict())


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("a.zip", as_zip),
        ("A.ZIP", as_zip),
        ("a.tar", as_tar),
        ("a.tar.gz", lambda path, files: as_tar(path, files, "w:gz")),
        ("a.tgz", lambda path, files: as_tar(path, files, "w:gz")),
        ("a.tar.xz", lambda path, files: as_tar(path, files, "w:xz")),
        ("a.tar.bz2", lambda path, files: as_tar(path, files, "w:bz2")),
        ("a.parquet", as_parquet),
        ("b.parquet", lambda path, files: as_parquet(path, files, struct=True)),
    ],
)
def test_every_source_gives_the_same_faces(
    name: str, make: Callable[[Path, dict[str, bytes]], Path], folder: Path, tmp_path: Path
) -> None:
    plain = load(folder, tmp_path)
    source = make(tmp_path / name, files(folder))
    check_source(str(source))
    packed = load(source, tmp_path)
    assert packed.manifest.fingerprint == plain.manifest.fingerprint
    assert (packed.images == plain.images).all()
    sample = load(source, tmp_path, wanted=70, seed=4)
    known = {face.tobytes() for face in plain.images}
    assert len(sample.images) == 70 and all(face.tobytes() in known for face in sample.images)
    assert sample.manifest.used < sample.manifest.found == 230


def test_drawn_faces(tmp_path: Path) -> None:
    check_source("drawn")
    faces = load("drawn", tmp_path, wanted=70)
    assert (faces.manifest.kind, faces.manifest.found, faces.manifest.used) == ("drawn", 70, 70)
    assert faces.groups.tolist() == list(range(70))
    assert (load("drawn", tmp_path, wanted=70, seed=1).images != faces.images).any()
    assert (load("drawn", tmp_path, wanted=20).images == faces.images[:20]).all()


def test_names_in_archives_go_nowhere(encoded: list[bytes], tmp_path: Path) -> None:
    hostile = {f"../../{number}/../../etc/{number}.png": data for number, data in enumerate(encoded[:220])}
    hostile["/etc/passwd.png"] = b"root"
    for source in (as_zip(tmp_path / "a.zip", hostile), as_tar(tmp_path / "a.tar", hostile)):
        assert load(source, tmp_path).manifest.used == 220
    assert {path.name for path in tmp_path.iterdir()} == {"a.zip", "a.tar", "cache"}


def test_folders_named_like_images_links_and_pipes(folder: Path, tmp_path: Path) -> None:
    (folder / "x.png").mkdir()
    (folder / "000.png").rename(folder / "x.png" / "000.png") if (folder / "000.png").exists() else None
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "deep" / "up.png").symlink_to("..", target_is_directory=True)
    (folder / "nowhere.png").symlink_to("does/not/exist.png")
    os.mkfifo(folder / "pipe.jpg")
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(b"")
    faces = load(folder, tmp_path)
    assert faces.manifest.used == 230
    assert sorted(item["name"] for item in faces.manifest.skipped) == [
        "caf\\udce9.png",
        "nowhere.png",
        "pipe.jpg",
    ]


def test_the_cache_is_reused(folder: Path, tmp_path: Path, entries: Entries) -> None:
    first = load(folder, tmp_path)
    before = entries()[0].stat().st_mtime_ns
    decoded: list[int] = []
    again = load(folder, tmp_path, wanted=500, seed=9, on_progress=lambda done, _: decoded.append(done))
    assert not decoded and len(entries()) == 1 and entries()[0].stat().st_mtime_ns == before
    assert (again.images == first.images).all() and again.manifest == first.manifest
    assert isinstance(again.images, np.memmap)


def test_samples_are_kept_apart_by_number_and_seed(folder: Path, tmp_path: Path, entries: Entries) -> None:
    one, two = load(folder, tmp_path, wanted=60, seed=1), load(folder, tmp_path, wanted=60, seed=2)
    assert one.manifest.fingerprint != two.manifest.fingerprint and len(entries()) == 2
    assert load(folder, tmp_path, wanted=60, seed=1).manifest == one.manifest and len(entries()) == 2
    elsewhere = load_faces(str(folder), 32, 60, 1, tmp_path / "other", workers=1)
    assert elsewhere.manifest == one.manifest and (elsewhere.images == one.images).all()


def test_skipped_images_are_replaced_in_a_sample(folder: Path, tmp_path: Path) -> None:
    for number in range(40):
        (folder / f"bad{number}.jpg").write_bytes(b"nothing")
    faces = load(folder, tmp_path, wanted=225)
    assert faces.manifest.used == 225 and faces.manifest.found == 270 and faces.manifest.skipped


@pytest.mark.parametrize("change", ["new file", "changed file", "removed file", "size"])
def test_the_cache_is_rebuilt_when_the_source_changes(
    change: str, folder: Path, encoded: list[bytes], tmp_path: Path, entries: Entries
) -> None:
    load(folder, tmp_path)
    target = folder / "001.png"
    if change == "new file":
        (folder / "new.png").write_bytes(encoded[250])
    elif change == "changed file":
        target.write_bytes(encoded[251])
    elif change == "removed file":
        target.unlink()
    faces = load(folder, tmp_path, size=16 if change == "size" else 32)
    assert faces.manifest.used == {"new file": 231, "removed file": 229}.get(change, 230)
    assert len(entries()) == 2


def spoil(entry: Path, how: str) -> None:
    images = entry / "images.npy"
    data = bytearray(images.read_bytes())
    if how == "cut off":
        images.write_bytes(data[: len(data) // 2])
    elif how == "a bit flipped":
        data[len(data) // 2] ^= 1
        images.write_bytes(data)
    elif how == "no manifest":
        (entry / "manifest.json").unlink()
    elif how == "empty manifest":
        (entry / "manifest.json").write_text("{}")
    elif how == "manifest not JSON":
        (entry / "manifest.json").write_text("{'used':")
    elif how == "groups too short":
        np.save(entry / "groups.npy", np.arange(3))
    elif how == "groups not numpy":
        (entry / "groups.npy").write_bytes(b"")
    elif how == "empty folder":
        for path in entry.iterdir():
            path.unlink()
    elif how == "a file in its place":
        for path in entry.iterdir():
            path.unlink()
        entry.rmdir()
        entry.write_text("in the way")


SPOILED = ["cut off", "a bit flipped", "no manifest", "empty manifest", "manifest not JSON"]
SPOILED += ["groups too short", "groups not numpy", "empty folder", "a file in its place"]


@pytest.mark.parametrize("how", SPOILED)
def test_a_corrupt_cache_is_rebuilt(how: str, tmp_path: Path, entries: Entries) -> None:
    first = load("drawn", tmp_path, wanted=40)
    kept = np.array(first.images)
    spoil(entries()[0], how)
    again = load("drawn", tmp_path, wanted=40)
    assert (again.images == kept).all() and again.manifest == first.manifest
    assert len(entries()) == 1  # nothing left lying about


def test_a_failure_leaves_nothing_behind(folder: Path, tmp_path: Path, entries: Entries) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(folder, tmp_path, on_progress=stop)
    assert entries() == []
    assert load(folder, tmp_path).manifest.used == 230


def _load_in_process(tmp_path: str) -> str:
    return load("drawn", Path(tmp_path), wanted=200).manifest.fingerprint


def test_processes_at_once_do_not_clash(tmp_path: Path, entries: Entries) -> None:
    several = multiprocessing.get_context("forkserver")
    several.set_forkserver_preload(["duel.faces", "pyarrow.parquet", "pytest"])  # slow to import: once for all
    with several.Pool(3) as pool:
        prints = pool.map(_load_in_process, [str(tmp_path)] * 3, chunksize=1)
    assert len(set(prints)) == 1 and len(entries()) == 1


def test_duplicates_are_counted_and_grouped(folder: Path, encoded: list[bytes], tmp_path: Path) -> None:
    (folder / "zz_copy.png").write_bytes(encoded[5])
    faces = load(folder, tmp_path)
    assert faces.manifest.duplicates == 1 and faces.manifest.used == 231
    assert (np.bincount(faces.groups) == 2).sum() == 1


def test_too_few_faces(tmp_path: Path, encoded: list[bytes], entries: Entries) -> None:
    few = {f"{i}.png": data for i, data in enumerate(encoded[:150])} | {f"copy{i}.png": encoded[i] for i in range(60)}
    source = as_zip(tmp_path / "few.zip", few | {"broken.png": b"broken"})
    with pytest.raises(UsageError) as error:
        load(source, tmp_path)
    message = str(error.value)
    for part in (
        "150 usable distinct",
        f"at least {MINIMUM_FACES}",
        "211 images found",
        "60 duplicates",
        "broken.png",
    ):
        assert part in message
    assert entries() == []


@pytest.mark.parametrize("size", [0, 8, 48, -64, 1024])
def test_other_sizes_are_refused(size: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{size}.*64"):
        load("drawn", tmp_path, wanted=10, size=size)


def test_a_cache_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(UsageError, match="cache"):
        load("drawn", tmp_path, wanted=10)


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system of 1 MB: told beforehand, and also when the space goes while writing."""
    disk = tmp_path / "cache"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small tmpfs")
    try:
        with pytest.raises(DuelError, match=r"cache needs 6,\d+,\d+ bytes"):
            load("drawn", tmp_path, wanted=2000)
        assert list(disk.iterdir()) == []
        monkeypatch.setattr("duel.faces.cache._require_space", lambda *_: None)
        with pytest.raises(DuelError, match=r"cache needs 6,\d+,\d+ bytes") as error:
            load("drawn", tmp_path, wanted=2000)
        assert not isinstance(error.value, UsageError) and list(disk.iterdir()) == []
        assert load("drawn", tmp_path, wanted=100).manifest.used == 100
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
