"""Wrong usage, settings and input: exit 2 and one clear message before any work starts, never a traceback."""

import json
import sys
from pathlib import Path

import pytest
from league_runs import ROOT, TINY

from duel import claim, fetch
from duel.league import main
from duel.rundir import NEEDED
from duel.store import Store


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Runs the command line in this process; returns its exit code and what it printed."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setenv("DUEL_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(sys, "argv", ["duel", "--out", str(tmp_path / "out"), *map(str, arguments)])
        code, streams = 0, (sys.stdout, sys.stderr)
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        finally:
            sys.stdout, sys.stderr = streams
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


WRONG = [
    (["--trials", "1"], ["--trials", "1"]),
    (["--trials", "many"], ["--trials", "many"]),
    (["--seed", "-1"], ["--seed", "-1"]),
    (["--seed", "x"], ["--seed", "x"]),
    (["--colour"], ["--colour"]),
    (["extra"], ["extra"]),
    (["--sweep", "nowhere.yaml"], ["nowhere.yaml"]),
    (["--sweep", "nowhere"], ["--sweep 'nowhere'", "mission, quick, unseen"]),
    (["--sweep", ROOT], [str(ROOT)]),
    (["--sweep", ROOT / "README.md"], ["README.md"]),
    (["--sweep", TINY, "--faces", "nowhere"], ["--faces", "nowhere"]),
    (["--sweep", TINY, "--faces", TINY], ["--faces", "tiny.yaml"]),
    (["--sweep", TINY, "--faces", ""], ["--faces"]),
    (["--sweep", TINY, "--seasons", "0"], ["--seasons", "0"]),
    (["--sweep", TINY, "--weather", "snow3"], ["--weather", "snow3", "jpeg"]),
    (["--sweep", TINY, "--weather", "jpeg200"], ["--weather", "jpeg200", "100"]),
    (["--sweep", TINY, "--weather", ""], ["--weather"]),
    (["--sweep", TINY, "--name", "a/b"], ["--name", "a/b"]),
    (["--sweep", TINY, "--name", ""], ["--name"]),
    (["--sweep", TINY, "--name", ".."], ["--name", ".."]),
    (["--sweep", TINY, "--name", "-x"], ["--name"]),
    (["--sweep", TINY, "--name", "müller"], ["--name", "müller"]),
    (["--sweep", TINY, "--name", "a\n"], ["--name"]),
    (["--sweep", TINY, "--max-concurrent", "0"], ["--max-concurrent", "0"]),
    (["--sweep", TINY, "--cpus-per-trial", "0"], ["--cpus-per-trial", "0"]),
    (["--sweep", TINY, "--gpus-per-trial", "-1"], ["--gpus-per-trial", "-1"]),
    (["--sweep", TINY, "--gpus-per-trial", "1.5"], ["gpu", "1.5"]),
    (["--sweep", TINY, "--max-failures", "-1"], ["--max-failures", "-1"]),
    (["--sweep", TINY, "--storage", "gopher://x/y"], ["--storage", "gopher://x/y"]),
    (["--resume", "nothing"], ["--resume nothing", "run.json"]),
    (["--resume", "nothing", "--trials", "8"], ["--resume", "--trials"]),
    (["--resume", "nothing", "--dry-run"], ["--dry-run", "--resume"]),
]


@pytest.mark.parametrize(("arguments", "words"), WRONG, ids=[" ".join(map(str, a)) for a, _ in WRONG])
def test_wrong_usage(command, tmp_path, arguments, words):
    code, out, err = command(*arguments)
    assert code == 2, err
    assert out == ""
    for word in words:
        assert word in err.replace("\n", " ")
    assert "Traceback" not in err
    assert not list(tmp_path.glob("out/*/run.json"))


def test_a_run_that_the_storage_does_not_hold(command, tmp_path):
    code, _, err = command("--resume", "nothing", "--storage", tmp_path / "storage")
    assert code == 2
    assert f"--resume nothing: no such run in {tmp_path / 'storage' / 'nothing'}" in err
    assert not (tmp_path / "out").exists()


def test_another_storage_than_the_runs_own(command, tmp_path):
    folder = tmp_path / "out" / "mine"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"storage": "s3://ours/duel/mine"}))
    code, _, err = command("--resume", "mine", "--storage", "s3://theirs/duel")
    assert code == 2
    assert "--storage s3://theirs/duel" in err
    assert "s3://ours/duel/mine" in err


def test_a_storage_that_takes_nothing(command, tmp_path):
    (tmp_path / "file").write_text("in the way")
    code, _, err = command("--sweep", TINY, "--name", "a", "--storage", tmp_path / "file")
    assert code == 2, err
    assert f"--storage {tmp_path / 'file' / 'a'}: can't be written to" in err
    assert not (tmp_path / "out" / "a").exists()


def test_an_empty_folder_of_faces(command, tmp_path):
    (tmp_path / "faces").mkdir()
    code, _, err = command("--sweep", TINY, "--faces", tmp_path / "faces")
    assert code == 2
    assert "faces" in err


def test_too_few_faces_leave_no_run_behind(command, tmp_path):
    from PIL import Image

    for i in range(5):
        folder = tmp_path / "faces" / f"{i}.png"
        folder.parent.mkdir(exist_ok=True)
        Image.effect_noise((40, 40), 60 + i).save(folder)
    (tmp_path / "faces" / "broken.jpg").write_text("no picture")
    code, _, err = command("--sweep", TINY, "--faces", tmp_path / "faces", "--name", "few")
    assert code == 2
    assert "5" in err
    assert not (tmp_path / "out" / "few").exists()


def test_a_taken_name(command, tmp_path):
    folder = tmp_path / "out" / "mine"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    code, _, err = command("--sweep", TINY, "--name", "mine")
    assert code == 2
    assert "--resume mine" in err


def test_a_folder_with_leftovers_is_no_place_for_a_new_run(command, tmp_path):
    """Models and matches of an earlier run, whose run.json has gone, would be taken for the new one's."""
    folder = tmp_path / "out" / "mine"
    (folder / "work").mkdir(parents=True)
    (folder / "trials.csv").write_text("trial,side")
    code, _, err = command("--sweep", TINY, "--name", "mine")
    assert code == 2
    assert f"--name mine: {folder} holds other files, of an earlier run perhaps (trials.csv, work)" in err
    assert sorted(path.name for path in folder.iterdir()) == ["trials.csv", "work"]


def test_a_storage_with_a_run_of_that_name(command, tmp_path):
    state = tmp_path / "storage" / "mine" / "trials" / "g00-dcgan" / "state.pt"
    state.parent.mkdir(parents=True)
    state.write_bytes(b"of an earlier run")
    code, _, err = command("--sweep", TINY, "--name", "mine", "--storage", tmp_path / "storage")
    assert code == 2
    for words in (f"{tmp_path / 'storage' / 'mine'} already holds", "--resume mine", "another --name"):
        assert words in err
    assert not (tmp_path / "out").exists()
    assert state.read_bytes() == b"of an earlier run"


def test_a_sweep_file_whose_name_is_no_name_of_a_run(command, tmp_path):
    (tmp_path / "my sweep é.yaml").write_text(TINY.read_text())
    code, _, err = command("--sweep", tmp_path / "my sweep é.yaml", "--address", "127.0.0.1:1")
    assert code == 2
    assert "--address" in err and "--name" not in err


def test_other_versions_are_said_and_kept(command, tmp_path):
    data = dict.fromkeys(NEEDED) | {"id": "i", "status": "running", "stages": [], "notes": []}
    old = {"torch": "2.8.0", "duel": "0.0.1"}
    folder = tmp_path / "out" / "mine"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({**data, "faces": {"source": "drawn"}, "versions": old}))
    code, _, err = command("--resume", "mine", "--address", "127.0.0.1:1")
    assert code == 2 and "--address" in err
    assert "run mine began with" in err and "torch 2.8.0, now " in err
    kept = json.loads((folder / "run.json").read_text())
    assert kept["versions"]["torch"] != "2.8.0"
    assert kept["earlier_versions"][0]["torch"] == "2.8.0"
    code, _, err = command("--resume", "mine", "--address", "127.0.0.1:1")
    assert "began with" not in err, "the same versions as last time"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": 1}', "null"])
def test_a_broken_run_json(command, tmp_path, text):
    folder = tmp_path / "out" / "mine"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(text)
    code, _, err = command("--resume", "mine")
    assert code == 2
    assert "run.json" in err


WRONG_TYPES = {"faces": "text", "versions": ["a"], "stages": [1], "command": 5, "seasons": None, "notes": {},
               "seed": "7", "storage": 5, "weather": "jpeg50", "settings": [], "status": None, "id": 5}  # fmt: skip


@pytest.mark.parametrize("status", ["running", "complete"])
@pytest.mark.parametrize("key", WRONG_TYPES)
def test_a_run_json_of_the_wrong_types(command, tmp_path, key, status):
    folder = tmp_path / "out" / "mine"
    complete_run(folder)
    data = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**data, "status": status, key: WRONG_TYPES[key]}))
    code, _, err = command("--resume", "mine")
    assert code == 2
    assert f"run.json is no duel run: {key}" in err


def test_an_output_folder_that_is_a_file(command, tmp_path):
    (tmp_path / "out").write_text("in the way")
    code, _, err = command("--sweep", TINY, "--name", "a")
    assert code == 2
    assert "--out" in err


@pytest.mark.parametrize("address", ["127.0.0.1:1", "somewhere", "127.0.0.1:99999999"])
def test_no_cluster_at_the_address(command, address):
    code, _, err = command("--sweep", TINY, "--address", address, "--name", "a")
    assert code == 2
    assert f"--address {address}" in err


def test_a_run_that_somebody_else_works_on(command, tmp_path):
    import fcntl

    folder = tmp_path / "out" / "mine"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(dict.fromkeys(NEEDED, "running")))
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, _, err = command("--resume", "mine")
    assert code == 2
    assert "another process" in err


EVIL = "\x1b]0;owned\x07[/red]:smile:\r\n"
SHOWN = r"\x1b]0;owned\x07[/red]:smile:\r\n"


@pytest.mark.parametrize("working", [True, False])
def test_a_host_on_the_storage_cant_steer_the_terminal(command, tmp_path, monkeypatch, working):
    monkeypatch.setattr(fetch, "STILL", 0)
    sign = {"run": "r", "driver": "other", "host": EVIL, "place": "/x", "working": working, "beats": 1}
    Store(str(tmp_path / "storage" / "mine")).write(claim.SIGN, json.dumps(sign).encode())
    code, _, err = command("--resume", "mine", "--storage", tmp_path / "storage")
    assert code == 2
    assert err.isascii() and err.replace("\n", "").isprintable()
    assert (f"{SHOWN} was the last to work on this run" in err) == working
    assert "holds nothing of it but its trials" in err


def test_a_host_that_is_at_work(command, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "STILL", 0)
    signs = (claim.Sign("r", "other", EVIL, "/x", True, beats) for beats in range(9))
    monkeypatch.setattr(fetch, "read_sign", lambda _: next(signs))
    code, _, err = command("--resume", "mine", "--storage", tmp_path / "storage")
    assert code == 2
    assert f"--resume mine: {SHOWN} is at work on this run" in err
    assert "\x1b" not in err


@pytest.mark.parametrize("flag", ["--faces", "--sweep", "--out", "--resume", "--name", "--storage"])
def test_a_name_on_the_command_line_cant_steer_the_terminal(command, flag):
    known = [] if flag == "--resume" else ["--sweep", TINY]
    code, out, err = command(*known, flag, f"nowhere/{EVIL}\udce9")
    assert code == 2
    for odd in ("\x1b", "\x07", "\r", "\udce9"):
        assert odd not in out + err
    assert r"\x1b" in err


def complete_run(folder: Path) -> None:
    folder.mkdir(parents=True)
    data = dict.fromkeys(NEEDED) | {"status": "complete", "stages": [], "notes": [], "trials_requested": 2}
    (folder / "run.json").write_text(json.dumps({**data, "command": ["--faces", "\udce9\x1b"]}))
    (folder / "error.txt").write_text("of an earlier session")


@pytest.mark.parametrize("report", [True, False])
def test_a_complete_run_has_no_failure_left(command, tmp_path, report):
    folder = tmp_path / "out" / "mine"
    complete_run(folder)
    if report:
        (folder / "index.html").write_text("the report")
    code, out, err = command("--resume", "mine")
    assert code == 0, err
    assert out == f"{folder / 'index.html'}\n"
    assert (folder / "index.html").read_text() == "the report" or not report
    assert not (folder / "error.txt").exists()


def test_help_teaches(command):
    code, out, _ = command("--help")
    assert code == 0
    for word in (
        "--trials",
        "--sweep",
        "--faces",
        "--resume",
        "--dry-run",
        "--sweep quick",
        "Exit codes",
    ):
        assert word in out


def test_the_missions_plan(command, tmp_path):
    code, out, err = command("--trials", 32, "--dry-run")
    assert code == 0, err
    for words in ("87,600", "16 generators", "16 detectors", "256 of 15,000 fakes + 15,000", "GiB", "in all"):
        assert words in out
    assert not any(tmp_path.iterdir())
