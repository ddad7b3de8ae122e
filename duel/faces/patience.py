"""Reading from a mount that stutters: an error that may pass is met by another try before it is told."""

import errno
import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

_PAUSES = (0.1, 1.0)  # seconds before the second and the third try
_IN_ALL = 10.0  # seconds one Patience waits: of a mount that is gone, every file would take its time
# Not a matter of time: permissions, and what is not there or not of that kind.
_LASTING = frozenset(
    (errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG)
)


def is_read_error(error: Exception) -> bool:
    """Whether the system refused the bytes. Python's own complaints about broken bytes carry no errno."""
    return isinstance(error, OSError) and error.errno is not None


class Patience:
    """Calls a function again when it fails with a read error that may pass."""

    def __init__(self) -> None:
        self._left = _IN_ALL

    def __call__(self, read: Callable[[], Result]) -> Result:
        """Return read(); raises what its last try raised."""
        for pause in _PAUSES:
            try:
                return read()
            except OSError as error:
                if not is_read_error(error) or error.errno in _LASTING or pause > self._left:
                    raise
            self._left -= pause
            time.sleep(pause)
        return read()
