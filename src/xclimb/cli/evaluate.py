"""``evaluate``: errors of potentials on labelled frames, on the screen and as tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xclimb.cli.options import DataOptions, Device, Dtype, Functional, Json, Overwrite, read_data, takes_data_options
from xclimb.cli.shell import console, note
from xclimb.cli.tables import NONE, fresh_file, make_table, metrics_table, number, to_json, write_whole
from xclimb.errors import ConfigError

if TYPE_CHECKING:
    from xclimb.evaluation.frame_errors import FrameErrors

_SHOWN = 5  # worst frames on the screen


@takes_data_options
def evaluate(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="POTENTIAL... DATA",
            help="Potentials (names of xclimb models, run folders, saved ones), then the data: file, folder, store, part of a "
            "store (STORE:test), or sample:dft_pairs.",
            show_default=False,
        ),
    ],
    functional: Functional = None,
    fit_references: Annotated[
        bool,
        typer.Option(
            "--fit-references",
            help="Compare energies with residual references fitted to the other materials of the data (leave one out).",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER|FILE",
            help="Folder for tables: each frame, the worst, by element, by config_type; or a .csv or .parquet of each frame.",
            show_default=False,
        ),
    ] = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    json: Json = None,
    overwrite: Overwrite = False,
    *,
    reading: DataOptions,
) -> None:
    """Errors of potentials on labelled frames: energy (meV/atom), forces (meV/Å), stress (GPa), magnetic moments (µB).

    A potential for several functionals is taken at that of the labels.

    [bold]Example:[/bold] xclimb evaluate chgnet-0.3.0 runs/residual-0 test.extxyz --functional r2SCAN --out errors
    """
    if len(names) < 2:
        raise ConfigError(f"evaluate {names[0]} on which data, or with which potential? give POTENTIAL DATA")
    from xclimb.evaluation.frame_errors import frame_errors, save_errors
    from xclimb.models.zoo import load

    *potentials, data = names
    loaded = [load(name, device, dtype) for name in potentials]
    frames = read_data(data, functional, reading)
    level = frames.theory.functional
    loaded = [one.at(level) if level in one.functionals else one for one in loaded]
    many = [frame_errors(one, frames, fit_references=fit_references) for one in loaded]
    named = _distinct(potentials, many)
    if json:
        plain = {name: one.metrics.to_dict() for name, one in named.items()}
        write_whole(fresh_file(json, overwrite=True), to_json(plain if len(plain) > 1 else next(iter(plain.values()))))
    screen = console()
    screen.print(metrics_table([(name, one.metrics) for name, one in named.items()], first="potential"))
    groups = [
        (f"{name}: {group}" if len(named) > 1 else group, metrics)
        for name, one in named.items()
        for group, metrics in one.by_group().items()
    ]
    if groups:
        screen.print(metrics_table(groups, first="config_type"))
    if out is not None:
        _show_worst(named)
        for path in save_errors(list(named.values()), out, overwrite):
            screen.print(f"written: {path}", soft_wrap=True)
    for sentence in dict.fromkeys(sentence for one in many for sentence in one.metrics.notes):
        note(sentence)


def _distinct(potentials: Sequence[str], many: "list[FrameErrors]") -> "dict[str, FrameErrors]":
    """The errors by what the user called each potential, and called so."""
    from dataclasses import replace

    return {name: replace(one, name=name) for name, one in zip(potentials, many, strict=True)}


def _show_worst(named: "dict[str, FrameErrors]") -> None:
    for name, one in named.items():
        heads = ("formula", "energy\nerror\nmeV/atom", "forces\nMAE\nmeV/Å", "forces\nlargest\nmeV/Å", "stress\nMAE\nGPa")
        table = make_table("worst frames", *heads, title=name if len(named) > 1 else None, left=(0, 1))
        for row in one.worst(_SHOWN):
            numbers = (
                number(row["energy_error_meV_per_atom"], 1, sign=True),
                number(row["forces_mae_meV_per_A"], 1),
                number(row["forces_max_meV_per_A"], 1),
                number(row["stress_mae_GPa"], 3),
            )
            table.add_row(str(row["frame_id"]) or NONE, str(row["formula"]), *numbers)
        console().print(table)
