"""The two ways duel fails, told apart by their exit codes."""


class DuelError(Exception):
    """Work that had started could not be finished. Exit code 1."""

    exit_code = 1


class UsageError(DuelError):
    """Bad usage, settings or input, found before any work starts. Exit code 2.

    The message names the file, key or flag, the value received and what is allowed.
    """

    exit_code = 2
