"""Files in a store are whole or absent, in a folder and in an object store."""

import os
from pathlib import Path

import pytest

from duel.errors import UsageError
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


@pytest.mark.parametrize("root", ["gopher://x/y", "s3://", "://x"])
def test_a_uri_that_cannot_be_opened(root):
    with pytest.raises(UsageError, match="--storage"):
        Store(root)


def test_an_s3_server(tmp_path: Path, monkeypatch):
    server = pytest.importorskip("moto.server")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    try:
        host, port = running.get_host_and_port()
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        import boto3

        boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1").create_bucket(Bucket="duel")
        uri = f"s3://duel/runs/a?endpoint_override={host}:{port}&scheme=http&region=us-east-1"
        store = Store(uri)
        assert store.read("trials/a/state.pt") is None
        store.write("trials/a/state.pt", b"x" * 100_000)
        assert store.read("trials/a/state.pt") == b"x" * 100_000
        store.remove("trials/a")
        assert store.read("trials/a/state.pt") is None
    finally:
        running.stop()
