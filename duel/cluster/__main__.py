"""The command line, `python -m duel.cluster`."""

import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from duel.cluster.check import faults, shape
from duel.cluster.file import filled_in
from duel.cluster.prices import hourly
from duel.errors import DuelError, UsageError
from duel.output import Output
from duel.settings_file import read_settings

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback()
def cluster() -> None:
    """Look after the cluster that a league runs on."""


@app.command()
def check(file: Annotated[Path, typer.Argument(help="A file for `ray up`: provider aws or local.")]) -> None:
    """Say what is wrong with a cluster file, and what the cluster costs an hour, before `ray up` starts machines.

    Nothing is started and nobody is asked: not AWS, not the machines. Refused are machines open to the world,
    missing profiles and secrets, Ray's files where others on a machine reach them, workers that outlive their head,
    a head that takes trials, versions other than this checkout's, keys that nobody knows, and what is still to be
    filled in. Exit codes: 0 nothing found, 1 faults, 2 not a cluster file.

    \b
        python -m duel.cluster check cluster.yaml
    """
    config = _settings(file)
    found = faults(config, file.parent)
    for fault in found:
        print(f"{file}: {fault}", file=sys.stderr)
    if found:
        raise typer.Exit(1)
    print(f"{file}: nothing wrong was found\nprice: {hourly(config)}")


@app.command()
def prepare(
    file: Annotated[Path, typer.Argument(help="A file for `ray up` on AWS, like cluster.yaml.")],
    vpc: Annotated[str | None, typer.Option(metavar="ID", help="Network of the machines. Default: the region's default VPC.")] = None,
) -> None:  # fmt: skip
    """Make what cluster.yaml wants of your AWS account, and write the security group's ID into the file.

    Its metadata.fill_in says for whom (ssh_from) and where (region, bucket). Made, where they are missing: a private
    bucket; the roles NAME-head and NAME-worker, by cluster_name, with instance profiles, which may use duel/* in that
    bucket, and the head start such workers as the file has; and the security group NAME, open to SSH from ssh_from
    alone. Run it again when your address or the file's workers have changed. Refused is what is there under these
    names and is not this cluster's, and a bucket that is not yours or not closed to the public. It costs nothing by
    itself. Exit codes: 0 made, 1 refused by AWS or for what was found there, 2 wrong values.

    \b
        python -m duel.cluster prepare cluster.yaml
    """
    config = _settings(file)
    for fault in shape(config):
        _fail(UsageError(f"{file}: {fault}"))
    if config["provider"]["type"] != "aws":
        _fail(UsageError(f"{file}: provider.type: there is something to prepare on aws alone"))
    try:
        from duel.cluster import prepare as account
    except ImportError:
        _fail(UsageError("boto3 is missing: pip install -c constraints.txt boto3"))
    try:
        group = account.prepare(config, vpc, print)
    except DuelError as error:
        _fail(type(error)(f"{file}: {error}"))
    before = filled_in(config)["security_group"]
    if before != group:
        file.write_text(file.read_text(encoding="utf-8").replace(before, group), encoding="utf-8")
        print(f"{file}: security_group is {group} now")


@app.command()
def notice() -> None:
    """On a spot machine of AWS: wait for its notice, then have Ray start nothing more there.

    cluster.yaml starts it on every worker. The notice comes two minutes before the machine goes: what runs goes on
    until then, and is done again elsewhere from its last report. Exit codes: 0 Ray starts nothing more,
    1 this is no machine of AWS, or no Ray runs here.

    \b
        python -m duel.cluster notice
    """
    from duel.cluster.notice import METADATA, drain_this_node, wait_for_notice

    try:
        end = wait_for_notice()
    except OSError as error:
        _fail(DuelError(f"{METADATA} does not answer: this is no machine of AWS: {error}"))
    print(f"AWS takes this machine at {end:%Y-%m-%d %H:%M:%S} UTC", flush=True)
    try:
        drain_this_node(end)
    except DuelError as error:
        _fail(error)
    print("Ray starts nothing more on this machine")


def _settings(file: Path) -> dict[str, Any]:
    try:
        return read_settings(file, "the settings of a cluster, such as cluster_name and provider")
    except UsageError as error:
        _fail(error)


def _fail(error: DuelError) -> NoReturn:
    print(error, file=sys.stderr)
    raise typer.Exit(error.exit_code)


def main(program: str | None = None) -> None:
    """Run the command; program: what its help calls it."""
    sys.stdout, sys.stderr = Output(sys.stdout), Output(sys.stderr)
    app(prog_name=program)


if __name__ == "__main__":
    main()
