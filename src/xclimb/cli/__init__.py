"""The command line: the words of the Python API, thin enough to parse, call and print.

Nothing heavy is imported before a command runs, so that ``xclimb --help`` answers at once.
"""

import os
import warnings
from typing import Annotated

import typer

from xclimb.cli.data import export, ingest, inspect, split
from xclimb.cli.differences import shift, stability
from xclimb.cli.evaluate import evaluate
from xclimb.cli.options import FormatsCommand, NamesMethods
from xclimb.cli.potentials import models, transfer
from xclimb.cli.predict import predict
from xclimb.cli.references import references_app
from xclimb.cli.shell import Shell
from xclimb.cli.sources import sources
from xclimb.cli.studies import demo, report
from xclimb.cli.study import study_app

__all__ = ["app", "main"]

_START, _DATA, _TRAIN, _USE = "Start here", "Data and levels of theory", "Transfer and proof", "Use a potential"

app = typer.Typer(
    name="xclimb",
    cls=Shell,
    help="Transfer universal interatomic potentials from one exchange-correlation functional to a better one.",
    epilog="Every command has its own help: xclimb transfer --help. Energies in eV, lengths in Å, stress in GPa on the screen.",
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> bool:
    if wanted:
        from xclimb import __version__

        typer.echo(f"xclimb {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and all warnings (as XCLIMB_DEBUG=1 does).")] = False,
) -> None:
    if debug:
        os.environ["XCLIMB_DEBUG"] = "1"
        warnings.simplefilter("default")


app.command(rich_help_panel=_START)(demo)
app.command(rich_help_panel=_START)(models)
app.command(rich_help_panel=_DATA, cls=FormatsCommand)(ingest)
app.command(rich_help_panel=_DATA)(inspect)
app.command(rich_help_panel=_DATA)(split)
app.command(rich_help_panel=_DATA)(export)
app.command(rich_help_panel=_DATA)(shift)
app.command(rich_help_panel=_DATA)(stability)
app.add_typer(references_app, name="references", rich_help_panel=_DATA)
app.command(rich_help_panel=_TRAIN)(sources)
app.command(rich_help_panel=_TRAIN, cls=NamesMethods)(transfer)
app.command(rich_help_panel=_TRAIN)(evaluate)
app.add_typer(study_app, name="study", rich_help_panel=_TRAIN)
app.command(rich_help_panel=_TRAIN)(report)
app.command(rich_help_panel=_USE)(predict)


def main() -> None:
    """Run the command line; the entry point of the ``xclimb`` program."""
    app(prog_name="xclimb")
