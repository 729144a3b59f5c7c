"""``models``, ``transfer``, ``evaluate`` and ``predict``: potentials by name, made, proved and used."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xclimb.cli.options import (
    Data,
    Device,
    Dtype,
    Functional,
    Json,
    Overwrite,
    read_data,
    resumed,
    run_settings,
    takes_label_keys,
)
from xclimb.cli.shell import INTERRUPTED, console, error_console, note
from xclimb.cli.tables import count, fresh_file, make_table, metrics_table, number, to_json, write_whole
from xclimb.errors import ConfigError

if TYPE_CHECKING:
    from xclimb.data.frames import Frames
    from xclimb.data.label_keys import LabelKeys

Source = Annotated[
    str,
    typer.Argument(metavar="POTENTIAL", help="A name of xclimb models, a run folder or a saved potential.", show_default=False),
]
_LABELS, _RUN = "Labels", "Training (other settings: --set name=value)"
_FORMATS = (".extxyz", ".json", ".parquet")


def models() -> None:
    """List the pre-trained potentials that can be named everywhere a potential is asked for.

    [bold]Example:[/bold] xclimb models
    """
    from xclimb.models.zoo import load, model_names

    table = make_table("name", "level of theory", "elements\nwith data", "parameters", "about", left=(0, 1, 4))
    for name, about in model_names().items():
        potential = load(name)
        described = potential.describe()
        table.add_row(
            name, str(potential.theory), str(int(potential.references.covered.sum())), count(described["parameters"]), about
        )
    console().print(table)
    console().print(
        "A run folder of xclimb transfer is named by its path: xclimb predict runs/residual-0 POSCAR", soft_wrap=True
    )


@takes_label_keys
def transfer(
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA",
            help="File, folder, store or a part of one (STORE:train), as for xclimb inspect; left out with --resume.",
            show_default=False,
        ),
    ] = None,
    functional: Functional = None,
    val: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="Frames to choose the best epoch by; left out: STORE:val for STORE:train, else a tenth of the materials.",
            show_default=False,
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--source", "-s", metavar="POTENTIAL", help="Potential to start from.", show_default="chgnet-0.3.0"),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method", "-m", metavar="METHOD", help="scratch, trainable, frozen, refit or residual.", show_default="residual"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FOLDER", help="Run folder, new or empty.", show_default="runs/METHOD-SEED"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run that is in the folder.")] = False,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Go on with an interrupted or killed run, settings as they were.", show_default=False
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Passes over the data; 0 only exchanges the references.", rich_help_panel=_RUN, show_default="50"
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", help="Same seed, same machine, same numbers.", rich_help_panel=_RUN, show_default="0"),
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="DEVICE", help="cpu, cuda, cuda:<n> or mps.", rich_help_panel=_RUN, show_default="cpu")
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option(metavar="N", help="Processes that share every batch.", rich_help_panel=_RUN, show_default="1"),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(metavar="DTYPE", help="float32 or float64.", rich_help_panel=_RUN, show_default="float32")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="YAML file of settings; options given here win over it.",
            rich_help_panel=_RUN,
            show_default=False,
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any other setting, repeatable: --set loss.energy=2",
            rich_help_panel=_RUN,
            show_default=False,
        ),
    ] = None,
    *,
    keys: "LabelKeys",
) -> None:
    """Transfer a pre-trained potential to the functional of labelled frames; leaves a run folder that can be used and reported.

    [bold]Example:[/bold] xclimb transfer data/r2scan --functional r2SCAN --method residual --epochs 50 --out runs/r2scan

    Ctrl-C and SIGTERM save the state and keep the best epoch so far; xclimb transfer --resume runs/r2scan goes on.
    """
    named = {"source": source, "method": method, "epochs": epochs, "seed": seed}
    named |= {"device": device, "devices": devices, "dtype": dtype}
    settings = run_settings(config, named, overrides or [])
    inputs: dict[str, Any] = {"data": data, "functional": functional, "val": val, **keys.arguments()}
    if resume is not None:
        if overwrite or out is not None:
            raise ConfigError("--resume names the folder that goes on: leave --out and --overwrite out")
        settings, inputs = resumed(resume, settings, inputs)
    if inputs["data"] is None:
        raise ConfigError("which data? give DATA: a file, folder, store or sample:dft_pairs")

    from xclimb.config import TransferConfig
    from xclimb.data.label_keys import LabelKeys
    from xclimb.data.stored_split import validation_part
    from xclimb.training.engine import first_process
    from xclimb.transfer.fit import run_transfer
    from xclimb.transfer.methods import get_method

    checked = TransferConfig.build(settings)
    get_method(checked.method).check(checked)
    if inputs["val"] is None and resume is None and (beside := validation_part(inputs["data"])) is not None:
        inputs["val"] = beside
        if first_process():
            note(f"validated on {beside}, of the same split: --val names other frames")
    keys = LabelKeys.from_arguments(inputs)
    train = read_data(inputs["data"], inputs["functional"], keys)
    held = read_data(inputs["val"], inputs["functional"], keys) if inputs["val"] is not None else None
    run = run_transfer(checked, train, held, resume or out, overwrite=overwrite, resume=resume is not None, inputs=inputs)
    if run.rank > 0:
        return  # one process talks
    for sentence in run.notes:
        note(sentence)
    screen = console()
    first, last = run.history[0]["val"], run.history[run.best_epoch]["val"]
    heads = ("energy\nMAE\nmeV/atom", "forces\nMAE\nmeV/Å", "stress\nMAE\nGPa", "magmom\nMAE\nµB")
    table = make_table("validation", *heads)
    for name, line in (("before training", first), (f"best epoch ({run.best_epoch} of {len(run.history) - 1})", last)):
        table.add_row(name, *(number(line[key], digits) for key, digits in _VALIDATED))
    screen.print(table)
    told = f"run folder: {run.path}\nuse it:     xclimb predict {run.path} POSCAR\nreport:     xclimb report {run.path}"
    screen.print(told, soft_wrap=True)  # to be copied whole
    if run.interrupted:
        error_console().print(
            f"interrupted: {run.path} holds the best epoch so far; go on with: xclimb transfer --resume {run.path}",
            soft_wrap=True,
        )
        raise typer.Exit(INTERRUPTED)


_VALIDATED = (("energy_mae", 1), ("forces_mae", 1), ("stress_mae", 3), ("magmom_mae", 3))


@takes_label_keys
def evaluate(
    potential: Source,
    data: Data,
    functional: Functional = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    json: Json = None,
    *,
    keys: "LabelKeys",
) -> None:
    """Errors of a potential on labelled frames: energy (meV/atom), forces (meV/Å), stress (GPa), magnetic moments (µB).

    [bold]Example:[/bold] xclimb evaluate runs/residual-0 test.extxyz --functional r2SCAN
    """
    from xclimb.analysis.metrics import evaluate as measure
    from xclimb.models.zoo import load

    loaded = load(potential, device, dtype)
    metrics = measure(loaded, read_data(data, functional, keys))
    if json:
        write_whole(fresh_file(json, overwrite=True), to_json(metrics.to_dict()))
    console().print(metrics_table([(potential, metrics)], first="potential"))
    for sentence in metrics.notes:
        note(sentence)


@takes_label_keys
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
            help="Write everything, forces included: .extxyz, .json or .parquet.",
            show_default=False,
        ),
    ] = None,
    functional: Functional = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    overwrite: Overwrite = False,
    *,
    keys: "LabelKeys",
) -> None:
    """Energy, forces, stress and magnetic moments of structures.

    [bold]Example:[/bold] xclimb predict chgnet-0.3.0 POSCAR other.cif --out predicted.extxyz
    """
    if out is not None:
        if out.suffix not in _FORMATS:
            raise ConfigError(f"cannot write {out}: the name must end in {', '.join(_FORMATS)}")
        fresh_file(out, overwrite)

    from xclimb.models.zoo import load

    loaded = load(potential, device, dtype)
    labelled = loaded.label(_structures(files, functional, keys))
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


def _structures(files: list[str], functional: str | None, keys: "LabelKeys") -> "Frames":
    """The structures of all files, without their labels."""
    import numpy as np

    from xclimb.data.frames import LABELS, Frames
    from xclimb.data.theory import LevelOfTheory

    bare: dict[str, Any] = dict.fromkeys(LABELS) | {"theory": LevelOfTheory(), "extras": {}}
    parts = [read_data(name, functional, keys).replace(**bare) for name in files]
    names = [np.array([name] if len(part) == 1 else part.frame_id) for name, part in zip(files, parts, strict=True)]
    return Frames.concatenate([part.replace(frame_id=ids) for part, ids in zip(parts, names, strict=True)])


def _rows(labelled: "Frames") -> list[tuple[str, ...]]:
    """One row a structure for the table."""
    import numpy as np

    from xclimb.units import ev_a3_to_gpa

    formulas, sizes = labelled.formulas(), labelled.n_atoms
    largest, moments = np.zeros(len(labelled)), np.zeros(len(labelled))
    np.maximum.at(largest, labelled.system, np.linalg.norm(labelled.forces, axis=1))
    np.add.at(moments, labelled.system, np.abs(labelled.magmoms))
    pressure = -np.trace(ev_a3_to_gpa(labelled.stress), axis1=1, axis2=2) / 3
    return [
        (
            str(labelled.frame_id[s]),
            str(formulas[s]),
            str(sizes[s]),
            number(labelled.energy[s], 4),
            number(labelled.energy[s] / sizes[s], 4),
            number(largest[s], 4),
            number(pressure[s], 3),
            number(moments[s], 3),
        )
        for s in range(len(labelled))
    ]


def _write(labelled: "Frames", out: Path) -> None:
    """Predictions to a file, whole or not at all."""
    if out.suffix == ".parquet":
        from xclimb.data.parquet import to_parquet

        to_parquet(labelled, out)
    elif out.suffix == ".json":
        write_whole(out, to_json({"theory": labelled.theory.to_dict(), "structures": _as_dicts(labelled)}))
    else:
        import io

        from ase.io import write

        text = io.StringIO()
        write(text, labelled.to_ase(), format="extxyz")
        write_whole(out, text.getvalue())


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
