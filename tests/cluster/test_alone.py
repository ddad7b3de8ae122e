"""Ray on this machine alone, really started, once: in bad surroundings, and attacked by another user and a client."""

import itertools
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from league_runs import ROOT
from users import as_another_user

DRIVER = """
import json, os, sys
import duel.tasks
from duel.cluster.connection import connect, disconnect, wait_for
from duel.tasks import sized, why_waiting
notes = []
cluster = connect(None, notes.append)
import ray
room = {"cpu": 1, "gpu": 0.0}
node = ray._private.worker._global_node
answer = wait_for(lambda: sized(os.getenv, room).remote("RAY_AUTH_TOKEN"), room, notes.append)
print(json.dumps({
    "address": ray.get_runtime_context().gcs_address, "sockets": os.path.dirname(node.raylet_socket_name),
    "session": node.get_session_dir_path(), "spills": json.loads(node._object_spilling_config), "notes": notes,
    "joined": cluster.joined, "token": os.environ["RAY_AUTH_TOKEN"], "workers": answer,
    "waits": [why_waiting(room), why_waiting({"cpu": 4096, "gpu": 0.0})]}), flush=True)
sys.stdin.read()
disconnect()
"""
CLIENT = """
import sys
from ray._raylet import GcsClient
print(len(GcsClient(address=sys.argv[1]).get_all_node_info(timeout=20)), "nodes")
"""


@pytest.fixture(scope="module")
def bad(tmp_path_factory) -> dict[str, str]:
    """A long TMPDIR, a home that can't be written, the secret of a cluster, a proxy that is not there."""
    long = tmp_path_factory.mktemp(80 * "a")
    long.chmod(0o700)
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "grpc_proxy"), "http://127.0.0.1:9")
    return {**proxies, "TMPDIR": str(long), "HOME": "/proc/nohome", "RAY_AUTH_TOKEN_PATH": "/proc/nosecret"}


@pytest.fixture(scope="module")
def driver(bad) -> Iterator[subprocess.Popen]:
    """The process that has started Ray; its input ends it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = {**clean, **bad, "RAY_worker_niceness": "0"}
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, b"caf\xe9"], cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    yield process
    process.stdin.close()
    process.wait(timeout=60)


@pytest.fixture(scope="module")
def told(driver) -> dict[str, Any]:
    """What the driver says of its Ray."""
    line = driver.stdout.readline()
    assert line, "it did not start"
    return json.loads(line)


def processes(driver: subprocess.Popen) -> list[psutil.Process]:
    """The driver and all that it has started."""
    return [psutil.Process(driver.pid), *psutil.Process(driver.pid).children(recursive=True)]


def private(told: dict[str, Any]) -> Path:
    return Path(told["session"]).parent.parent


def test_it_starts_and_says_where_its_files_go(told, bad):
    assert not told["joined"]
    [note] = told["notes"]
    assert "too long for Ray's sockets" in note
    assert len(f"{told['sockets']}/plasma_store") < 108
    assert private(told).parent == Path("/tmp")


def test_spilled_objects_are_private_and_where_there_is_room(told, bad):
    folder = Path(told["spills"]["params"]["directory_path"])
    assert folder.parent.parent == Path(bad["TMPDIR"])
    assert folder.parent.stat().st_mode & 0o777 == 0o700


def test_it_listens_on_loopback_alone(told, driver):
    found = {(each.name(), line.laddr.ip) for each in processes(driver) for line in each.net_connections("inet")
             if line.status == psutil.CONN_LISTEN}  # fmt: skip
    assert {"gcs_server", "raylet"} <= {name for name, _ in found}
    assert {ip.removeprefix("::ffff:") for _, ip in found} == {"127.0.0.1"}


def test_another_user_gets_at_no_file_and_no_socket(told, driver):
    assert private(told).stat().st_mode & 0o777 == 0o700
    sockets = [path for path in Path(told["sockets"]).iterdir() if stat.S_ISSOCK(path.stat().st_mode)]
    assert sockets
    for action in (
        lambda: os.listdir(private(told)),
        lambda: os.listdir(told["session"]),
        lambda: os.mkdir(f"{told['session']}/logs/x"),
        *(lambda path=path: socket.socket(socket.AF_UNIX).connect(str(path)) for path in sockets),
        lambda: Path(f"/proc/{driver.pid}/environ").read_text(),
    ):
        assert as_another_user(action) == "PermissionError"


def test_the_token_is_the_runs_own_and_in_no_file_and_no_command(told, driver):
    assert told["workers"] == told["token"] and len(told["token"]) == 64
    assert not any(told["token"] in part for each in processes(driver) for part in each.cmdline())
    found = subprocess.run(["grep", "-rls", told["token"], private(told)], capture_output=True, text=True, check=False)
    assert found.stdout == ""


@pytest.mark.parametrize("token", ["none", "another", "the run's"])
def test_a_client_without_the_token_is_refused(told, token):
    given = {"none": {"RAY_AUTH_MODE": "disabled"}, "another": {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": 64 * "a"},
             "the run's": {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": told["token"]}}[token]  # fmt: skip
    done = subprocess.run([sys.executable, "-c", CLIENT, told["address"]], env={**os.environ, **given},
                          capture_output=True, text=True, check=False, timeout=60)  # fmt: skip
    if token == "the run's":
        assert done.stdout == "1 nodes\n", done.stderr
    else:
        assert done.stdout == "" and "AuthenticationError" in done.stderr, done.stderr[-500:]


def test_no_port_runs_anything_without_the_token(told, driver):
    grpc = pytest.importorskip("grpc")
    calls = ("CoreWorkerService/PushTask", "ObjectManagerService/Push", "NodeManagerService/GetNodeStats",
             "InternalKVGcsService/InternalKVPut")  # fmt: skip
    ports = {line.laddr.port for each in processes(driver) for line in each.net_connections("inet")
             if line.status == psutil.CONN_LISTEN}  # fmt: skip
    said = set()
    for port, call in itertools.product(sorted(ports), calls):
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(f"/ray.rpc.{call}")(b"", timeout=10)
        said.add((call, refused.value.code().name))
    assert {(call, "UNAUTHENTICATED") for call in calls} <= said
    # The rest is asked for at a port of something else; the agent of runtime environments speaks no gRPC.
    assert {code for _, code in said} <= {"UNAUTHENTICATED", "UNIMPLEMENTED", "UNAVAILABLE"}


def test_a_wait_is_explained(told):
    begun, never = told["waits"]
    assert "ulimit" in begun and f"{told['session']}/logs" in begun
    assert "waiting for a node with 4096 CPUs" in never and "--cpus-per-trial" in never


def test_it_leaves_nothing(told, driver, bad):
    driver.stdin.close()
    assert driver.wait(timeout=60) == 0
    assert not private(told).exists()
    assert not list(Path(bad["TMPDIR"]).glob("duel-ray-*"))


def test_ray_is_new_enough():
    from duel.cluster.surroundings import OLDEST_RAY

    assert tuple(map(int, ray.__version__.split(".")[:2])) >= OLDEST_RAY
