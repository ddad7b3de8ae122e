"""AWS's notice that it will take a spot machine, which comes two minutes ahead: Ray starts nothing more there."""

import json
import time
import urllib.request
from datetime import datetime
from http.client import HTTPException
from urllib.error import HTTPError

import ray

from duel.errors import DuelError
from duel.tasks import drain

METADATA = "http://169.254.169.254/latest"  # every EC2 machine's own
EVERY = 5.0  # seconds between questions, as AWS advises

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy reaches that address


def wait_for_notice() -> datetime:
    """When AWS takes this machine, once it says so. OSError if nobody answers the first question: no EC2 machine."""
    answered = False
    while True:
        try:
            if end := spot_end():
                return end
            answered = True
        except (HTTPException, HTTPError, ValueError, KeyError):
            answered = True  # if badly
        except OSError:
            if not answered:
                raise
        time.sleep(EVERY)


def spot_end() -> datetime | None:
    """When AWS takes this machine; None as long as it does not mean to. OSError if no metadata service answers."""
    token = _ask("PUT", "api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
    try:
        action = _ask("GET", "meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token})
    except HTTPError as error:
        if error.code == 404:
            return None
        raise
    return datetime.fromisoformat(json.loads(action)["time"])


def _ask(method: str, path: str, headers: dict[str, str]) -> str:
    request = urllib.request.Request(f"{METADATA}/{path}", method=method, headers=headers)
    with _direct.open(request, timeout=2) as answer:
        return answer.read().decode()


def drain_this_node(end: datetime) -> None:
    """Have Ray, which runs here, start nothing more on this node. DuelError if it does not run, or does not agree."""
    try:
        ray.init("auto", log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise DuelError(f"no Ray can be joined on this machine: {' '.join(str(error).split())[:300]}") from None
    drain(ray.get_runtime_context().get_node_id(), "AWS takes this spot machine", end)
