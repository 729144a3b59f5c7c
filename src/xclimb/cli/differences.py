"""``shift`` and ``stability``: how two functionals differ, before anything is trained."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xclimb.cli.options import (
    DataOptions,
    EndsHigh,
    EndsLow,
    FunctionalHigh,
    FunctionalLow,
    Json,
    Overwrite,
    PairBy,
    read_compared,
    read_ends,
    takes_data_options,
)
from xclimb.cli.shell import console, error_console
from xclimb.cli.tables import fresh_file, to_json, write_whole
from xclimb.errors import ConfigError

if TYPE_CHECKING:
    from xclimb.models.potential import Potential


@takes_data_options
def shift(
    low: Annotated[
        str,
        typer.Argument(
            metavar="LOW",
            help="Data of the lower functional: file, folder, store or sample:dft_pairs; or a potential (see xclimb models).",
            show_default=False,
        ),
    ],
    high: Annotated[
        str | None,
        typer.Argument(metavar="HIGH", help="Data of the higher functional; left out: LOW holds both.", show_default=False),
    ] = None,
    functional_low: FunctionalLow = None,
    functional_high: FunctionalHigh = None,
    by: PairBy = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            "-s",
            metavar="POTENTIAL",
            help="Its references are set beside the fitted ones.",
            show_default="LOW, if that is a potential",
        ),
    ] = None,
    ends_low: EndsLow = None,
    ends_high: EndsHigh = None,
    json: Json = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="Folder for a page, its figures, CSV tables and shift.json.",
            show_default=False,
        ),
    ] = None,
    overwrite: Overwrite = False,
    *,
    reading: DataOptions,
) -> None:
    """Measure how two functionals differ on the same structures: mean shift (eV/atom), share of each element, the rest.

    [bold]Examples:[/bold] xclimb shift pbe.extxyz r2scan.extxyz --low PBE --high r2SCAN

    xclimb shift sample:dft_pairs --low PBE --high r2SCAN --out shift

    xclimb shift relaxed_pbe/ relaxed_r2scan/ --low PBE --high r2SCAN --pair-by structure

    xclimb shift workflow/ --low PBEsol --high r2SCAN     (a folder that holds both)

    xclimb shift chgnet-0.3.0 r2scan.extxyz --high r2SCAN
    """
    from xclimb.cli.show import show_shift
    from xclimb.comparison.shift import shift as measure_shift

    if out is not None and not overwrite and (out / "shift.json").exists():
        raise ConfigError(f"{out} holds a shift already: give another folder with --out, or --overwrite to replace it")
    compared = read_compared(low, high, functional_low, functional_high, reading)
    of_low, of_high = reading.of_both()
    ends = read_ends(ends_low, functional_low, of_low), read_ends(ends_high, functional_high, of_high)
    report = measure_shift(*compared, by, _potential(source), *ends, progress=error_console().is_terminal)
    if json:
        write_whole(fresh_file(json, overwrite=True), to_json(report.to_dict()))
    page = None
    if out is not None:
        from xclimb.report.shift_files import write_shift

        page = write_shift(report, out)
    show_shift(console(), report)
    console().print(f"page: {page}" if page is not None else "a page with figures and tables: --out FOLDER", soft_wrap=True)


def _potential(name: str | None) -> "Potential | None":
    from xclimb.models.zoo import load

    return None if name is None else load(name)


@takes_data_options
def stability(
    low: Annotated[
        str,
        typer.Argument(
            metavar="LOW",
            help="Data of the first side (see xclimb shift); or a potential (see xclimb models).",
            show_default=False,
        ),
    ],
    high: Annotated[
        str | None,
        typer.Argument(metavar="HIGH", help="Data of the second side; left out: LOW holds both.", show_default=False),
    ] = None,
    functional_low: FunctionalLow = None,
    functional_high: FunctionalHigh = None,
    by: PairBy = None,
    ends_low: EndsLow = None,
    ends_high: EndsHigh = None,
    json: Json = None,
    *,
    reading: DataOptions,
) -> None:
    """Compare formation energies and distances to the convex hull; name the compounds that change side of the hull.

    Elements among the data are the end points, others are supplied. A potential is compared with calculations at any level.

    [bold]Examples:[/bold] xclimb stability sample:dft_pairs --low PBE --high r2SCAN

    xclimb stability chgnet-r2scan r2scan.extxyz --high r2SCAN --ends-high elements.extxyz
    """
    from xclimb.cli.show import show_stability
    from xclimb.comparison.stability import stability as measure_stability

    compared = read_compared(low, high, functional_low, functional_high, reading)
    of_low, of_high = reading.of_both()
    ends = read_ends(ends_low, functional_low, of_low), read_ends(ends_high, functional_high, of_high)
    report = measure_stability(*compared, *ends, by)
    if json:
        write_whole(fresh_file(json, overwrite=True), to_json(report.to_dict()))
    show_stability(console(), report)
