"""What cannot be read just now is not broken: it is tried again, told, and never kept out by the cache."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from test_load import as_zip, files

from duel.errors import UsageError
from duel.faces import Faces, check_source, load_faces, patience
from duel.faces import folder as folders
from duel.faces.archives import ZipSource
from duel.faces.folder import FolderSource
from duel.faces.patience import Patience

Entries = Callable[[], list[Path]]


@pytest.fixture(autouse=True)
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """No test waits; what they would have."""
    pauses: list[float] = []
    monkeypatch.setattr(patience.time, "sleep", pauses.append)
    return pauses


def load(source: Path, tmp_path: Path, wanted: int = 1000) -> Faces:
    return load_faces(str(source), 32, wanted, 0, tmp_path / "cache", workers=1)


def failing(monkeypatch: pytest.MonkeyPatch, number: int, times: dict[str, int]) -> None:
    """Reading the files whose names end so fails that many times."""
    plain = FolderSource._read

    def read(self: FolderSource, name: str, size: int) -> bytes:
        if times.get(name, 0) > 0:
            times[name] -= 1
            raise OSError(number, os.strerror(number))
        return plain(self, name, size)

    monkeypatch.setattr(FolderSource, "_read", read)


def test_a_stutter_goes_unnoticed(folder: Path, tmp_path: Path, monkeypatch, slept: list[float]) -> None:
    plain = load_faces(str(folder), 32, 1000, 0, tmp_path / "other").manifest
    failing(monkeypatch, errno.EIO, {"001.png": 2, "002.png": 1})
    assert load(folder, tmp_path).manifest == plain and slept == [0.1, 1.0, 0.1]


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_what_was_unreadable_is_looked_at_again(
    number: int, folder: Path, tmp_path: Path, monkeypatch, entries: Entries
) -> None:
    times = {"001.png": 1000, "002.png": 1000}
    failing(monkeypatch, number, times)
    first = load(folder, tmp_path).manifest
    assert first.used == 228 and first.unreadable == ["001.png", "002.png"]
    assert {item["reason"] for item in first.skipped} == {f"cannot be read: {os.strerror(number)}"}
    before = entries()[0].stat().st_mtime_ns
    assert load(folder, tmp_path).manifest == first  # still unreadable: decoding all again would change nothing
    assert entries()[0].stat().st_mtime_ns == before
    times["002.png"] = 0
    second = load(folder, tmp_path).manifest
    assert (second.used, second.unreadable) == (229, ["001.png"])
    times["001.png"] = 0
    well = load(folder, tmp_path)
    assert (well.manifest.used, well.manifest.skipped, well.manifest.unreadable) == (230, [], [])
    assert well.images.shape[0] == 230 and len(entries()) == 1


def test_broken_files_are_kept_as_broken(folder: Path, tmp_path: Path, monkeypatch, slept: list[float]) -> None:
    (folder / "broken.png").write_bytes(b"not a picture")
    first = load(folder, tmp_path).manifest
    assert first.unreadable == [] and len(first.skipped) == 1 and not slept
    monkeypatch.setattr(FolderSource, "_read", None)  # not asked again
    assert load(folder, tmp_path).manifest == first


def test_a_sample_replaces_the_unreadable_and_takes_them_back(folder: Path, tmp_path: Path, monkeypatch) -> None:
    plain = load_faces(str(folder), 32, 215, 0, tmp_path / "other").manifest
    times = {f"{n:03}.png": 1000 for n in range(1, 11)}
    failing(monkeypatch, errno.EIO, times)
    assert load(folder, tmp_path, 215).manifest.unreadable
    times.clear()
    assert load(folder, tmp_path, 215).manifest == plain


def test_a_dead_mount_is_told_and_does_not_take_for_ever(
    folder: Path, tmp_path: Path, monkeypatch, slept: list[float], entries: Entries
) -> None:
    failing(monkeypatch, errno.EIO, {str(path.relative_to(folder)): 1000 for path in folder.rglob("*.png")})
    with pytest.raises(UsageError, match=r"0 usable.*cannot be read: Input/output error"):
        load(folder, tmp_path)
    assert 9 < sum(slept) <= 10 and entries() == []


def test_members_of_a_zip_too(folder: Path, tmp_path: Path, monkeypatch) -> None:
    source, plain = as_zip(tmp_path / "a.zip", files(folder)), ZipSource._read

    def read(self: ZipSource, info: object) -> bytes:
        if info.filename == "001.png":
            raise OSError(errno.EIO, "Input/output error")
        return plain(self, info)

    monkeypatch.setattr(ZipSource, "_read", read)
    assert load(source, tmp_path).manifest.unreadable == ["001.png"]
    monkeypatch.setattr(ZipSource, "_read", plain)
    assert load(source, tmp_path).manifest.used == 230


def locked(monkeypatch: pytest.MonkeyPatch, name: str, number: int = errno.EACCES) -> None:
    """A folder of that name cannot be listed (the tests may run as root, who may list all)."""
    plain = folders._entries

    def entries(folder: Path) -> list[os.DirEntry[str]]:
        if folder.name == name:
            raise OSError(number, os.strerror(number))
        return plain(folder)

    monkeypatch.setattr(folders, "_entries", entries)


def test_a_folder_that_cannot_be_listed_is_told(folder: Path, tmp_path: Path, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        locked(patch, "er")
        for n in range(60):  # enough without it
            (folder / f"more{n}.png").write_bytes((folder / "deep" / "er" / f"{n * 3:03}.png").read_bytes())
        about = load(folder, tmp_path).manifest
    assert about.skipped == [{"name": "deep/er/", "reason": "the folder cannot be listed: Permission denied"}]
    assert about.used == about.found == 213 and about.ignored == 2
    after = load(folder, tmp_path).manifest
    assert (after.used, after.skipped) == (290, [])


def test_a_source_of_nothing_but_a_locked_folder_says_so(folder: Path, tmp_path: Path, monkeypatch) -> None:
    for path in folder.glob("*.png"):
        path.unlink()
    locked(monkeypatch, "deep")
    for attempt in (check_source, lambda name: load(Path(name), tmp_path)):
        with pytest.raises(UsageError, match=r"found no images.*deep/: the folder cannot be listed: Permission denied"):
            attempt(str(folder))


def test_each_folder_is_listed_once(folder: Path, tmp_path: Path, monkeypatch) -> None:
    listed, plain = [], folders._entries
    monkeypatch.setattr(folders, "_entries", lambda path: listed.append(path) or plain(path))
    load(folder, tmp_path)
    assert len(listed) == len(set(listed)) == 3


def test_an_image_that_cannot_be_looked_at_is_unreadable(folder: Path, tmp_path: Path, monkeypatch) -> None:
    plain = Path.stat

    def look(self: Path, **options: bool) -> os.stat_result:
        if self.name == "001.png":
            raise OSError(errno.EIO, "Input/output error")
        return plain(self, **options)

    with monkeypatch.context() as patch:
        patch.setattr(folders, "_stat", lambda entry: None if entry.name == "001.png" else entry.stat())
        patch.setattr(Path, "stat", look)
        assert load(folder, tmp_path).manifest.unreadable == ["001.png"]
    assert load(folder, tmp_path).manifest.used == 230


def test_patience_ends(slept: list[float]) -> None:
    def fail() -> None:
        raise OSError(errno.EIO, "Input/output error")

    patiently = Patience()
    for _ in range(100):
        with pytest.raises(OSError):
            patiently(fail)
    assert sum(slept) <= 10
    assert patiently(lambda: 7) == 7
