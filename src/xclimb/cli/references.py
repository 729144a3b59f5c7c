"""``references fit``, ``show`` and ``compare``: elemental reference energies."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xclimb.cli.options import Data, DataOptions, Functional, Json, Overwrite, read_data, takes_data_options
from xclimb.cli.shell import console, note
from xclimb.cli.tables import fresh_file, to_json, write_whole

if TYPE_CHECKING:
    from xclimb.references import AtomRef

references_app = typer.Typer(
    help="Fit, show and compare elemental reference energies (eV/atom).", no_args_is_help=False, pretty_exceptions_enable=False
)
_WHERE = "JSON file, run folder, or a name of xclimb models."
_Source = Annotated[str, typer.Argument(metavar="REFERENCES", help=_WHERE, show_default=False)]
_First = Annotated[str, typer.Argument(metavar="FIRST", help=f"References: {_WHERE}", show_default=False)]
_Second = Annotated[str, typer.Argument(metavar="SECOND", help="The references that FIRST is taken from.", show_default=False)]


@references_app.command("fit")
@takes_data_options
def fit(
    data: Data,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="JSON file to write; left out: only shown.", show_default=False),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="informed: prior over the periodic table and data; residual, robust: least squares; raw: to the energies.",
            show_default="informed with --potential, else raw",
        ),
    ] = None,
    potential: Annotated[
        str | None,
        typer.Option(
            "--potential",
            "-p",
            metavar="POTENTIAL",
            help="Potential whose network leaves over what is fitted.",
            show_default=False,
        ),
    ] = None,
    functional: Functional = None,
    overwrite: Overwrite = False,
    *,
    reading: DataOptions,
) -> None:
    """Fit references to labelled frames; elements without data are named.

    [bold]Example:[/bold] xclimb references fit sample:dft_pairs -f r2SCAN -p chgnet-0.3.0 --out refs.json
    """
    from xclimb.cli.show import show_references
    from xclimb.references import fit_references

    if out is not None:
        fresh_file(out, overwrite)
    frames = read_data(data, functional, reading)
    loaded = None
    if potential is not None:
        from xclimb.models.zoo import load

        loaded = load(potential)
    fitted = fit_references(frames, potential=loaded, kind=kind)
    if out is not None:
        fitted.save(out)
    show_references(console(), fitted, str(out or data))
    for sentence in fitted.notes:
        note(sentence)


@references_app.command("prior")
def prior(
    low: Annotated[str, typer.Argument(metavar="LOW", help="Functional of the potential: PBE, ...", show_default=False)],
    high: Annotated[str, typer.Argument(metavar="HIGH", help="Functional wanted: r2SCAN, ...", show_default=False)],
    potential: Annotated[
        str, typer.Option("--potential", "-p", metavar="POTENTIAL", help="Potential whose references are shifted.")
    ] = "chgnet-0.3.0",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="JSON file to write.", show_default=False)
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Show what is known of the references at another functional before any calculation, with its uncertainty.

    [bold]Example:[/bold] xclimb references prior PBE r2SCAN
    """
    from xclimb.cli.show import show_references
    from xclimb.data.theory import LevelOfTheory
    from xclimb.models.zoo import load
    from xclimb.references import prior_references

    if out is not None:
        fresh_file(out, overwrite)
    loaded = load(potential)
    known = prior_references(loaded, LevelOfTheory(low), LevelOfTheory(high))
    if out is not None:
        known.save(out)
    show_references(console(), known, str(out or potential))
    for sentence in known.notes:
        note(sentence)


@references_app.command("show")
def show(source: _Source) -> None:
    """Show references, their standard deviations and the elements that no data determined.

    [bold]Example:[/bold] xclimb references show chgnet-0.3.0
    """
    from xclimb.cli.show import show_references

    show_references(console(), _load(source), source)


@references_app.command("compare")
def compare(first: _First, second: _Second, json: Json = None) -> None:
    """Set two tables of references side by side: second minus first; elements without data are named.

    [bold]Example:[/bold] xclimb references compare chgnet-0.3.0 chgnet-r2scan
    """
    from xclimb.cli.show import show_comparison
    from xclimb.references import compare as compare_tables

    compared = compare_tables(_load(first), _load(second))
    if json:
        write_whole(fresh_file(json, overwrite=True), to_json(compared.to_dict()))
    show_comparison(console(), compared, Path(first).name, Path(second).name)


def _load(source: str) -> "AtomRef":
    """References out of a JSON file, a run folder, or those of a named potential."""
    from xclimb.references import AtomRef

    path = Path(source)
    if path.is_dir() and (path / "references.json").exists():
        path /= "references.json"
    if path.is_file() or path.suffix == ".json":
        return AtomRef.load(path)
    from xclimb.models.zoo import load

    return load(source).references
