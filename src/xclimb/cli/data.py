"""``ingest``, ``inspect``, ``split``, ``export``: data in, contents, parts, data out."""

import os
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from xclimb.cli.options import (
    Data,
    DataOptions,
    Functional,
    Json,
    Overwrite,
    named_limits,
    pairs,
    read_data,
    takes_data_options,
)
from xclimb.cli.shell import console, error_console
from xclimb.cli.splitting import By, Gap, GroupBy, NoCover, ValFraction, read_joined, split_settings
from xclimb.cli.tables import count, fresh_file, listed, make_table, to_json, write_whole
from xclimb.errors import ConfigError, counted


@takes_data_options
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
        typer.Option(metavar="WHICH", help="Which energy of a file that has several.", show_default=False),
    ] = None,
    mix: Annotated[
        str,
        typer.Option(
            metavar="NAME,...", help="What files may differ in: cutoff, potcar, pseudopotentials, code, ...", show_default=False
        ),
    ] = "",
    steps: Annotated[str, typer.Option(metavar="WHICH", help="Ionic steps of VASP runs: all or last.")] = "all",
    by_theory: Annotated[
        bool, typer.Option("--by-theory", help="A store for each level of theory: STORE/PBE, STORE/r2SCAN, ...")
    ] = False,
    check: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=ACTION",
            help="What a check does, reject, warn or off: converged=warn, duplicate=off, outlier=reject (repeat).",
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
            metavar="POTENTIAL",
            help="Its predictions for a sample of the frames show wrong units and signs; none: no comparison.",
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
    workers: Annotated[int, typer.Option(min=0, metavar="N", help="Processes that read; 0: one a core.")] = 0,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="A Dask scheduler whose workers read instead.", show_default=False),
    ] = None,
    overwrite: Overwrite = False,
    *,
    reading: DataOptions,
) -> None:
    """Read calculations, check every frame, and keep the good ones in a store.

    Frames that cannot be used are listed by name and reason in the store's rejects.csv: nothing is lost in silence.
    The same command goes on with what an interrupted one left.

    [bold]Examples:[/bold] xclimb ingest run1/vasprun.xml more/*.extxyz --functional r2SCAN --out data/r2scan

    xclimb ingest MPtrj_2022.9_full.json --functional GGA/GGA+U --energy corrected --out data/mptrj

    xclimb ingest workflow/ --by-theory --out data     (data/PBEsol and data/r2SCAN: the two sides of xclimb shift)

    xclimb ingest --retry data/r2scan/rejects.csv --limit force=200
    """
    from xclimb.cli.show import show_ingest, show_passed
    from xclimb.data.theory import rung
    from xclimb.ingest import ingest as ingest_files
    from xclimb.ingest import ingest_by_theory
    from xclimb.ingest import retry as try_again

    watched = error_console().is_terminal
    many = workers or os.cpu_count() or 1
    limits, checks = named_limits(limit or []), pairs(check or [], "check")
    if retry is not None:
        if paths or append or scheduler:
            raise ConfigError("--retry reads what the table of rejects names: leave out PATHS, --append and --scheduler")
        summary = try_again(retry, out, limits=limits, checks=checks, progress=watched, workers=many, potential=potential)
    elif not paths or out is None:
        raise ConfigError("give what to read and --out, the folder of the store (see: xclimb ingest --help)")
    else:
        settings: dict[str, Any] = reading.arguments() | {
            "energy": energy, "steps": steps, "mix": mix, "limits": limits, "checks": checks, "energy_unit": energy_unit,
            "force_unit": force_unit, "stress_unit": stress_unit, "overwrite": overwrite, "progress": watched,
            "workers": many, "scheduler": scheduler, "potential": potential,
        }  # fmt: skip
        if by_theory:
            if settings.pop("only") or append:
                raise ConfigError("--by-theory makes a new store of each level: leave out --only and --append")
            stores = ingest_by_theory(list(paths), out, functional, **settings)
            show_passed(console(), next(iter(stores.values())).passed)  # the same of all
            for level, made in stores.items():
                console().print(level, style="bold")
                show_ingest(console(), made)
            if len(stores) > 1:
                low, high = sorted(list(stores.values())[:2], key=lambda made: rung(made.theory.functional))
                console().print(f"how far two are apart (LOW HIGH): xclimb shift {low.path} {high.path}", soft_wrap=True)
            return
        summary = ingest_files(list(paths), out, functional, append=append, **settings)
    show_passed(console(), summary.passed, summary.others)
    show_ingest(console(), summary)


@takes_data_options
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
    reading: DataOptions,
) -> None:
    """Write a store (or other data) to a file of another program; names, labels and level of theory go along.

    [bold]Examples:[/bold] xclimb export data/r2scan r2scan.extxyz

    xclimb export data/r2scan r2scan.parquet     (opens in Hugging Face datasets, pandas, polars)
    """
    from xclimb.data.export import export as write

    frames = read_data(data, functional, reading, labels="optional")
    path = write(frames, out, format, overwrite=overwrite)
    console().print(f"{counted(len(frames), 'frame')} at {frames.theory}: {path}", soft_wrap=True)


@takes_data_options
def split(
    data: Annotated[
        list[str],
        typer.Argument(metavar="DATA", help="A store, which keeps its split, or files and other data.", show_default=False),
    ],
    functional: Functional = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="JSON file of the split.", show_default="in the store; DATA.split.json of files"
        ),
    ] = None,
    ratios: Annotated[str, typer.Option(metavar="A:B:C", help="Shares of train, validation and test frames.")] = "8:1:1",
    subsets: Annotated[
        str, typer.Option(metavar="N,N,...", help="Sizes of nested subsets of train (of a store).", show_default=False)
    ] = "",
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Same seed, same split.")] = 0,
    by: By = None,
    group: GroupBy = None,
    val_fraction: ValFraction = None,
    no_cover: NoCover = False,
    gap: Gap = None,
    overwrite: Overwrite = False,
    *,
    reading: DataOptions,
) -> None:
    """Split data by material, or a trajectory into blocks of frames.

    A store keeps its split: STORE:train, STORE:val and STORE:test are data then. For files it is written beside them.

    [bold]Examples:[/bold] xclimb split data/r2scan --ratios 8:1:1 --subsets 1000,10000

    xclimb transfer data/r2scan:train-1000 --out runs/1000     (validated on data/r2scan:val)

    xclimb split md.extxyz -f r2SCAN; xclimb transfer md.extxyz -f r2SCAN --split md.split.json
    """
    from xclimb.comparison.intervals import FEWEST
    from xclimb.data.store import is_store, open_store
    from xclimb.data.stored_split import shares_of, split_data, split_store
    from xclimb.ingest.levels import check_wanted

    shares = shares_of(_numbers(ratios, ":", "ratios"), val_fraction)
    sizes = [int(size) for size in _numbers(subsets, ",", "subsets")]
    how = split_settings(by, group, no_cover, gap) | {"progress": error_console().is_terminal}
    in_store = len(data) == 1 and out is None and is_store(data[0])
    if in_store:
        theory = open_store(data[0]).theory
        check_wanted(theory, reading.only, functional, data[0])
        parts = split_store(data[0], shares, sizes, seed, overwrite=overwrite, **how)
        level = " -f FUNCTIONAL" if theory.functional is None and functional is None else ""
        test = f" --test {data[0]}:test" if "test" in parts.parts else ""
        named, whole, more = f"{data[0]}:", f"{data[0]}{level}", f"{data[0]}:train{test}{level}"
    else:
        if sizes:
            raise ConfigError("--subsets are parts of a store: make one with xclimb ingest, and split that")
        file = out or Path(data[0]).with_suffix(".split.json")
        frames = read_joined(data, functional, reading)
        parts = split_data(frames, file, shares, (), seed, overwrite=overwrite, **how)
        level = ("" if functional is None else f" -f {shlex.quote(functional)}") + reading.words()
        named, whole = "", f"{shlex.join(data)}{level}"
        more = f"{whole} --split {shlex.quote(str(file))}"
    table = make_table("part", "frames", "materials")
    for name, index in parts.parts.items():
        table.add_row(f"{named}{name}", count(len(index)), count(parts.materials[name]))
    console().print(table)
    if parts.split.names:
        console().print(f"moved to train, for their elements: {listed(parts.split.names)}", soft_wrap=True)
    if not in_store:
        console().print(f"split:    {file}", soft_wrap=True)
    console().print(f"train:    xclimb transfer {more}", soft_wrap=True)
    if parts.split.by == "material" and "val" in parts.parts and parts.materials["val"] < FEWEST:
        console().print(f"or, as val has too few materials to judge by, on all: xclimb transfer {whole}", soft_wrap=True)


def _numbers(text: str, between: str, option: str) -> list[float]:
    try:
        return [float(word) for word in text.split(between) if word]
    except ValueError:
        raise ConfigError(f"--{option} {text}: give numbers with {between!r} between them") from None


@takes_data_options
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
    reading: DataOptions,
) -> None:
    """Show what a data set holds: counts, elements, labels, histograms, level of theory, frames that cannot be used.

    [bold]Examples:[/bold] xclimb inspect sample:dft_pairs --functional r2SCAN

    xclimb inspect data/r2scan --out r2scan.html
    """
    from xclimb.cli.overview import overview
    from xclimb.cli.show import show_overview

    page = fresh_file(out, overwrite) if out is not None else None
    parts = overview(read_data(data, functional, reading, strict=False, labels="optional"))
    if json:
        write_whole(fresh_file(json, overwrite=True), to_json(parts))
    if page is not None:
        from xclimb.report.pages.data import data_page

        write_whole(page, data_page(data, parts))
    show_overview(console(), data, parts)
    if page is not None:
        console().print(f"page: {page}", soft_wrap=True)
