"""``ingest``, ``inspect``, ``split``, ``export``: data in, what they hold, parts, data out."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xclimb.cli.options import Data, Functional, Json, Overwrite, named_limits, pairs, read_data, takes_label_keys
from xclimb.cli.shell import console, error_console
from xclimb.cli.tables import count, fresh_file, listed, make_table, to_json, write_whole
from xclimb.errors import ConfigError

if TYPE_CHECKING:
    from xclimb.data.frames import Frames
    from xclimb.data.label_keys import LabelKeys
    from xclimb.ingest.audit import Limits
    from xclimb.ingest.second_look import Findings, Group, Look


@takes_label_keys
def ingest(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATHS", help="Files, folders, stores, or patterns in quotes.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="STORE", help="Folder of the new store.", show_default=False)
    ] = None,
    functional: Functional = None,
    energy: Annotated[
        str | None,
        typer.Option(metavar="WHICH", help="uncorrected or corrected (JSON), e_0 or free (VASP).", show_default=False),
    ] = None,
    mix: Annotated[
        str,
        typer.Option(
            metavar="NAME,...", help="What files may differ in: cutoff, potcar, pseudopotentials, code, ...", show_default=False
        ),
    ] = "",
    steps: Annotated[str, typer.Option(metavar="WHICH", help="Ionic steps of VASP runs: all or last.")] = "all",
    check: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=ACTION",
            help="What a check does, reject, warn or off: outlier=reject, duplicate=off (repeat).",
            show_default=False,
        ),
    ] = None,
    energy_unit: Annotated[
        str | None,
        typer.Option(metavar="UNIT", help="Unit of energies, if not eV: Ha, Ry, kJ/mol, eV/atom, ...", show_default=False),
    ] = None,
    force_unit: Annotated[
        str | None,
        typer.Option(
            metavar="UNIT", help="Unit of forces, if not eV/Å: Ha/Bohr, ...; -eV/A for gradients.", show_default=False
        ),
    ] = None,
    stress_unit: Annotated[
        str | None,
        typer.Option(
            metavar="UNIT", help="Unit of stress, if not the format's usual: GPa, kbar; -kbar: VASP's sign.", show_default=False
        ),
    ] = None,
    potential: Annotated[
        str,
        typer.Option(
            metavar="POTENTIAL", help="What it predicts for a sample of the frames tells wrong units and signs; none: no look."
        ),
    ] = "chgnet-0.3.0",
    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=NUMBER",
            help="Beyond which a frame is not believed: force=50 (eV/Å), distance=0.7 (Å), ... (repeat).",
            show_default=False,
        ),
    ] = None,
    retry: Annotated[
        Path | None,
        typer.Option(metavar="REJECTS", help="Try the frames of a store's rejects.csv again.", show_default=False),
    ] = None,
    append: Annotated[bool, typer.Option("--append", help="Add to the store that is there.")] = False,
    workers: Annotated[int, typer.Option(metavar="N", help="Processes that read; 0: one a core.")] = 0,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="A Dask scheduler whose workers read instead.", show_default=False),
    ] = None,
    overwrite: Overwrite = False,
    *,
    keys: "LabelKeys",
) -> None:
    """Read calculations, check every frame, and keep the good ones in a store.

    Frames that cannot be used are listed by name and reason in the store's rejects.csv: nothing is lost in silence.
    The same command goes on with what an interrupted one left.

    [bold]Examples:[/bold] xclimb ingest run1/vasprun.xml more/*.extxyz --functional r2SCAN --out data/r2scan

    xclimb ingest MPtrj_2022.9_full.json --functional GGA/GGA+U --energy corrected --out data/mptrj

    xclimb ingest --retry data/r2scan/rejects.csv --limit force=200
    """
    from xclimb.cli.show import show_ingest
    from xclimb.ingest import ingest as ingest_files
    from xclimb.ingest import retry as try_again

    watched = error_console().is_terminal
    many = workers or os.cpu_count() or 1
    limits, checks = named_limits(limit or []), pairs(check or [], "check")
    if retry is not None:
        if paths or append or scheduler:
            raise ConfigError("--retry reads what the table of rejects names: leave out PATHS, --append and --scheduler")
        summary = try_again(retry, out, limits=limits, checks=checks, progress=watched, workers=many)
    elif not paths or out is None:
        raise ConfigError("give what to read and --out, the folder of the store (see: xclimb ingest --help)")
    else:
        summary = ingest_files(
            list(paths), out, functional, **keys.arguments(), energy=energy, steps=steps, mix=mix, limits=limits,
            checks=checks, energy_unit=energy_unit, force_unit=force_unit, stress_unit=stress_unit, overwrite=overwrite,
            append=append, progress=watched, workers=many, scheduler=scheduler,
            look=None if potential == "none" else _against(potential),
        )  # fmt: skip
    show_ingest(console(), summary)


def _against(potential: str) -> "Look":
    """A comparison with a potential; torch is imported when there is something to compare."""

    def look(parts: "Sequence[Frames]", groups: "Sequence[Group]", checks: Mapping[str, str], limits: "Limits") -> "Findings":
        from xclimb.ingest.second_look import ENOUGH, Findings

        if max(len(group.rows) for group in groups) < ENOUGH:
            return Findings()
        from xclimb.analysis.model_audit import ModelAudit

        return ModelAudit(potential)(parts, groups, checks, limits)

    return look


@takes_label_keys
def export(
    data: Data,
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="File to write: .extxyz, .db, .aselmdb or .parquet.", show_default=False)
    ],
    functional: Functional = None,
    format: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="extxyz, db, aselmdb or parquet, if the suffix does not say it.", show_default=False),
    ] = None,
    overwrite: Overwrite = False,
    *,
    keys: "LabelKeys",
) -> None:
    """Write a store (or other data) to a file of another program; names, labels and level of theory go along.

    [bold]Examples:[/bold] xclimb export data/r2scan r2scan.extxyz

    xclimb export data/r2scan r2scan.parquet     (opens in Hugging Face datasets, pandas, polars)
    """
    from xclimb.data.export import export as write

    frames = read_data(data, functional, keys)
    path = write(frames, out, format, overwrite=overwrite)
    console().print(f"{count(len(frames))} frames at {frames.theory}: {path}", soft_wrap=True)


def split(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="Folder of a store.", show_default=False)],
    ratios: Annotated[str, typer.Option(metavar="A:B:C", help="Shares of train, validation and test frames.")] = "8:1:1",
    subsets: Annotated[str, typer.Option(metavar="N,N,...", help="Sizes of nested subsets of train.", show_default=False)] = "",
    seed: Annotated[int, typer.Option(metavar="N", help="Same seed, same split.")] = 0,
    by: Annotated[str, typer.Option(metavar="WHAT", help="What stays together: material or composition.")] = "material",
    overwrite: Overwrite = False,
) -> None:
    """Split a store by material, and keep the split with it: STORE:train, STORE:val and STORE:test are data then.

    [bold]Example:[/bold] xclimb split data/r2scan --ratios 8:1:1 --subsets 1000,10000

    xclimb transfer data/r2scan:train-1000 --out runs/1000     (validated on data/r2scan:val)
    """
    from xclimb.data.stored_split import split_store

    shares, sizes = _numbers(ratios, ":", "ratios"), [int(size) for size in _numbers(subsets, ",", "subsets")]
    found = split_store(store, shares, sizes, seed, by, overwrite=overwrite)
    table = make_table("part", "frames", "materials")
    for name, index in found.parts.items():
        table.add_row(f"{store}:{name}", count(len(index)), count(found.materials[name]))
    console().print(table)
    if found.split.names:
        console().print(f"moved to train, for their elements: {listed(found.split.names)}", soft_wrap=True)


def _numbers(text: str, between: str, option: str) -> list[float]:
    try:
        return [float(word) for word in text.split(between) if word]
    except ValueError:
        raise ConfigError(f"--{option} {text}: give numbers with {between!r} between them") from None


@takes_label_keys
def inspect(
    data: Data,
    functional: Functional = None,
    json: Json = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="PAGE", help="Also a page with a periodic table, page.html.", show_default=False),
    ] = None,
    overwrite: Overwrite = False,
    *,
    keys: "LabelKeys",
) -> None:
    """Show what a data set holds: counts, elements, labels, histograms, level of theory, frames that cannot be used.

    [bold]Examples:[/bold] xclimb inspect sample:dft_pairs --functional r2SCAN

    xclimb inspect data/r2scan --out r2scan.html
    """
    from xclimb.cli.overview import overview
    from xclimb.cli.show import show_overview

    page = fresh_file(out, overwrite) if out is not None else None
    found = overview(read_data(data, functional, keys, strict=False))
    if json:
        write_whole(fresh_file(json, overwrite=True), to_json(found))
    if page is not None:
        from xclimb.report.data_page import data_page

        write_whole(page, data_page(data, found))
    show_overview(console(), data, found)
    if page is not None:
        console().print(f"page: {page}", soft_wrap=True)
