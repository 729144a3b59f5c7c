"""``models`` and ``transfer``: potentials by name, and made."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xclimb.cli.options import METHODS, DataOptions, Functional, is_finished, resumed, run_settings, takes_data_options
from xclimb.cli.shell import INTERRUPTED, console, error_console, note
from xclimb.cli.splitting import By, Gap, GroupBy, NoCover, ValFraction, apply_split, read_joined, split_settings
from xclimb.cli.tables import ERRORS, count, make_table, metrics_table, number
from xclimb.errors import ConfigError, counted

if TYPE_CHECKING:
    from rich.console import Console

    from xclimb.data.frames import Frames
    from xclimb.runs.folder import Run

_RUN = "Training (other settings: --set name=value)"


def models(
    methods: Annotated[
        bool, typer.Option("--methods", help="List the methods of transfer and their settings instead.")
    ] = False,
) -> None:
    """List the pre-trained potentials that can be named everywhere a potential is asked for.

    [bold]Examples:[/bold] xclimb models

    xclimb models --methods
    """
    if methods:
        _list_methods()
        return
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


def _list_methods() -> None:
    from xclimb.transfer.methods import METHODS, settings_rows

    table = make_table("method", "paper", "about", left=(0, 2))
    for method in METHODS.values():
        table.add_row(method.name, f"Method {method.paper}" if method.paper else "", method.summary)
    console().print(table)
    settings = make_table("setting", "of", "default", "about", left=(0, 1, 3))
    for name, setting, default, about in settings_rows():
        settings.add_row(setting, name, "unset" if default is None else str(default), about)
    console().print(settings)


@takes_data_options
def transfer(
    data: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DATA...",
            help="Files, folders, stores or parts of one (STORE:train), as for xclimb inspect; left out with --resume.",
            show_default=False,
        ),
    ] = None,
    functional: Functional = None,
    val: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DATA",
            help="Frames to choose the best epoch by (repeat); left out: STORE:val for STORE:train, else a tenth of DATA.",
            show_default=False,
        ),
    ] = None,
    test: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DATA", help="Frames whose errors end the run, once, before and after (repeat).", show_default=False
        ),
    ] = None,
    split: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="JSON file of xclimb split: what of DATA is held out.", show_default=False),
    ] = None,
    by: By = None,
    group: GroupBy = None,
    val_fraction: ValFraction = None,
    no_cover: NoCover = False,
    gap: Gap = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            "-s",
            metavar="POTENTIAL",
            help="Potential to start from; auto: see xclimb sources.",
            show_default="chgnet-0.3.0",
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method", "-m", metavar="METHOD", help=f"{METHODS}; settings: --set method.NAME=...", show_default="l2sp"
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
        typer.Option(metavar="N", help="Same seed, machine and threads: same numbers.", rich_help_panel=_RUN, show_default="0"),
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
    reading: DataOptions,
) -> None:
    """Transfer a pre-trained potential to the functional of labelled frames; leaves a run folder with its report page.

    [bold]Examples:[/bold] xclimb transfer data/r2scan --functional r2SCAN --epochs 50 --out runs/r2scan

    xclimb transfer md1.extxyz md2.extxyz -f r2SCAN --by frame --test other.extxyz

    Ctrl-C and SIGTERM save the state and keep the best epoch so far; xclimb transfer --resume runs/r2scan goes on.
    """
    named = {"source": source, "method": method, "epochs": epochs, "seed": seed}
    named |= {"device": device, "devices": devices, "dtype": dtype}
    put_aside = split_settings(by, group, no_cover, gap) | ({} if val_fraction is None else {"fraction": val_fraction})
    named |= {f"validation.{name}": value for name, value in put_aside.items()}
    settings = run_settings(config, named, overrides or [])
    inputs: dict[str, Any] = {"data": data or None, "functional": functional, **reading.arguments()}
    inputs |= {"val": val or None, "test": test or None, "split": None if split is None else str(split)}
    if resume is not None:
        if overwrite or out is not None:
            raise ConfigError("--resume names the folder that goes on: leave --out and --overwrite out")
        if not settings and is_finished(resume):  # a job that was queued again has nothing left to do
            error_console().print(f"finished already: {resume} (with more --epochs: how to train on)", soft_wrap=True)
            return
        settings, inputs = resumed(resume, settings, inputs)
    if not inputs["data"]:
        raise ConfigError("which data? give DATA: a file, folder, store or sample:dft_pairs")

    from xclimb.config import TransferConfig
    from xclimb.transfer.fit import run_transfer

    checked = TransferConfig.build(settings)
    train, held, tested = _transfer_sets(inputs, resume is not None)
    how: dict[str, Any] = {"overwrite": overwrite, "resume": resume is not None, "inputs": inputs, "test": tested}
    run = run_transfer(checked, train, held, resume or out, **how)
    if run.rank > 0:
        return  # one process talks
    for sentence in (*run.notes, *run.metrics.notes):
        note(sentence)
    screen = console()
    _show_errors(screen, run)
    screen.print(f"run folder: {run.path}\nuse it:     xclimb predict {run.path} POSCAR", soft_wrap=True)  # to be copied whole
    if run.interrupted:
        error_console().print(
            f"interrupted: {run.path} holds the best epoch so far; go on with: xclimb transfer --resume {run.path}",
            soft_wrap=True,
        )
        raise typer.Exit(INTERRUPTED)
    from xclimb.report import write_report

    screen.print(f"report:     {write_report(run.path)}", soft_wrap=True)


def _show_errors(screen: "Console", run: "Run") -> None:
    """Errors before training and at the best epoch; one row a set where the state before training was kept."""
    epochs, kept = len(run.history) - 1, run.best_epoch == 0
    rows: list[tuple[str, Mapping[str, Any]]] = [("before training", run.history[0]["val"])]
    if not kept:
        way = f", {100 * run.share:.0f} % of the way" if run.share < 1 else ""
        rows.append((f"epoch {run.best_epoch} of {epochs}{way}", run.metrics.to_dict()))
    heads = {attribute: header for attribute, header, _ in ERRORS}
    table = make_table("validation", *(heads[key] for key, _ in _VALIDATED))
    for name, line in rows:
        table.add_row(name, *(number(line.get(key), digits) for key, digits in _VALIDATED))
    screen.print(table)
    if run.test:
        tested = [(f"test, {when} training", metrics) for when, metrics in run.test.items() if when == "before" or not kept]
        screen.print(metrics_table(tested, first="test set, evaluated once"))
    if kept and epochs:
        sentence = f"none of {counted(epochs, 'epoch')} lowered the validation error: the potential before training was kept"
        screen.print(sentence, style="yellow", soft_wrap=True)


def _transfer_sets(inputs: dict[str, Any], resume: bool) -> "tuple[Frames, Frames | None, Frames | None]":
    """Training, validation and test frames that the command named, or that a split of theirs holds out."""
    from xclimb.data.stored_split import validation_part
    from xclimb.training.engine import first_process

    if inputs["val"] is None and not resume and all(beside := [validation_part(name) for name in inputs["data"]]):
        inputs["val"] = beside
        if first_process():
            note(f"validated on {' and '.join(map(str, beside))}, of the same split: --val names other frames")
    how = (inputs["functional"], DataOptions.from_arguments(inputs))
    train = read_joined(inputs["data"], *how)
    if inputs["split"] is not None:
        return apply_split(Path(inputs["split"]), train, val=inputs["val"], test=inputs["test"])
    held, tested = (None if inputs[name] is None else read_joined(inputs[name], *how) for name in ("val", "test"))
    return train, held, tested


_VALIDATED = (("energy_mae", 1), ("energy_within_mae", 1), ("forces_mae", 1), ("stress_mae", 3), ("magmom_mae", 3))
