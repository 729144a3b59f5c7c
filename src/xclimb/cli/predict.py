"""``predict``: energies, forces, stress and magnetic moments of structures in files."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xclimb.cli.options import DataOptions, Device, Dtype, Overwrite, read_data, takes_data_options
from xclimb.cli.shell import console
from xclimb.cli.tables import fresh_file, make_table, number, to_json, write_whole
from xclimb.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from xclimb.data.frames import Frames

Source = Annotated[
    str,
    typer.Argument(metavar="POTENTIAL", help="A name of xclimb models, a run folder or a saved potential.", show_default=False),
]
_FORMATS = (".extxyz", ".traj", ".db", ".json", ".parquet", ".csv")
_COLUMNS = (
    "structure", "formula", "n_atoms",
    "energy_eV", "energy_eV_per_atom", "largest_force_eV_per_A", "pressure_GPa", "magmoms_muB",
)  # fmt: skip


@takes_data_options
def predict(
    potential: Source,
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILES", help="Structures: POSCAR, CIF, extxyz, ... (labels are not needed).", show_default=False
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Write everything, forces included: .extxyz, .traj, .db, .json, .parquet; .csv for the table.",
            show_default=False,
        ),
    ] = None,
    functional: Annotated[
        str | None,
        typer.Option(
            "--functional",
            "-f",
            metavar="NAME",
            help="Functional of the prediction, of a potential for several; left out: the one it is made for.",
            show_default=False,
        ),
    ] = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    overwrite: Overwrite = False,
    *,
    reading: DataOptions,
) -> None:
    """Energy, forces, stress and magnetic moments of structures.

    [bold]Examples:[/bold] xclimb predict chgnet-0.3.0 POSCAR other.cif --out predicted.extxyz

    xclimb predict runs/multifidelity-0 POSCAR --functional PBE
    """
    if out is not None:
        if out.suffix not in _FORMATS:
            raise ConfigError(f"cannot write {out}: the name must end in {', '.join(_FORMATS)}")
        fresh_file(out, overwrite)

    from xclimb.models.zoo import load

    loaded = load(potential, device, dtype)
    if functional is not None:
        loaded = loaded.at(functional)
    labelled = loaded.label(_structures(files, reading))
    table = make_table(
        "structure",
        "formula",
        "atoms",
        "energy\neV",
        "energy\neV/atom",
        "largest\n|force|\neV/Å",
        "pressure\nGPa",
        "|magmom|\nµB",
        left=(0, 1),
    )
    for row in _rows(labelled):
        table.add_row(*row)
    console().print(f"{loaded.name}, {loaded.theory}")
    console().print(table)
    if out is not None:
        _write(labelled, out)
        console().print(f"written: {out}", soft_wrap=True)


def _structures(files: list[str], reading: DataOptions) -> "Frames":
    """The structures of all files, without their labels."""
    import numpy as np

    from xclimb.data.frames import LABELS, Frames
    from xclimb.data.theory import LevelOfTheory
    from xclimb.formats.detect import expanded

    files = [str(path) for name in files for path in expanded(name)]
    bare: dict[str, Any] = dict.fromkeys(LABELS) | {"theory": LevelOfTheory(), "extras": {}}
    parts = [read_data(name, None, reading, labels="ignored").replace(**bare) for name in files]
    names = [np.array([name] if len(part) == 1 else part.frame_id) for name, part in zip(files, parts, strict=True)]
    return Frames.concatenate([part.replace(frame_id=ids) for part, ids in zip(parts, names, strict=True)])


def _columns(labelled: "Frames") -> "list[np.ndarray]":
    """Values of each structure in table and CSV, in the order of ``_COLUMNS``."""
    import numpy as np

    from xclimb.units import ev_a3_to_gpa

    largest, moments = np.zeros(len(labelled)), np.zeros(len(labelled))
    np.maximum.at(largest, labelled.system, np.linalg.norm(labelled.forces, axis=1))
    np.add.at(moments, labelled.system, np.abs(labelled.magmoms))
    pressure = -np.trace(ev_a3_to_gpa(labelled.stress), axis1=1, axis2=2) / 3
    energy, sizes = np.asarray(labelled.energy), labelled.n_atoms
    return [np.asarray(labelled.frame_id), labelled.formulas(), sizes, energy, energy / sizes, largest, pressure, moments]


def _rows(labelled: "Frames") -> list[tuple[str, ...]]:
    """One row a structure for the table."""
    columns = _columns(labelled)
    words = [column.astype(str).tolist() for column in columns[:3]]
    numbers = [[number(x, digits) for x in column] for column, digits in zip(columns[3:], (4, 4, 4, 3, 3), strict=True)]
    return list(zip(*words, *numbers, strict=True))


def _write(labelled: "Frames", out: Path) -> None:
    """Predictions to a file, whole or not at all."""
    if out.suffix == ".json":
        write_whole(out, to_json({"theory": labelled.theory.to_dict(), "structures": _as_dicts(labelled)}))
    elif out.suffix == ".csv":
        write_whole(out, _as_csv(labelled))
    elif out.suffix == ".traj":
        from ase.io.trajectory import Trajectory

        beside = out.with_name(f".{out.name}.{os.getpid()}.new")
        try:
            with Trajectory(str(beside), "w") as steps:
                for atoms in labelled.to_ase():
                    steps.write(atoms)
            os.replace(beside, out)
        finally:
            beside.unlink(missing_ok=True)
    else:
        from xclimb.data.export import export

        export(labelled, out, overwrite=True)


def _as_csv(labelled: "Frames") -> str:
    """One line a structure, the numbers of the table in full."""
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(zip(*(column.tolist() for column in _columns(labelled)), strict=True))
    return text.getvalue()


def _as_dicts(labelled: "Frames") -> list[dict[str, Any]]:
    cut = labelled.offsets
    return [
        {
            "structure": str(labelled.frame_id[s]),
            "numbers": labelled.numbers[cut[s] : cut[s + 1]],
            "energy_eV": float(labelled.energy[s]),
            "forces_eV_per_A": labelled.forces[cut[s] : cut[s + 1]],
            "stress_eV_per_A3": labelled.stress[s],
            "magmoms_muB": labelled.magmoms[cut[s] : cut[s + 1]],
        }
        for s in range(len(labelled))
    ]
