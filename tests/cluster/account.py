"""An AWS account in moto, a server on the hosts' network."""

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

REGION, PORT, BUCKET = "us-west-2", 5000, "lab"


def credentials(host: str, port: int = PORT) -> dict[str, str]:
    """Environment variables by which AWS's clients find the account at an address, and are let in."""
    return {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": REGION,
    }  # fmt: skip


@contextmanager
def account(host: str) -> Iterator[None]:
    """Inside, a new account is served at the address, with one bucket. Its clients need `credentials`."""
    import boto3

    server = subprocess.Popen([sys.executable, "-m", "moto.server", "-H", host, "-p", str(PORT)],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        _wait_for(f"http://{host}:{PORT}")
        s3 = boto3.client("s3", endpoint_url=f"http://{host}:{PORT}", region_name=REGION,
                          aws_access_key_id="testing", aws_secret_access_key="testing")  # fmt: skip
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        yield
    finally:
        server.kill()
        server.wait()


def _wait_for(url: str) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
