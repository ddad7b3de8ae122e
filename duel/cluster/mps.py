"""CUDA's Multi-Process Service (MPS): trials that share a GPU compute at the same time, where else they take turns.

On an H100, four trials of dcgan together made 45,100 images a second without it and 62,400 with it; one alone made
48,600 and 43,500. A run on this machine has a daemon of its own, which ends with the run, however that ends. None is
started where one runs at CUDA's own place or the environment names one, nor with DUEL_MPS=0; where it does not work,
trials take turns. Nothing about the GPU itself is changed.

The price: a process' fatal fault on a GPU is the fault of all that share it, and the daemon takes no new processes
until these have ended. Their trials raise it, as `duel.device.machine_failed` is true of it, and Tune starts each
again in a new process. One that is killed amid its work may leave the others hanging: the watchdog ends those.

NVIDIA's description: https://docs.nvidia.com/deploy/mps/
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import glob
from pathlib import Path

from duel.cluster.folder import choose

CONTROL, OFF = "nvidia-cuda-mps-control", "DUEL_MPS"
PIPES, LOGS, VISIBLE = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY", "CUDA_VISIBLE_DEVICES"
DEFAULT = Path("/tmp/nvidia-mps")  # where CUDA looks for a daemon if PIPES is not set
DEVICES = "/dev/nvidia[0-9]*"  # as duel.device, which needs torch
START_SECONDS = 60  # the daemon's server opens all its GPUs, which can take some seconds each
END_SECONDS = 20

# Opens the first GPU, as trials will. A daemon can start and yet serve nobody, as on a GPU in MIG mode or one that
# another process has for itself: then CUDA fails in every process that asks it, and PyTorch takes that for no GPU.
PROBE = """
import ctypes
cuda, device, context = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(), ctypes.c_void_p()
fault = (cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(device), 0)
         or cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
raise SystemExit(1 if fault else 0)
"""

# Its input ends with the process that holds the other end, even one that is killed. What still uses the daemon then
# has ten seconds.
GUARD = 'read -r _; echo quit -t 10 | "$0"; rm -rf -- "$1"'

_guards: list[subprocess.Popen[bytes]] = []  # of the daemons that this process has started


@contextmanager
def shared_gpus() -> Iterator[None]:
    """Processes that start inside use a daemon of this process' own, until `end`; without one where none can be had.

    This process does not use it: what it has on a GPU would end with the daemon.
    """
    wanted = _start()
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def at_work() -> bool:
    """Whether this process has started a daemon, and not ended it."""
    return bool(_guards)


def end() -> None:
    """End the daemons that this process has started, and take their folders away."""
    while _guards:
        guard = _guards.pop()
        with suppress(subprocess.TimeoutExpired):  # it goes on by itself
            guard.communicate(timeout=END_SECONDS)


def _start() -> dict[str, str]:
    """Start a daemon and its guard; what its users need in their environment, which is nothing where there is none."""
    control = _control()
    if control is None:
        return {}
    folder = tempfile.mkdtemp(prefix="duel-mps-", dir=choose().sockets)  # $TMPDIR may be too long for sockets
    where = {PIPES: f"{folder}/pipe", LOGS: f"{folder}/log"}
    _guards.append(subprocess.Popen(["sh", "-c", GUARD, control, folder], env=os.environ | where,
                                    stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                    start_new_session=True))  # fmt: skip
    users = where | _renumbered()
    if _succeeds([control, "-d"], where) and _works(users):
        return users
    end()
    return {}


def _control() -> str | None:
    """The program that starts a daemon; None where none is wanted, is needed, or could do anything."""
    if os.environ.get(OFF) == "0" or os.environ.get(PIPES) or os.environ.get(VISIBLE) == "" or not glob(DEVICES):
        return None
    return None if _runs_already() else shutil.which(CONTROL)


def _runs_already() -> bool:
    """Whether there is a daemon where CUDA looks for one by itself; its files alone may be what one has left.

    Not one of another user but root: it serves that user alone, and anybody can make the files.
    """
    try:
        if DEFAULT.stat().st_uid not in (0, os.getuid()):
            return False
        process = int((DEFAULT / f"{CONTROL}.pid").read_text())
    except (OSError, ValueError):
        return False
    return Path(f"/proc/{process}").exists()


def _renumbered() -> dict[str, str]:
    """CUDA_VISIBLE_DEVICES for a daemon's users, if it stands in the daemon's environment: they count its GPUs."""
    visible = os.environ.get(VISIBLE)
    return {VISIBLE: ",".join(map(str, range(len(visible.split(",")))))} if visible else {}


def _works(environment: dict[str, str]) -> bool:
    """Whether a process with these variables can use a GPU."""
    return _succeeds([sys.executable, "-c", PROBE], environment)


def _succeeds(command: list[str], environment: dict[str, str]) -> bool:
    # In a session of its own, for the terminal's Ctrl-C is not meant for a daemon.
    try:
        done = subprocess.run(command, env=os.environ | environment, timeout=START_SECONDS, stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
                              check=False)  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def main() -> None:
    """Start one for all that this machine will run, where there is none and it works: for a cluster's workers."""
    os.environ.pop(VISIBLE, None)  # for Ray, too, counts all of the machine's GPUs
    control = _control()
    where = {PIPES: str(DEFAULT), LOGS: f"{DEFAULT}-log"}
    if control and _succeeds([control, "-d"], where) and not _works(where):
        _succeeds(["sh", "-c", GUARD, control, str(DEFAULT)], where)


if __name__ == "__main__":
    main()
