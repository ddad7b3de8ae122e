"""One cache of decoded faces for several users: read by who may read, and refused before the work by who may not."""

import json
import os
import pickle
import stat
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from duel.errors import UsageError
from duel.faces import Faces, load, load_faces
from duel.faces.cache import read_entry

Entries = Callable[[], list[Path]]
SECOND = 65534  # a user's number, and a group's, other than root's
root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Path]:
    """A folder that all may write to, in one that all may pass through."""
    for parent in (tmp_path, *list(tmp_path.parents)[:2]):
        parent.chmod(parent.stat().st_mode | 0o055)
    path = tmp_path / "cache"
    path.mkdir()
    path.chmod(0o777)
    mask = os.umask(0o022)
    yield path
    os.umask(mask)


def draw(cache: Path, wanted: int = 40) -> Faces:
    return load_faces("drawn", 16, wanted, 0, cache, workers=1)


def as_second(work: Callable[[], object], mask: int = 0o022) -> str:
    """What another user gets, as text: the result, or the error. In a child process, which can't come back."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(SECOND)
            os.setuid(SECOND)
            os.umask(mask)
            text = str(work())
        except UsageError as error:
            text = f"UsageError: {error}"
        except BaseException:
            text = traceback.format_exc()
        os.write(writing, text.encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as file:
        text = file.read()
    os.waitpid(child, 0)
    return text


def decoding_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "drawn_in_order", None)
    monkeypatch.setattr(load, "decoded", None)


@root
def test_the_second_user_takes_what_the_first_made(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = draw(cache).manifest.fingerprint
    decoding_is_an_error(monkeypatch)
    cache.chmod(0o755)
    assert as_second(lambda: draw(cache).manifest.fingerprint) == first


@root
@pytest.mark.parametrize("mode", [0o755, 0o500])
def test_a_cache_that_cannot_be_written_is_told_before_the_work(
    mode: int, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoding_is_an_error(monkeypatch)
    cache.chmod(mode)
    for work in (lambda: draw(cache), lambda: load_faces(str(folder), 16, 400, 0, cache)):
        told = as_second(work)
        assert told.startswith("UsageError") and str(cache) in told and "DUEL_CACHE" in told
        assert "Permission denied" in told


@root
def test_a_private_entry_is_told_before_the_work_and_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.umask(0o077)
    first = draw(cache).manifest
    decoding_is_an_error(monkeypatch)
    told = as_second(lambda: draw(cache))
    assert told.startswith("UsageError") and "of the user root" in told and "DUEL_CACHE" in told
    assert draw(cache).manifest == first and len(list(cache.iterdir())) == 1


@root
def test_a_broken_entry_of_another_is_replaced_where_the_folder_allows(cache: Path) -> None:
    first = draw(cache).manifest.fingerprint
    (entry,) = cache.iterdir()
    (entry / "manifest.json").write_text("{}")
    cache.chmod(0o1777)  # as /tmp: only one's own can be removed
    told = as_second(lambda: draw(cache))
    assert told.startswith("UsageError") and entry.name in told and "DUEL_CACHE" in told
    cache.chmod(0o777)
    assert as_second(lambda: draw(cache).manifest.fingerprint) == first
    assert draw(cache).manifest.fingerprint == first
    assert entry.stat().st_uid == SECOND


@root
def test_a_folder_of_a_group_stays_the_groups(cache: Path) -> None:
    os.chown(cache, 0, SECOND)
    cache.chmod(0o2770)
    os.umask(0o007)
    draw(cache)
    (entry,) = cache.iterdir()
    assert stat.S_IMODE(entry.stat().st_mode) == 0o2770
    for path in entry.iterdir():
        assert (path.stat().st_gid, stat.S_IMODE(path.stat().st_mode)) == (SECOND, 0o660)
    assert as_second(lambda: len(draw(cache, 50).images), 0o007) == "50"
    assert as_second(lambda: len(draw(cache).images), 0o007) == "40"


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_modes_are_the_umasks(mask: int, tmp_path: Path, entries: Entries) -> None:
    before = os.umask(mask)
    try:
        draw(tmp_path / "cache")
    finally:
        os.umask(before)
    (entry,) = entries()
    assert stat.S_IMODE(entry.parent.stat().st_mode) == stat.S_IMODE(entry.stat().st_mode) == 0o777 & ~mask
    assert {stat.S_IMODE(path.stat().st_mode) for path in entry.iterdir()} == {0o666 & ~mask}


class Attack:
    """What another user's pickle may do."""

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return sys.exit, (7,)


def changed(entry: Path, how: str) -> None:
    images, groups = np.load(entry / "images.npy"), entry / "groups.npy"
    about = json.loads((entry / "manifest.json").read_text())
    if how == "a pickle":
        groups.write_bytes(b"")
        np.save(groups, np.array([Attack()] * 40, dtype=object), allow_pickle=True)
        assert pickle.PROTO in groups.read_bytes()
    elif how == "a huge shape":
        with groups.open("wb") as file:
            shape = {"descr": "<i8", "fortran_order": False, "shape": (10**12,)}
            np.lib.format.write_array_header_1_0(file, shape)
    elif how == "another type":
        np.save(groups, np.arange(40.0))
    elif how == "another order":
        np.save(entry / "images.npy", np.asfortranarray(images))
    elif how == "a pipe":
        groups.unlink()
        os.mkfifo(groups)
    elif how == "other skips":
        (entry / "manifest.json").write_text(json.dumps(about | {"skipped": [1]}))
    elif how == "more fields":
        (entry / "manifest.json").write_text(json.dumps(about | {"more": 1}))
    elif how == "an odd size":
        (entry / "manifest.json").write_text(json.dumps(about | {"image_size": -16}))


@pytest.mark.parametrize(
    "how",
    [
        "a pickle",
        "a huge shape",
        "another type",
        "another order",
        "a pipe",
        "other skips",
        "more fields",
        "an odd size",
    ],
)
def test_what_is_in_the_cache_is_not_trusted(how: str, tmp_path: Path, entries: Entries) -> None:
    first = draw(tmp_path / "cache")
    kept = np.array(first.images)
    (entry,) = entries()
    changed(entry, how)
    assert read_entry(entry) is None
    again = draw(tmp_path / "cache")
    assert (again.images == kept).all() and again.manifest == first.manifest and len(entries()) == 1


def test_another_process_publishing_meanwhile_is_left_alone(folder: Path, tmp_path: Path, entries: Entries) -> None:
    """Between the look into the cache and the work an archive may be listed, which takes minutes."""

    def other(done: int, total: int) -> None:
        if not inner:
            inner.append(load_faces(str(folder), 32, 1000, 0, tmp_path / "cache"))

    inner: list[Faces] = []
    faces = load_faces(str(folder), 32, 1000, 0, tmp_path / "cache", on_progress=other)
    assert faces.manifest == inner[0].manifest and len(entries()) == 1
