"""Hosts made of Linux namespaces on this machine, on which `ray up` works as on a rack of machines.

Each has its own address, processes, host name, home, /tmp/ray, /dev/shm and an sshd with key login.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from league_runs import ROOT

HERE = Path(__file__).resolve().parent
MEMORY_GROUPS = Path("/sys/fs/cgroup/memory")  # cgroup v1; on a machine without it hosts have no memory of their own
# What the machines of a cluster get of this project.
MOUNTED = ("duel", "sweeps", "pyproject.toml", "locked", "README.md", "LICENSE")
PROGRAMS = ("ip", "unshare", "nsenter", "mount", "rsync", "ssh-keygen", "/usr/sbin/sshd")


def copy_project(folder: Path, *more: str) -> None:
    """What the machines of a cluster get of this project, and more of its files by name, into a new folder."""
    folder.mkdir()
    for name in (*MOUNTED, *more):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)


def missing() -> str | None:
    """Why hosts can't be made on this machine; None where they can."""
    if os.getuid() != 0:
        return "hosts made of namespaces need root"
    if absent := [program for program in PROGRAMS if shutil.which(program) is None]:
        return f"hosts need {', '.join(absent)} (Debian: openssh-server, rsync, iproute2, util-linux)"
    layered = """cd "$(mktemp -d)" && mount -t tmpfs none . && cd "$PWD" && mkdir a b c d &&
        mount -t overlay -o lowerdir=a,upperdir=b,workdir=c none d && ip link add probe type bridge"""
    space = ["unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "sh", "-c", layered]
    tried = subprocess.run(space, capture_output=True, text=True, check=False)
    return f"namespaces can't be made here: {tried.stderr.strip()}" if tried.returncode else None


class Lab:
    """A bridge and the hosts on it; `folder` holds their keys and logs, `folder`/wheels what they may install.

    Several labs can be on one machine at once: each has a network of its own.
    """

    def __init__(self, folder: Path, environment: str = ""):
        self.folder, self.environment = folder, environment
        self.key = folder / "keys" / "id"
        self._addresses: dict[str, str] = {}
        self._first_processes: dict[str, subprocess.Popen] = {}
        for name in ("keys", "logs", "hosts", "wheels"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for key in (self.key, folder / "keys" / "host"):
            _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
        self._bridge, self.network = _free_network()
        self.launcher = f"{self.network}.1"  # this machine's own address among the hosts
        _run("ip", "addr", "add", f"{self.launcher}/24", "dev", self._bridge)
        _run("ip", "link", "set", self._bridge, "up")

    def add(self, name: str, number: int, memory: int | None = None) -> str:
        """Boot a host and wait for its sshd; returns its address. memory: bytes that it has, if not this machine's."""
        address, space = f"{self.network}.{number}", self._space(name)
        _run("ip", "netns", "add", space)
        _run("ip", "link", "add", space, "type", "veth", "peer", "name", "eth0", "netns", space)
        _run("ip", "link", "set", space, "master", self._bridge, "up")
        for command in (
            "link set lo up",
            f"addr add {address}/24 dev eth0",
            "link set eth0 up",
            "route add default dev eth0",
        ):  # leads nowhere, but Ray finds its own address by it
            _run("ip", "-n", space, *command.split())  # fmt: skip
        self._addresses[name] = address
        if memory is not None:
            group = MEMORY_GROUPS / space
            group.mkdir()
            (group / "memory.limit_in_bytes").write_text(str(memory))
        self._boot(name)
        return address

    def _boot(self, name: str) -> None:
        environment = {**os.environ, "NAME": name, "FOLDER": str(self.folder), "VENV": sys.prefix,
                       "PYTHON": sys.base_prefix, "HOST_ENVIRONMENT": self.environment}  # fmt: skip
        with open(self.folder / "logs" / f"init-{name}", "ab") as log:
            self._first_processes[name] = subprocess.Popen(
                [*self._limited(name), "ip", "netns", "exec", self._space(name), "unshare", "--mount", "--pid", "--uts",
                 "--ipc", "--fork", "--kill-child", HERE / "host_init.sh"],
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._wait_for_sshd(name, self._addresses[name])

    def _limited(self, name: str) -> list[str]:
        """Before a command: it has the host's memory, if that has a limit."""
        group = MEMORY_GROUPS / self._space(name) / "cgroup.procs"
        return ["sh", "-c", f'echo $$ > {group} && exec "$@"', "sh"] if group.exists() else []

    def _space(self, name: str) -> str:
        """What the host's network namespace, its end of the cable here and its memory group are called."""
        return f"{self._bridge}-{name}"

    def _wait_for_sshd(self, name: str, address: str) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end and self._first_processes[name].poll() is None:
            try:
                socket.create_connection((address, 22), timeout=1).close()
                return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError(f"{name} did not boot: {(self.folder / 'logs' / f'init-{name}').read_text()}")

    def run(self, name: str, *command: str, check: bool = True) -> str:
        """What a command prints that runs as root on a host, with the host's own environment."""
        return _run(*self._inside(name), " ".join(command), check=check)

    def start(self, name: str, command: str, log: Path) -> subprocess.Popen:
        """The same for a command that is not waited for; what it prints is added to `log`."""
        with open(log, "ab") as output:
            return subprocess.Popen([*self._inside(name), f"cd && {command}"], stdin=subprocess.DEVNULL, stdout=output,
                                    stderr=output)  # fmt: skip

    def home(self, name: str) -> Path:
        """The host's home folder, as this machine sees it."""
        return self.folder / "hosts" / name

    def _inside(self, name: str) -> list[str]:
        (first,) = self._children(name)
        home = f"HOME={Path('~root').expanduser()}"
        return [*self._limited(name), "nsenter", "-t", first, "-n", "-m", "-p", "-u", "-i", "env", home, "bash", "-lc"]

    def link(self, name: str, up: bool) -> None:
        """Cut a host off the network, or join it again."""
        _run("ip", "link", "set", self._space(name), "up" if up else "down")

    def reboot(self, name: str) -> None:
        """The host loses its power and comes back with the files of its home."""
        self._power_off(name)
        self._boot(name)

    def kill(self, name: str) -> None:
        """The host is gone at once, with all that ran on it and its files."""
        space = self._space(name)
        self._power_off(name)
        _run("ip", "link", "del", space)  # a namespace lingers until its last process is gone
        _run("ip", "netns", "del", space)
        shutil.rmtree(self.home(name))
        if (MEMORY_GROUPS / space).exists():
            (MEMORY_GROUPS / space).rmdir()

    def rays_folders(self, name: str) -> list[str]:
        """The mode of the folder that a cluster file puts Ray's in, and what is in Ray's own, which all can enter."""
        return self.run(name, "cd ~/.ray; stat -c %a .; ls -d ray; ls -A /tmp/ray").split()

    def received(self, name: str) -> int:
        """Bytes that have reached the host over its cable."""
        return int(Path(f"/sys/class/net/{self._space(name)}/statistics/tx_bytes").read_text())

    def kills_for_memory(self, name: str) -> int:
        """How many of a host's processes the kernel has killed because its memory was used up."""
        lines = (MEMORY_GROUPS / self._space(name) / "memory.oom_control").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))

    def _power_off(self, name: str) -> None:
        children, process = self._children(name), self._first_processes.pop(name)
        process.kill()  # --kill-child takes the first process, and the namespace ends with it
        process.wait()
        while any(Path(f"/proc/{child}").exists() for child in children):
            time.sleep(0.01)

    def _children(self, name: str) -> list[str]:
        """The host's first process, once there is one, as this machine numbers it."""
        outer = self._first_processes[name].pid
        try:
            return Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
        except FileNotFoundError:
            return []

    def close(self) -> None:
        """End every host, and the network."""
        for name in list(self._first_processes):
            self.kill(name)
        _run("ip", "link", "del", self._bridge)


def _free_network() -> tuple[str, str]:
    """A bridge that no other lab has, and the first three numbers of its network."""
    for number in range(256):
        bridge = f"lab{number}"
        done = subprocess.run(["ip", "link", "add", bridge, "type", "bridge"], capture_output=True, check=False)
        if done.returncode == 0:
            return bridge, f"10.77.{number}"
    raise RuntimeError("256 labs are on this machine already")


def _run(*command: object, check: bool = True) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr or done.stdout}")
    return done.stdout
