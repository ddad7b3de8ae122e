"""Ray on this machine alone: no other user and no other machine gets at its files, its sockets or its work.

Its files are in a private folder, see duel.cluster.folder. Its ports listen on loopback, where other users of the
machine still reach them: every call there needs the run's token. That is drawn anew by each process that starts Ray and
handed on in the environment, so no file holds it, and it is not the one in ~/.ray, which opens a cluster.
"""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from ray._private import ray_constants
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

from duel.cluster import folder, mps


@contextmanager
def alone(note: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Inside, ray.init starts Ray for this process alone, with the options given. UsageError as folder.make."""
    # Else Ray's start waits for the first worker processes: for ever and deaf to Ctrl-C, where none can start.
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    _take_token()
    files, spilled = folder.make(note)
    # What Ray asks before it offers itself to other machines; its own switch is a variable read at import, which would
    # hold for a cluster that is joined too. An address of 127.0.0.1 does not do: Ray replaces it.
    with mps.shared_gpus(), swapped(ray_constants, "ENABLE_RAY_CLUSTER", False):
        yield {"include_dashboard": False, "_temp_dir": str(files), "object_spilling_directory": str(spilled)}


@contextmanager
def swapped(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Inside, the attribute has another value."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _take_token() -> None:
    """Have Ray ask for this process' own token, here and in what starts here, whatever it was told or read before."""
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=_token())
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


@cache
def _token() -> str:
    return secrets.token_hex(32)
