"""Another user of this machine, as far as root can be one."""

import os
from collections.abc import Callable

import pytest

NOBODY = 65534


def as_another_user(action: Callable[[], object]) -> str:
    """Do something in a child process as another user; the class of what it raised, or "" where it went well."""
    if os.getuid() != 0:
        pytest.skip("only root can act as another user")
    answer, child_end = os.pipe()
    child = os.fork()
    if child == 0:
        fault = "could not become another user"
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            fault = ""
            action()
        except BaseException as error:
            fault = fault or type(error).__name__
        finally:
            os.write(child_end, fault.encode())
            os._exit(0)
    os.close(child_end)
    with os.fdopen(answer) as said:
        text = said.read()
    os.waitpid(child, 0)
    return text
