"""The command line, `python -m duel.cluster`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from duel.cluster.check import faults
from duel.cluster.prices import hourly
from duel.config import read_settings
from duel.errors import UsageError

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback()
def cluster() -> None:
    """Look after the cluster that a league runs on."""


@app.command()
def check(file: Annotated[Path, typer.Argument(help="A file for `ray up`: provider aws or local.")]) -> None:
    """Say what is wrong with a cluster file, and what the cluster costs an hour, before `ray up` starts machines.

    Nothing is started and nobody is asked: not AWS, not the machines. Refused are machines open to the world,
    missing profiles and secrets, a head that takes trials, versions other than this checkout's, keys that nobody
    knows, and what is still to be filled in. Exit codes: 0 nothing found, 1 faults, 2 not a cluster file.

    \b
        python -m duel.cluster check cluster.yaml
    """
    try:
        config = read_settings(file, "the settings of a cluster, such as cluster_name and provider")
    except UsageError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(error.exit_code) from None
    found = faults(config, file.parent)
    for fault in found:
        print(f"{file}: {fault}", file=sys.stderr)
    if found:
        raise typer.Exit(1)
    print(f"{file}: nothing wrong was found\nprice: {hourly(config)}")


if __name__ == "__main__":
    app()
