"""An AWS account in moto, a server on the hosts' network."""

import base64
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

REGION, PORT, BUCKET = "us-west-2", 5000, "lab"


def credentials(host: str, port: int = PORT, key: str = "testing") -> dict[str, str]:
    """Environment variables by which AWS's clients find the account at an address, and are let in, whatever the key."""
    return {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": REGION,
    }  # fmt: skip


@contextmanager
def account(host: str, recording: Path | None = None) -> Iterator[None]:
    """Inside, a new account is served at the address, with one bucket. Its clients need `credentials`.

    recording: a file for all requests, which `asked_by` reads.
    """
    import boto3

    record = {"MOTO_ENABLE_RECORDING": "1", "MOTO_RECORDER_FILEPATH": str(recording)} if recording else {}
    server = subprocess.Popen([sys.executable, "-m", "moto.server", "-H", host, "-p", str(PORT)],
                              env=os.environ | record, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        _wait_for(f"http://{host}:{PORT}")
        s3 = boto3.client("s3", endpoint_url=f"http://{host}:{PORT}", region_name=REGION,
                          aws_access_key_id="testing", aws_secret_access_key="testing")  # fmt: skip
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        closed = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
        s3.put_public_access_block(Bucket=BUCKET, PublicAccessBlockConfiguration=dict.fromkeys(closed, True))
        yield
    finally:
        server.kill()
        server.wait()


def asked_by(recording: Path, key: str) -> Iterator[tuple[str, dict[str, str]]]:
    """What the holder of a key has asked of the account, as IAM names it, with the request's parameters."""
    for line in recording.read_text(encoding="utf-8").splitlines():
        request = json.loads(line)
        signed = request["headers"].get("Authorization", "")
        if f"Credential={key}/" not in signed:
            continue
        service = signed.split("Credential=")[1].split("/")[3]
        if service == "s3":
            yield _asked_of_s3(request)
        else:
            body = base64.b64decode(request["body"]).decode() if request["body_encoded"] else request["body"]
            target = request["headers"].get("X-Amz-Target", "").rpartition(".")[2]
            parameters = {} if target else dict(parse_qsl(body))
            yield f"{service}:{target or parameters['Action']}", parameters


def _asked_of_s3(request: dict[str, str]) -> tuple[str, dict[str, str]]:
    url = urlsplit(request["url"])
    parameters = dict(parse_qsl(url.query, keep_blank_values=True)) | {"key": url.path.removeprefix(f"/{BUCKET}/")}
    method = request["method"]
    if method == "GET" and "list-type" in parameters:
        return "s3:ListBucket", parameters
    if "delete" in parameters or method == "DELETE":
        return ("s3:AbortMultipartUpload" if "uploadId" in parameters else "s3:DeleteObject"), parameters
    return ("s3:GetObject" if method in ("GET", "HEAD") else "s3:PutObject"), parameters


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
