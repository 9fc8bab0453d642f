"""The command line: the commands put together, errors turned into exit codes."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import wbc_cli
from wbc_cli.commands.adapt import adapt
from wbc_cli.commands.cross_validation import cross_validate
from wbc_cli.commands.evidence import compare, monitor
from wbc_cli.commands.export import export
from wbc_cli.commands.guide import guide
from wbc_cli.commands.machine import bench, demo, doctor
from wbc_cli.commands.model import evaluate, train
from wbc_cli.commands.runs import analyze, merge, slurm
from wbc_cli.errors import ExitCode, WbcError
from wbc_cli.run.stopping import ignore_stopping
from wbc_cli.terminal.console import Terminal, secure_streams

app = typer.Typer(
    name="wbc-cli",
    help="Count, outline, type and explain white blood cells on stained smears.\n\n"
    "Not a diagnosis: results are for review by a qualified person.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    *(analyze, demo, merge, slurm, adapt, compare, monitor, export),
    *(evaluate, train, cross_validate, bench, doctor, guide),
):
    app.command()(command)


def main() -> None:
    """Run the command line and turn errors into exit codes."""
    secure_streams()
    try:
        _run()
    finally:
        ignore_stopping()  # a scheduler's signal would make a failure of what is done


def _run() -> None:
    try:
        app(standalone_mode=True)
    except WbcError as error:
        Terminal().err.print(f"wbc-cli: {error}", markup=False, highlight=False)
        sys.exit(error.exit_code)
    except OSError as error:
        Terminal().err.print(f"wbc-cli: {error}; check the disk and its permissions", markup=False, highlight=False)
        sys.exit(ExitCode.ENVIRONMENT)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)


def _version(wanted: bool) -> None:
    if wanted:
        Terminal().out.print(f"wbc-cli {wbc_cli.__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options of the program itself."""


if __name__ == "__main__":
    main()
