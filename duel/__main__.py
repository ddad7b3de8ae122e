"""The command line of an installed duel, `duel` or `python -m duel`: each of its commands by one name.

A command's own module is imported when it is called and gets all that follows its name, so that its options, output
and exit codes are those of `python -m duel.league` and `python -m duel.cluster`, and help needs neither torch nor Ray.
"""

import sys
from importlib import import_module

import typer

from duel.output import Output

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True)
_WHOLE = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.callback()
def duel() -> None:
    """A league in which generators of faces meet detectors of fakes.

    \b
    A first try, about ten minutes on two CPU cores:
        duel league --sweep quick
    """


@app.command(context_settings=_WHOLE)
def league(context: typer.Context) -> None:
    """Run a league, or go on with one."""
    _pass_on(context, "duel.league")


@app.command(context_settings=_WHOLE)
def cluster(context: typer.Context) -> None:
    """Look after the cluster that a league runs on."""
    _pass_on(context, "duel.cluster.__main__")


def _pass_on(context: typer.Context, module: str) -> None:
    after = sys.argv.index(str(context.info_name)) + 1  # context.args would lack a --
    sys.argv = [sys.argv[0], *sys.argv[after:]]
    import_module(module).main(context.command_path)


def main() -> None:
    """Run the command that is named first."""
    sys.stdout, sys.stderr = Output(sys.stdout), Output(sys.stderr)
    app(prog_name=None if __name__ == "__main__" else "duel")


if __name__ == "__main__":
    main()
