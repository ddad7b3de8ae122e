"""What a league does when its cluster fails: each fault in earnest, once, in the middle of a league."""

import json
import shutil
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rack import GIB, League, Rack, large_faces, long_trials, lost, rack, scratch

AWAY = 60  # seconds for which a storage is away
NOTICE = 20  # seconds between a spot machine's notice and its end
SPARE = 13  # number of a host that comes later


@dataclass(frozen=True)
class Fault:
    """A fault in words and in deed.

    strike: given a rack and a league with this trial at work on w1; says what was done and seen, and leaves the league
    such that it can end.
    prepare: what is done to the rack before the league. settings: how the rack differs.
    """

    title: str
    strike: Callable[[Rack, League, str], str]
    prepare: Callable[[Rack], None] = lambda rack: None
    settings: dict[str, Any] = field(default_factory=dict)


def worker_killed(rack: Rack, league: League, victim: str) -> str:
    rack.lab.run("w1", "pkill -9 -f 'ray::.*Trainable'")
    return "SIGKILL"


def raylet_killed(rack: Rack, league: League, victim: str) -> str:
    rack.lab.run("w1", "pkill -9 -x raylet")
    time.sleep(10)
    rack.start_worker("w1")
    return "SIGKILL; the node joined again 10 s later"


def network_cut(rack: Rack, league: League, victim: str) -> str:
    rack.lab.link("w1", up=False)
    league.wait_until(lambda: league.processes(victim) > 1)
    rack.lab.link("w1", up=True)
    return "cable out; in again when the trial had gone on"


def spot_taken(rack: Rack, league: League, victim: str) -> str:
    rack.lab.kill("w1")
    return f"host gone at once; {_another_comes(rack)}"


def spot_taken_with_notice(rack: Rack, league: League, victim: str) -> str:
    end = datetime.now(UTC) + timedelta(seconds=NOTICE)
    told = json.dumps({"action": "terminate", "time": end.strftime("%Y-%m-%dT%H:%M:%SZ")})
    (rack.lab.home("w1") / "notice.json").write_text(told, encoding="utf-8")
    time.sleep(NOTICE)
    heard = rack.lab.run("w1", "cat ~/notice.log")
    if "Ray starts nothing more" not in heard:
        raise RuntimeError(f"the notice was not heeded: {heard}")
    rack.lab.kill("w1")
    return f"notice heeded, host gone {NOTICE} s after it; {_another_comes(rack)}"


def _listen_for_notice(rack: Rack) -> None:
    """As on a spot machine: its metadata service, and `python -m duel.cluster notice`."""
    shutil.copy(Path(__file__).with_name("imds.py"), rack.lab.home("w1"))
    rack.lab.run("w1", "ip addr add 169.254.169.254/32 dev lo")
    logs = rack.lab.folder / "logs"
    rack.lab.start("w1", "exec python imds.py notice.json 169.254.169.254 80", logs / "imds")
    rack.lab.run("w1", "timeout 30 bash -c 'until : < /dev/tcp/169.254.169.254/80; do sleep 0.1; done'")
    rack.lab.start("w1", "exec python -m duel.cluster notice > notice.log 2>&1", logs / "notice")


def _another_comes(rack: Rack) -> str:
    time.sleep(10)
    rack.add("w3", SPARE)
    rack.start_worker("w3")
    return "a new node joined 10 s later"


def head_restarted(rack: Rack, league: League, victim: str) -> str:
    rack.lab.reboot("head")
    league.wait()
    rack.start_ray()
    league.resume()
    return "power off and on; Ray started again on all nodes; `--resume`"


def head_lost(rack: Rack, league: League, victim: str) -> str:
    rack.lab.kill("head")
    league.wait()
    rack.add("head2", SPARE)
    rack.start_head("head2")
    for name in ("w1", "w2"):
        rack.start_worker(name)
    league.resume(f"--storage {rack.storage}")
    return "host and disk gone; a new head, `--resume --storage` there"


def storage_fails(fault: str, told: str) -> Callable[[Rack, League, str], str]:
    def strike(rack: Rack, league: League, victim: str) -> str:
        rack.flaky.fail(fault, AWAY)
        return f"{told} for {AWAY} s"

    return strike


def disk_full(rack: Rack, league: League, victim: str) -> str:
    return f"the disk with Ray's folder {rack.fill_disk('w1')} full until the end"


def object_store_full(rack: Rack, league: League, victim: str) -> str:
    league.wait()
    told = rack.lab.run(rack.leader, "ray memory --stats-only", check=False)
    spilled = [" ".join(line.split()) for line in told.splitlines() if line.startswith("Spilled")]
    return f"stores of 80 MB for images of more; {spilled[0] if spilled else 'nothing was spilled'}"


def trial_hangs(rack: Rack, league: League, victim: str) -> str:
    (rack.lab.home("w1") / "hang").touch()
    return "Python's lock taken for good inside the trial; DUEL_HANG_MINUTES=0.5"


def _plant_hang(rack: Rack) -> None:
    """In w1's packages: a trial that finds the file ~/hang takes Python's lock and never gives it back."""
    plant = """
        import pathlib, site
        code = '''
        import ctypes, os, threading, time
        def watch(path=os.path.expanduser("~/hang")):
            while True:
                time.sleep(0.2)
                if os.path.exists(path) and b"Trainable" in open("/proc/self/cmdline", "rb").read():
                    os.unlink(path)
                    ctypes.PyDLL(None).sleep(100_000)
        threading.Thread(target=watch, daemon=True).start()
        '''
        packages = pathlib.Path(site.getsitepackages()[0])
        packages.joinpath("hanging.py").write_text(code)
        packages.joinpath("hanging.pth").write_text("import hanging")
    """
    (rack.lab.home("w1") / "plant.py").write_text(textwrap.dedent(plant), encoding="utf-8")
    rack.lab.run("w1", "python ~/plant.py")
    rack.start_worker("w1")


def out_of_memory(rack: Rack, league: League, victim: str) -> str:
    eat = "held = []\nwhile True: held.append(b'x' * (20 << 20)); time.sleep(0.05)"
    (rack.lab.home("w1") / "eat.py").write_text(f"import time\n{eat}\n", encoding="utf-8")
    rack.lab.run("w1", "echo -1000 > /proc/self/oom_score_adj; timeout 20 python ~/eat.py", check=False)
    return f"another program took the node's 3 GiB: {rack.lab.kills_for_memory('w1')} processes killed by the kernel"


def ctrl_c(times: int) -> Callable[[Rack, League, str], str]:
    def strike(rack: Rack, league: League, victim: str) -> str:
        begin = time.monotonic()
        for _ in range(times):
            league.signal("INT")
            time.sleep(0.5)
        code, seconds = league.wait(), time.monotonic() - begin
        said = "said" if "--resume" in league.printed else "did not say"
        league.resume()
        return f"exit {code} within {seconds:.1f} s, {said} how to go on; `--resume`"

    return strike


FAULTS = {
    "worker": Fault("trial's process killed", worker_killed),
    "raylet": Fault("raylet killed", raylet_killed),
    "network": Fault("node's network cut", network_cut),
    "spot": Fault("spot node taken without notice", spot_taken),
    "spot-notice": Fault("spot node taken with notice", spot_taken_with_notice, _listen_for_notice),
    "head": Fault("head restarted, driver gone", head_restarted),
    "head-lost": Fault("head lost, driver gone", head_lost),
    "s3-away": Fault("storage away", storage_fails("away", "S3 answers nobody"), settings={"s3": True}),
    "s3-busy": Fault("storage busy", storage_fails("busy", "S3 says 503"), settings={"s3": True}),
    "s3-slow": Fault("storage slow", storage_fails("slow", "S3 takes 4 s an answer"), settings={"s3": True}),
    "s3-cut": Fault("storage cuts connections", storage_fails("cut", "S3 stops amid answers"), settings={"s3": True}),
    "disk": Fault("disk full on one node", disk_full),
    "store": Fault("object store full", object_store_full, settings={"options": "--object-store-memory=80000000"}),
    "hang": Fault("a trial hangs", trial_hangs, _plant_hang, {"environment": {"DUEL_HANG_MINUTES": "0.5"}}),
    "memory": Fault("a trial out of memory", out_of_memory, settings={"memory": 3 * GIB}),
    "ctrl-c": Fault("Ctrl-C once", ctrl_c(1)),
    "ctrl-c-twice": Fault("Ctrl-C twice", ctrl_c(2)),
}
HEADER = "| fault | what was done | what was seen | lost |\n| --- | --- | --- | --- |"


def run_faults(names: list[str]) -> int:
    """Each fault in a rack of its own: a line each of a Markdown table; 1 if anything was lost."""
    with scratch("faults") as folder:
        usual = _undisturbed(folder, "usual", long_trials)
        large = _undisturbed(folder, "large", large_faces)
        print(HEADER, flush=True)
        results = [_one(folder, name, *(large() if name == "store" else usual())) for name in names]
    return int(not all(results))


def _one(folder: Path, name: str, sweep: Path, undisturbed: Path) -> bool:
    fault = FAULTS[name]
    try:
        with rack(folder / name, **fault.settings) as hosts:
            fault.prepare(hosts)
            begin = time.monotonic()
            league = _league(hosts, sweep, name)
            victim = league.wait_until(lambda: league.at_work("w1"))
            before, when = league.histories(), time.time()
            done = fault.strike(hosts, league, victim)
            code, seconds = league.wait(), time.monotonic() - begin
            went_on = f"{victim} {_went_on(league, victim, when)}"
            missing = lost(league, undisturbed, before) if code == 0 else [f"no report: exit {code}"]
            printed = league.printed
    except Exception as error:
        done, went_on, seconds, missing, printed = "", repr(error)[:3000], 0.0, ["the test broke"], ""
    print(f"| {fault.title} | {done} | {went_on}; report after {seconds:.0f} s | {', '.join(missing) or 'nothing'} |",
          flush=True)  # fmt: skip
    if missing:
        print(printed[-4000:], file=sys.stderr, flush=True)
    return not missing


def _went_on(league: League, trial: str, when: float) -> str:
    """Where and when a trial went on after a fault."""
    reports = league.reports(trial)
    if not reports or reports[0]["timestamp"] > when:
        return "went on with the driver's sequel"
    if league.processes(trial) < 2:
        return "went on in its process"
    last = (reports[-1]["node_ip"], reports[-1]["pid"])
    again = min(report["timestamp"] for report in reports if (report["node_ip"], report["pid"]) == last)
    return f"went on in another process {again - when:.0f} s later"


def _league(hosts: Rack, sweep: Path, name: str) -> League:
    return hosts.league("--sweep", sweep, "--trials", 6, "--cpus-per-trial", 2, "--seed", 7, name=name)


def _undisturbed(folder: Path, name: str, make: Callable[[Path], Path]) -> Callable[[], tuple[Path, Path]]:
    """A sweep file and the folder of its league that nothing has happened to, played once it is asked for."""
    kept, sweep = folder / f"{name}-run", folder / f"{name}.yaml"

    def get() -> tuple[Path, Path]:
        if not kept.exists():
            with rack(folder / name) as hosts:
                begin, league = time.monotonic(), _league(hosts, make(sweep), name)
                if league.wait() != 0:
                    raise RuntimeError(league.printed)
                shutil.copytree(league.folder, kept)
                print(f"{name} league, undisturbed: {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
        return sweep, kept

    return get
