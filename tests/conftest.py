"""What end-to-end tests share."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flaky import Flaky
from league_runs import TINY, TWO_SEASONS, run_league


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    """A faces cache for all tests of this session."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory, cache) -> tuple[Path, subprocess.CompletedProcess]:
    """A complete tiny league on drawn faces: its folder and what the command printed."""
    out = tmp_path_factory.mktemp("reports")
    done = run_league("--sweep", TINY, "--trials", 6, "--out", out, "--name", "tiny", "--seed", 7, cache=cache)
    assert done.returncode == 0, done.stdout + done.stderr
    return out / "tiny", done


@pytest.fixture(scope="session")
def two_seasons(tmp_path_factory, cache) -> Path:
    """The folder of a complete tiny league of two seasons, with twins, guard and weather."""
    out = tmp_path_factory.mktemp("seasons")
    done = run_league(*TWO_SEASONS, "--out", out, "--name", "whole", cache=cache)
    assert done.returncode == 0, done.stdout + done.stderr
    return out / "whole"


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
