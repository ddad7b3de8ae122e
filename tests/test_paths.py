"""What a user types as a place is an absolute path from there on, or refused before anything is done."""

import json
import os
import sys
from pathlib import Path

import pytest
from league_runs import TINY

from duel import league, paths
from duel.errors import UsageError
from duel.store import join

LOCAL = {"--out": paths.out_folder, "--sweep": paths.sweep_file, "--faces": paths.faces_source}
EVERY = {**LOCAL, "--storage": paths.storage_root}


@pytest.fixture
def home(monkeypatch, tmp_path) -> Path:
    """A home folder; the working folder is another one."""
    for name in ("home", "cwd"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.delenv("DUEL_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    return tmp_path / "home"


@pytest.mark.parametrize("flag", EVERY)
def test_a_path_is_absolute_from_where_it_enters(home, flag):
    for typed, path in {
        "~": home,
        "~/runs": home / "runs",
        "runs.d": Path.cwd() / "runs.d",
        "runs/": Path.cwd() / "runs",
        "./~/runs": Path.cwd() / "~/runs",
        "./s3:/runs": Path.cwd() / "s3:/runs",
        "a/../b": Path.cwd() / "a/../b",
        "a b,ü.d": Path.cwd() / "a b,ü.d",
        "/tmp/x": Path("/tmp/x"),
    }.items():
        assert str(EVERY[flag](typed)) == str(path)
        assert EVERY[flag](str(path)) == EVERY[flag](typed)


def test_a_sweep_may_be_named(home):
    assert paths.sweep_file("quick") == paths.SWEEPS / "quick.yaml"
    with pytest.raises(UsageError, match=r"--sweep 'fast': no such file.*mission, quick, unseen"):
        paths.sweep_file("fast")
    here = Path.cwd() / "quick"
    for typed in ("./quick", "quick/", "quick.yaml"):
        assert paths.sweep_file(typed).parent == here.parent
    here.mkdir()
    assert paths.sweep_file("quick") == paths.SWEEPS / "quick.yaml", "a folder is no sweep"
    here.rmdir()
    here.write_text("a sweep of one's own")
    assert paths.sweep_file("quick") == here


@pytest.mark.parametrize(
    "typed", ["s3://b/x", "gs://b", "file:///tmp/x", "https://a.b/c.zip", "S3://b", "://x", "s3:/b"]
)
@pytest.mark.parametrize("flag", LOCAL)
def test_a_uri_is_no_local_path(home, flag, typed):
    with pytest.raises(UsageError) as error:
        LOCAL[flag](typed)
    assert f"{flag} '{typed}'" in str(error.value)
    assert "URI" in str(error.value)


@pytest.mark.parametrize("typed", ["", " ", "~nobody-has-this-name", "~nobody-has-this-name/x"])
@pytest.mark.parametrize("flag", EVERY)
def test_what_names_no_place(home, flag, typed):
    with pytest.raises(UsageError, match=f"{flag} '{typed}'.*must be"):
        EVERY[flag](typed)


def test_what_pyarrow_could_not_read_back_is_refused_at_once(home):
    name = os.fsdecode(b"caf\xe9")
    for flag in ("--out", "--storage"):
        with pytest.raises(UsageError, match=rf"{flag} 'caf\\udce9': .*UTF-8"):
            EVERY[flag](name)
    assert paths.faces_source(name).endswith(name)


def test_faces_that_duel_draws(home):
    assert paths.faces_source("drawn") == "drawn"
    assert paths.faces_source("./drawn") == str(Path.cwd() / "drawn")


def test_a_storage_may_be_a_uri(home):
    for uri in ("s3://b/x?region=eu", "gs://b/x", "file:///tmp/x"):
        assert paths.storage_root(uri) == uri
    with pytest.raises(UsageError, match=r"--storage 's3:/b/x'.*s3://bucket/folder"):
        paths.storage_root("s3:/b/x")


def test_the_cache_of_faces(home, monkeypatch):
    monkeypatch.setattr(os, "environ", {"HOME": str(home)})
    for variables, path in [
        ({}, home / ".cache/duel"),
        ({"DUEL_CACHE": ""}, home / ".cache/duel"),
        ({"DUEL_CACHE": "~/x"}, home / "x"),
        ({"DUEL_CACHE": "x"}, Path.cwd() / "x"),
        ({"DUEL_CACHE": "/x", "XDG_CACHE_HOME": "/y"}, Path("/x")),
        ({"XDG_CACHE_HOME": "/y"}, Path("/y/duel")),
        ({"XDG_CACHE_HOME": ""}, home / ".cache/duel"),
        ({"XDG_CACHE_HOME": "y"}, home / ".cache/duel"),
    ]:
        monkeypatch.setattr(os, "environ", {"HOME": str(home), **variables})
        assert paths.faces_cache() == path, variables


@pytest.fixture
def started(home, monkeypatch, capsys):
    """Runs the command line up to the first stage; returns its exit code, what it said, and the run's folder."""

    def run(*arguments: object) -> tuple[int, str, Path | None]:
        folders: list[Path] = []
        monkeypatch.setattr(league, "play", lambda run, *_, **__: folders.append(run.path) or run.path / "index.html")
        monkeypatch.setattr(sys, "argv", ["duel", *map(str, arguments)])
        for stream in ("stdout", "stderr"):  # main replaces them
            monkeypatch.setattr(sys, stream, getattr(sys, stream))
        code = 0
        try:
            league.main()
        except SystemExit as end:
            code = int(end.code or 0)
        printed = capsys.readouterr()
        return code, printed.out + printed.err, folders[0] if folders else None

    return run


def test_a_run_below_home(started, home):
    (home / "s.yaml").write_bytes(TINY.read_bytes())
    code, said, folder = started("--sweep=~/s.yaml", "--out=~/runs", "--name", "t", "--storage=~/state")
    assert (code, folder) == (0, home / "runs/t"), said
    assert json.loads((folder / "run.json").read_text())["storage"] == str(home / "state/t")
    assert said.strip() == str(folder / "index.html")
    assert not list(Path.cwd().iterdir())


def test_relative_paths_are_kept_as_absolute_ones(started):
    code, said, folder = started("--sweep", TINY, "--out", "runs", "--name", "t", "--storage", "state")
    assert (code, folder) == (0, Path.cwd() / "runs/t"), said
    assert json.loads((folder / "run.json").read_text())["storage"] == str(Path.cwd() / "state/t")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "s3://b/x"], ["--out 's3://b/x'", "--storage"]),
        (["--out", ""], ["--out ''"]),
        (["--faces", "https://a.b/c.zip"], ["--faces 'https://a.b/c.zip'", "download"]),
        (["--sweep", "s3://b/s.yaml"], ["--sweep 's3://b/s.yaml'"]),
        (["--storage", ""], ["--storage ''"]),
        (["--resume", "t", "--out", "s3://b/x"], ["--out 's3://b/x'"]),
        (["--resume", "t", "--storage", ""], ["--storage ''"]),
    ],
    ids=str,
)
def test_refused_before_any_work(started, arguments, words):
    code, said, folder = started(
        *([] if "--sweep" in arguments or "--resume" in arguments else ["--sweep", TINY]), *arguments
    )
    assert (code, folder) == (2, None)
    for word in words:
        assert word in said
    assert not list(Path.cwd().iterdir())


def test_a_cache_that_is_a_uri(started, monkeypatch):
    monkeypatch.setenv("DUEL_CACHE", "s3://b/cache")
    code, said, folder = started("--sweep", TINY)
    assert (code, folder) == (2, None)
    assert "DUEL_CACHE 's3://b/cache'" in said


def test_an_earlier_runs_relative_paths(started, home):
    """As run.json holds them: seen from the working folder, as they were by the version that wrote them."""
    code, _, folder = started("--sweep", TINY, "--out", "runs", "--name", "t")
    assert code == 0
    (Path.cwd() / "pictures").mkdir()
    (Path.cwd() / "pictures/a.png").write_bytes(b"")
    data = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**data, "faces": {"source": "pictures"}}))
    for out in ("runs", folder.parent, os.path.relpath(folder.parent, Path.cwd())):
        assert started("--resume", "t", "--out", out)[::2] == (0, folder)


def test_a_storage_is_the_same_one_however_it_is_typed(home):
    typed = ("~/state", str(home / "state"), "../home/../home/state")
    assert {os.path.normpath(join(paths.storage_root(each), "t")) for each in typed} == {str(home / "state/t")}


KEYS = ["s3://AKIA123:hush@b/x", "s3://AKIA123@b/x", "s3://AKIA123:hu/sh@b/x", "abfs://account:hush@container/x",
        "S3://AKIA123:hush@b/x?region=x", "s3://b/x?access_key=AKIA123", "abfs://c@a/x?region=x&client_secret=hush",
        "abfs://c@a/x?SAS_token=hush"]  # fmt: skip


@pytest.mark.parametrize("typed", KEYS)
def test_keys_in_a_uri_are_refused_and_not_shown(typed):
    with pytest.raises(UsageError, match="AWS_ACCESS_KEY_ID") as error:
        paths.storage_root(typed)
    assert "hush" not in str(error.value) and "AKIA123" not in str(error.value)


@pytest.mark.parametrize(
    "typed", ["s3://b/x", "s3://b/a@b/x?region=x&scheme=http&endpoint_override=127.0.0.1:80", "abfs://c@a.dfs.net/x",
              "file:///tmp/a:b@c/x", "gs://b/x:y"])  # fmt: skip
def test_a_uri_without_keys_stays_as_it_is(typed):
    assert paths.storage_root(typed) == typed
