"""Files in a store are whole or absent, in a folder and in an object store."""

import os
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from flaky import FAULTS, Flaky

from duel.errors import DuelError, UsageError
from duel.store import Store, write_atomically


def test_a_folder(tmp_path):
    store = Store(str(tmp_path / "runs"))
    assert store.read("trials/a/state.pt") is None
    store.write("trials/a/state.pt", b"one")
    store.write("trials/a/state.pt", b"two")
    assert store.read("trials/a/state.pt") == b"two"
    assert [p.name for p in (tmp_path / "runs/trials/a").iterdir()] == ["state.pt"]
    store.remove("trials/a")
    store.remove("trials/a")
    assert store.read("trials/a/state.pt") is None


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "a//b", ".", "a/..", "", "a/\n", "\u00e9", "a\\b"])
@pytest.mark.parametrize("work", ["read", "has", "remove"])
def test_a_name_that_leads_elsewhere(tmp_path, work, name):
    (tmp_path / "x").write_text("of the user")
    with pytest.raises(DuelError, match="no name of a run's file"):
        getattr(Store(str(tmp_path / "runs")), work)(name)
    assert (tmp_path / "x").read_text() == "of the user"


@pytest.mark.parametrize("name", ["trials/a", "trials/a/state.pt", "trials"])
def test_a_link_that_leads_out_of_the_store(tmp_path, name):
    """Another who may write to a shared folder puts a link where the driver is to delete a trial's state."""
    documents, root = tmp_path / "Documents", tmp_path / "runs"
    (documents / "a").mkdir(parents=True)
    (documents / "a" / "state.pt").write_text("of the user")
    root.mkdir()
    (root / "trials").symlink_to(documents)
    for work in (Store(str(root)).remove, lambda name: Store(str(root)).write(name, b"x")):
        with pytest.raises(DuelError, match="out of"):
            work(name)
    assert (documents / "a" / "state.pt").read_text() == "of the user"


def test_a_link_within_what_is_removed(tmp_path):
    """The link goes, what it leads to stays."""
    documents, root = tmp_path / "Documents", tmp_path / "runs"
    documents.mkdir()
    (documents / "letter").write_text("of the user")
    (root / "trials" / "a").mkdir(parents=True)
    (root / "trials" / "a" / "training").symlink_to(documents)
    (root / "trials" / "a" / "state.pt").symlink_to(documents / "letter")
    Store(str(root)).remove("trials/a")
    assert not (root / "trials" / "a").exists()
    assert (documents / "letter").read_text() == "of the user"


def test_a_root_that_is_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "disk")
    Store(str(tmp_path / "runs")).write("trials/a/state.pt", b"one")
    assert (tmp_path / "disk" / "trials" / "a" / "state.pt").read_bytes() == b"one"


@pytest.mark.parametrize("root", ["gopher://x/y", "s3://", "://x"])
def test_a_uri_that_cannot_be_opened(root):
    with pytest.raises(UsageError, match="--storage"):
        Store(root)


def test_an_s3_server(s3):
    store = Store(s3()[0])
    assert store.read("trials/a/state.pt") is None
    store.write("trials/a/state.pt", b"x" * 100_000)
    assert store.read("trials/a/state.pt") == b"x" * 100_000
    assert store.has("trials/a/state.pt") and not store.has("trials/a")
    assert store.names() == ["trials"]
    store.write("trials/a/training/1.pt", b"x")
    store.remove("trials/a/training/1.pt")
    store.remove("trials/a/training/1.pt")
    assert not store.has("trials/a/training/1.pt") and store.has("trials/a/state.pt")
    store.write("index.html", b"<html>", plain=True)
    assert store.read("index.html", plain=True) == b"<html>"
    store.remove("trials/a")
    assert store.read("trials/a/state.pt") is None


def at_once(
    s3: Callable[[], tuple[str, Flaky]], check: Callable[[str, str, Flaky], None], faults: Sequence[str]
) -> None:
    """The check under each fault, side by side: nearly all of their time is waiting."""
    with ThreadPoolExecutor(len(faults)) as pool:
        for done in [pool.submit(check, fault, *s3()) for fault in faults]:
            done.result()


@pytest.mark.slow
def test_an_s3_server_that_fails_for_a_while(s3):
    def check(fault: str, uri: str, proxy: Flaky) -> None:
        store, data = Store(uri, patience=60), random.Random(fault).randbytes(12 << 20)  # an upload of several parts
        store.write("old", b"old")
        proxy.fail(fault, seconds=2)
        store.write("new", data)
        assert store.read("new") == data, fault
        proxy.fail(fault, seconds=2)
        assert store.read("old") == b"old", fault
        proxy.fail(fault, seconds=2)
        store.remove("trials")
        assert store.read("none") is None

    at_once(s3, check, FAULTS)


@pytest.mark.slow
def test_an_s3_server_that_stays_away(s3):
    def check(fault: str, uri: str, proxy: Flaky) -> None:
        store = Store(uri, patience=0)
        store.write("state", b"old")
        proxy.fail(fault, seconds=1000)
        with pytest.raises(OSError):
            store.write("state", b"new" * (4 << 20))
        with pytest.raises(OSError):
            store.read("state")
        proxy.fail(fault, seconds=0)
        assert store.read("state") == b"old", "a write that failed has left what was there"

    at_once(s3, check, ["away", "busy"])
