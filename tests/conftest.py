"""What end-to-end tests share."""

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from flaky import Flaky
from league_runs import TINY, TWO_SEASONS, UTKFACE, run_league


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Networks this small lose more to threads waiting for each other than they gain; and leagues run meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def faces_cache(tmp_path_factory) -> Path:
    """A faces cache for all tests of this session."""
    return tmp_path_factory.mktemp("cache")


# Whole leagues that tests read and none changes: the fixture of each, and what it asks of the command.
LEAGUES = {
    "tiny_run": ["--sweep", TINY, "--trials", 6, "--seed", 7],
    "two_seasons": TWO_SEASONS,
    "photographs": ["--sweep", TINY, "--trials", 2, "--faces", UTKFACE],
}


@pytest.fixture(scope="session", autouse=True)
def leagues(request, tmp_path_factory, faces_cache) -> Iterator[dict[str, Future]]:
    """The leagues that this session's tests want, one after another and meanwhile: most tests leave a core idle."""
    wanted = [name for name in LEAGUES if any(name in test.fixturenames for test in request.session.items)]
    if not UTKFACE.is_dir():
        wanted = [name for name in wanted if name != "photographs"]
    out = tmp_path_factory.mktemp("leagues")
    with ThreadPoolExecutor(1) as pool:
        yield {
            name: pool.submit(run_league, *LEAGUES[name], "--out", out, "--name", name, cache=faces_cache)
            for name in wanted
        }
        pool.shutdown(cancel_futures=True)


def ended(league: Future) -> tuple[Path, subprocess.CompletedProcess]:
    """The folder of a league, which has ended well, and what the command printed."""
    done = league.result()
    assert done.returncode == 0, done.stdout + done.stderr
    return Path(done.stdout.splitlines()[-1]).parent, done


@pytest.fixture(scope="session")
def tiny_run(leagues) -> tuple[Path, subprocess.CompletedProcess]:
    """A complete tiny league on drawn faces: its folder and what the command printed."""
    return ended(leagues["tiny_run"])


@pytest.fixture(scope="session")
def two_seasons(leagues) -> Path:
    """The folder of a complete tiny league of two seasons, with twins, guard and weather."""
    return ended(leagues["two_seasons"])[0]


@pytest.fixture(scope="session")
def photographs(leagues) -> Path:
    """The folder of a complete league of two on real photographs."""
    if "photographs" not in leagues:
        pytest.skip("shared/faces/utkface is not beside this checkout")
    return ended(leagues["photographs"])[0]


@pytest.fixture
def s3(monkeypatch, tmp_path) -> Iterator[Callable[[], tuple[str, Flaky]]]:
    """Makes a URI in an S3 server, and the proxy before it that fails on demand; as often as it is called."""
    server = pytest.importorskip("moto.server")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    import boto3

    host, port = running.get_host_and_port()
    boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1").create_bucket(Bucket="duel")
    proxies: list[Flaky] = []

    def make() -> tuple[str, Flaky]:
        proxies.append(Flaky((host, port)))
        folder = f"{tmp_path.name}/{len(proxies)}"  # all of moto's servers in one process share their buckets
        address = f"127.0.0.1:{proxies[-1].port}"
        return f"s3://duel/{folder}?endpoint_override={address}&scheme=http&region=us-east-1", proxies[-1]

    yield make
    for proxy in proxies:
        proxy.close()
    running.stop()
