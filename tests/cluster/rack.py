"""A Ray cluster on the lab's hosts, leagues on it, and whether a league came out as if nothing had happened."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from account import BUCKET, PORT, REGION, account, credentials
from flaky import Flaky
from lab import Lab, copy_project
from league_runs import TINY

from duel.rundir import known
from duel.store import join
from duel.sweep.job import States

HEAD, WORKERS = "head", ("w1", "w2")
GIB = 2**30
TABLES = ("matches.csv", "leaderboard.csv", "guard.csv")  # equal to the byte, whatever happened
STABLE = ["trial", "status", "objective", "images", "settings"]  # columns of trials.csv without a time in them


def tiny_sweep(path: Path, grace: int, most: int, every: int, **changes: Any) -> Path:
    """Write the tiny sweep with another budget of both sides, in images, and other top-level keys."""
    sweep = yaml.safe_load(TINY.read_text(encoding="utf-8")) | changes
    for side in ("generators", "detectors"):
        sweep[side]["budget"] = {"grace_images": grace, "max_images": most, "report_every": every}
    path.write_text(yaml.safe_dump(sweep), encoding="utf-8")
    return path


def long_trials(path: Path) -> Path:
    """Trials of a dozen reports each, so that something can happen in the middle of one."""
    return tiny_sweep(path, 2048, 6144, 512)


def large_faces(path: Path) -> Path:
    """Tiny networks on 8,192 faces of 64x64, which are 100 MB."""
    faces = {"generator_train": 2048, "detector_train": 2560, "validation": 512, "league": 3072}
    return tiny_sweep(path, 1024, 2048, 256, image_size=64, faces=faces)


class Rack:
    """A head that takes no work and two workers of two CPUs; they share this machine's files, as by NFS."""

    def __init__(self, folder: Path, environment: dict[str, str] | None = None, options: str = "",
                 memory: int | None = None, gpus: int = 0, s3: bool = False):  # fmt: skip
        """options: more of `ray start`. s3: storage is S3, behind `flaky`.

        memory, gpus: what w1 has; GPUs are in Ray's books only.
        """
        self._options, self._gpus = options, {"w1": gpus}
        self.storage = self.direct = str(folder / "storage")  # direct: as this process reaches it, past `flaky`
        folder.mkdir(exist_ok=True)
        copy_project(folder / "project")
        settings = {
            "PYTHONPATH": str(folder / "project"),
            "DUEL_CACHE": str(folder / "cache"),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": "a-secret-of-the-lab-that-is-long-enough",
            "RAY_worker_niceness": "0",
            **(environment or {}),
        }
        self.lab, self._ends = Lab(folder / "lab"), ExitStack()
        self._ends.callback(self.lab.close)
        try:
            if s3:
                settings |= self._s3()
            self.lab.environment = "export " + " ".join(f"{key}={value}" for key, value in settings.items())
            self.addresses: dict[str, str] = {}
            for number, name in enumerate((HEAD, *WORKERS), start=10):
                self.add(name, number, memory if name == "w1" else None)
            self.start_ray()
        except BaseException:
            self.close()
            raise

    def _s3(self) -> dict[str, str]:
        self._ends.enter_context(account(self.lab.launcher))
        self.flaky = Flaky((self.lab.launcher, PORT), listen=self.lab.launcher)
        self._ends.callback(self.flaky.close)
        self.storage = f"s3://{BUCKET}/runs"
        self.direct = f"{self.storage}?endpoint_override={self.lab.launcher}:{PORT}&scheme=http&region={REGION}"
        os.environ |= credentials(self.lab.launcher)
        return credentials(self.lab.launcher, self.flaky.port)

    def start_ray(self) -> None:
        """Ray on every host, anew."""
        self.start_head(HEAD)
        for name in WORKERS:
            self.start_worker(name)

    def start_head(self, name: str) -> None:
        """Ray on the host that leads."""
        self.leader = name
        self._ray(name, "--head --port=6379 --num-cpus=0 --include-dashboard=false")

    def start_worker(self, name: str) -> None:
        """Ray on a host that works, which joins the leader."""
        self._ray(name, f"--address={self.addresses[self.leader]}:6379 --num-cpus=2 "
                  f"--num-gpus={self._gpus.get(name, 0)}")  # fmt: skip

    def _ray(self, name: str, options: str) -> None:
        self.lab.run(name, "ray stop --force", check=False)
        self.lab.run(name, f"ray start {options} {self._options}")

    def fill_disk(self, name: str) -> str:
        """No room left on the host's disk with Ray's folder; how full it is."""
        self.lab.run(name, "dd if=/dev/zero of=/tmp/ray/fill bs=1M", check=False)
        return self.lab.run(name, "df --output=pcent /tmp/ray | tail -1").strip()

    def add(self, name: str, number: int, memory: int | None = None) -> None:
        """One more host, without Ray on it."""
        self.addresses[name] = self.lab.add(name, number, memory)

    def league(self, *arguments: object, name: str) -> "League":
        """Begin a league on the head."""
        return League(self, name, f"--name {name} --storage {self.storage} {' '.join(map(str, arguments))}")

    def close(self) -> None:
        """End the hosts."""
        self._ends.close()


@contextmanager
def rack(folder: Path, **settings: Any) -> Iterator[Rack]:
    """A new rack in a folder of its own, gone afterwards."""
    made = Rack(folder, **settings)
    try:
        yield made
    finally:
        made.close()


class League:
    """A run of the command on the rack's leader, and its sequels by --resume."""

    def __init__(self, rack: Rack, name: str, arguments: str):
        self.rack, self.name = rack, name
        self._log = rack.lab.folder / "logs" / f"league-{name}"
        self._arguments = arguments
        self.start()

    def start(self) -> None:
        """Begin it, or begin it again."""
        self._command(self._arguments)

    def _command(self, arguments: str) -> None:
        command = f"python -m duel.league --address auto --out ~/reports {arguments}"
        self.process: subprocess.Popen = self.rack.lab.start(self.rack.leader, command, self._log)

    def resume(self, *arguments: str) -> None:
        """Go on with it, on whatever host leads now."""
        self._command(f"--resume {self.name} {' '.join(arguments)}")

    @property
    def folder(self) -> Path:
        """The run's folder on the leader, as this machine sees it."""
        return self.rack.lab.home(self.rack.leader) / "reports" / self.name

    @property
    def printed(self) -> str:
        """All that the command has printed, of all its sequels."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def signal(self, name: str) -> None:
        """Send the driver a signal."""
        self.rack.lab.run(self.rack.leader, f"pkill -{name} -f '^python -m duel.league'", check=False)

    def wait(self, seconds: float = 600) -> int:
        """Its exit code."""
        return self.process.wait(seconds)

    def wait_until(self, moment: Callable[[], Any], seconds: float = 300) -> Any:
        """Until the moment has come; what it answers. RuntimeError if the league ends first."""
        end = time.monotonic() + seconds
        while not (found := moment()):
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"league {self.name}: the moment never came: {self.printed[-2000:]}")
            time.sleep(0.1)
        return found

    def at_work(self, host: str) -> str | None:
        """A trial that has reported from the host at least twice, and is to report again."""
        for path in self.folder.glob("tune/*/*/result.json"):
            reports = _lines(path)
            if len(reports) > 1 and reports[-1]["node_ip"] == self.rack.addresses[host] and not reports[-1]["done"]:
                return path.parent.name
        return None

    def reports(self, trial: str) -> list[dict[str, Any]]:
        """What Tune has had from a trial, in order, with its time (timestamp), node (node_ip) and process (pid)."""
        return [report for path in self.folder.glob(f"tune/*/{trial}/result.json") for report in _lines(path)]

    def processes(self, trial: str) -> int:
        """In how many processes a trial has been at work."""
        return len({(report["node_ip"], report["pid"]) for report in self.reports(trial)})

    def histories(self) -> dict[str, list[dict[str, Any]]]:
        """What every trial has reported that has not ended its stage, from the storage."""
        states = States(join(self.rack.direct, self.name), known(self.folder).get("id", ""))
        names = {path.parent.name for path in self.folder.glob("tune/*/*/params.json")}
        return {name: state["history"] for name in names if (state := states.of_trial(name))}


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1]]


def lost(league: League, undisturbed: Path, before: dict[str, list[dict[str, Any]]]) -> list[str]:
    """What a league lost or counted twice: tables that differ from the undisturbed run's, reports made again.

    before: the reports that there were when it happened.
    """
    found = [f"{name} differs" for name in TABLES
             if (league.folder / name).read_bytes() != (undisturbed / name).read_bytes()]  # fmt: skip
    ours, theirs = (pd.read_csv(folder / "trials.csv")[STABLE] for folder in (league.folder, undisturbed))
    if not ours.equals(theirs):
        found.append("trials.csv differs")
    for name, entries in before.items():
        metrics = league.folder / "models" / name / "metrics.json"
        if metrics.exists():
            final = json.loads(metrics.read_text(encoding="utf-8"))["history"]
            kept = [entry["seconds"] for entry in final[: len(entries)]]
            if kept != [entry["seconds"] for entry in entries][: len(final)]:
                found.append(f"{name} made reports again")
    return found


@contextmanager
def scratch(name: str) -> Iterator[Path]:
    """A new folder for racks, with short paths, as the sockets in it ask for; gone afterwards."""
    folder = Path("/tmp") / f"duel-{name}-{os.getpid()}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
