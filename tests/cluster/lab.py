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

BRIDGE, NETWORK = "duel-lab", "10.77.0"
HERE = Path(__file__).resolve().parent
# What the machines of a cluster get of this project.
MOUNTED = ("duel", "sweeps", "pyproject.toml", "constraints.txt", "README.md")
PROGRAMS = ("ip", "unshare", "nsenter", "mount", "rsync", "ssh-keygen", "/usr/sbin/sshd")


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
    """A bridge and the hosts on it; `folder` holds their keys and logs, `folder`/wheels what they may install."""

    def __init__(self, folder: Path, environment: str = ""):
        self.folder, self.environment = folder, environment
        self.launcher = f"{NETWORK}.1"  # this machine's own address among the hosts
        self.key = folder / "keys" / "id"
        self._first_processes: dict[str, subprocess.Popen] = {}
        for name in ("keys", "logs", "hosts", "wheels"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for key in (self.key, folder / "keys" / "host"):
            _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
        _run("ip", "link", "add", BRIDGE, "type", "bridge")
        _run("ip", "addr", "add", f"{self.launcher}/24", "dev", BRIDGE)
        _run("ip", "link", "set", BRIDGE, "up")

    def add(self, name: str, number: int) -> str:
        """Boot a host and wait for its sshd; returns its address."""
        address = f"{NETWORK}.{number}"
        _run("ip", "netns", "add", name)
        _run("ip", "link", "add", f"v-{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
        _run("ip", "link", "set", f"v-{name}", "master", BRIDGE, "up")
        for command in (
            "link set lo up",
            f"addr add {address}/24 dev eth0",
            "link set eth0 up",
            "route add default dev eth0",
        ):  # leads nowhere, but Ray finds its own address by it
            _run("ip", "-n", name, *command.split())  # fmt: skip
        environment = {**os.environ, "NAME": name, "FOLDER": str(self.folder), "VENV": sys.prefix,
                       "PYTHON": sys.base_prefix, "HOST_ENVIRONMENT": self.environment}  # fmt: skip
        with open(self.folder / "logs" / f"init-{name}", "wb") as log:
            self._first_processes[name] = subprocess.Popen(
                ["ip", "netns", "exec", name, "unshare", "--mount", "--pid", "--uts", "--ipc", "--fork",
                 "--kill-child", HERE / "host_init.sh"],
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._wait_for_sshd(name, address)
        return address

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
        (first,) = Path(f"/proc/{self._first_processes[name].pid}/task/{self._first_processes[name].pid}/children"
                        ).read_text().split()  # fmt: skip
        home = f"HOME={Path('~root').expanduser()}"
        inside = ["nsenter", "-t", first, "-n", "-m", "-p", "-u", "-i", "env", home, "bash", "-lc"]
        return _run(*inside, " ".join(command), check=check)

    def link(self, name: str, up: bool) -> None:
        """Cut a host off the network, or join it again."""
        _run("ip", "link", "set", f"v-{name}", "up" if up else "down")

    def kill(self, name: str) -> None:
        """The host is gone at once, with all that ran on it and its files."""
        process = self._first_processes.pop(name)
        process.kill()  # --kill-child takes the first process, and the namespace ends with it
        process.wait()
        _run("ip", "link", "del", f"v-{name}")  # a namespace lingers until its last process is gone
        _run("ip", "netns", "del", name)

    def close(self) -> None:
        """End every host, and the network."""
        for name in list(self._first_processes):
            self.kill(name)
        _run("ip", "link", "del", BRIDGE)


def _run(*command: object, check: bool = True) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr or done.stdout}")
    return done.stdout
