"""``demo``, ``study methods`` and ``report``: the whole way at once, comparisons of methods, and the page made of them."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xclimb.cli.options import METHODS, NamesMethods, read_data, run_settings, takes_label_keys
from xclimb.cli.shell import console
from xclimb.cli.splitting import By, GroupBy, NoCover, ValFraction, split_settings, study_split
from xclimb.errors import ConfigError

if TYPE_CHECKING:
    from xclimb.data.frames import Frames
    from xclimb.data.label_keys import LabelKeys
    from xclimb.data.splits import Split
    from xclimb.study.methods import Study

_MOST_WORKERS = 5

study_app = typer.Typer(
    help="Compare methods on the same data, over several seeds.", no_args_is_help=False, pretty_exceptions_enable=False
)


def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where everything goes; a former demo's folder is continued.")
    ] = Path("xclimb-demo"),
    quick: Annotated[bool, typer.Option("--quick", help="Two epochs only: shows the way, not the accuracy.")] = False,
    seeds: Annotated[str, typer.Option(metavar="N,N,...", help="One transfer for each method and seed.")] = "0",
    epochs: Annotated[int | None, typer.Option(min=0, metavar="N", help="Epochs of each transfer.", show_default="12")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Transfers at a time.", show_default="one a core, 5 at most")
    ] = None,
) -> None:
    """The whole way on embedded DFT data, in minutes: shift, references, one transfer a method, table, report.

    [bold]Example:[/bold] xclimb demo --out my-demo
    """
    from xclimb.demo import EPOCHS, HIGH, LOW, QUICK_EPOCHS, SOURCE, Plan, fit_residual, load_pairs, transfer_all

    if quick and epochs is not None:
        raise ConfigError("--quick and --epochs exclude each other: give one")
    chosen = _seeds(seeds)
    passes = epochs if epochs is not None else QUICK_EPOCHS if quick else EPOCHS
    plan = Plan(out, chosen, passes, workers or min(os.cpu_count() or 1, _MOST_WORKERS))
    began = time.perf_counter()
    other = plan.prepare()
    screen = console()

    from xclimb.cli.show import name_gaps, show_shift
    from xclimb.comparison.shift import shift

    low, high = load_pairs()
    screen.print(f"1. How {LOW} and {HIGH} differ on {len(low)} frames that both computed", style="bold")
    show_shift(screen, shift(low, high))

    screen.print(f"\n2. Elemental references: what {SOURCE} leaves over of the {HIGH} energies", style="bold")
    references = fit_residual(high)
    screen.print(
        f"residual references: {len(references.std)} elements from {references.n_materials} materials, "
        f"{references.fit_mae:.1f} meV/atom left over, {references.held_out_mae:.1f} on materials held out"
    )
    name_gaps(screen, references)

    screen.print(
        f"\n3. Transfer of {SOURCE} to {HIGH}: {plan.epochs} epochs by each of {len(plan.methods)} methods, seeds {seeds}",
        style="bold",
    )
    study = transfer_all(plan, low, high, overwrite=other, say=screen.print)
    _show_study(study, f"Test set: materials that no training saw ({(time.perf_counter() - began) / 60:.1f} min)", LOW)


def _seeds(text: str) -> tuple[int, ...]:
    """``"0,1,2"`` -> (0, 1, 2).

    Raises:
        ConfigError: on anything but whole numbers from 0.
    """
    try:
        seeds = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--seeds {text!r} is no list of whole numbers: write --seeds 0,1,2") from None
    if min(seeds) < 0:
        raise ConfigError(f"--seeds {text!r} has a negative seed: seeds count from 0")
    return seeds


def _show_study(study: "Study", title: str, low: str) -> None:
    """Table, verdict, report, and how to use what came out."""
    from xclimb.cli.show import show_results
    from xclimb.report import StudyFolder, read_folder, write_report
    from xclimb.report.study_summary import study_verdict

    screen = console()
    show_results(screen, study.rows, title, low)
    folder = read_folder(study.path)
    if isinstance(folder, StudyFolder):
        for sentence in study_verdict(folder):
            screen.print(sentence)
    page = write_report(study.path)
    screen.print(f"\nreport: {page}", style="bold", soft_wrap=True)
    best = best_run(study)
    if best is not None:
        screen.print(f"use the best potential:  xclimb predict {best} POSCAR", soft_wrap=True)
        screen.print(f'  or from Python, in ASE:  atoms.calc = xclimb.Calculator("{best}")', soft_wrap=True)


def best_run(study: "Study") -> Path | None:
    """Run folder of the method with the smallest validation error of the energy; None if no run has one.

    Chosen by validation, not by the test set: what the table shows must not choose itself.
    """
    from xclimb.runs.schema import read_results

    rows = read_results(study.path).select(kind="method", split="val", metric="energy_mae", labels="target").rows
    errors = {f"{row.model}-{row.seed}": row.value for row in rows if row.value is not None}
    return study.path / "runs" / min(errors, key=lambda name: errors[name]) if errors else None


@study_app.callback()
def _study() -> None:
    """Compare methods on the same data, over several seeds."""


@study_app.command("methods", cls=NamesMethods)
@takes_label_keys
def methods(
    low: Annotated[
        str | None, typer.Argument(metavar="LOW", help="Data of the source's functional.", show_default=False)
    ] = None,
    high: Annotated[
        str | None,
        typer.Argument(metavar="HIGH", help="Data of the target functional, paired with LOW by frame_id.", show_default=False),
    ] = None,
    sample: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="An embedded sample with its own split, instead of LOW and HIGH: dft_pairs.",
            show_default=False,
        ),
    ] = None,
    functional_low: Annotated[
        str, typer.Option("--low", "--functional-low", metavar="NAME", help="Functional of LOW.")
    ] = "PBE",
    functional_high: Annotated[
        str, typer.Option("--high", "--functional-high", metavar="NAME", help="Functional of HIGH.")
    ] = "r2SCAN",
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="Study folder; the same call goes on where it ended.")
    ] = Path("studies/methods"),
    names: Annotated[
        str | None,
        typer.Option("--methods", metavar="NAME,...", help=f"Methods to compare: {METHODS}.", show_default="all"),
    ] = None,
    seeds: Annotated[str, typer.Option(metavar="N,N,...", help="One transfer for each method and seed.")] = "0,1,2",
    epochs: Annotated[int, typer.Option(min=0, metavar="N", help="Epochs of each transfer.")] = 50,
    source: Annotated[
        str, typer.Option("--source", "-s", metavar="POTENTIAL", help="Potential to start from.")
    ] = "chgnet-0.3.0",
    split: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="JSON file of a split; by default 70/10/20 % of the materials.", show_default=False),
    ] = None,
    by: By = None,
    group: GroupBy = None,
    val_fraction: ValFraction = None,
    no_cover: NoCover = False,
    workers: Annotated[int, typer.Option(min=1, metavar="N", help="Transfers at a time.")] = 1,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Any setting of a transfer, repeatable: --set loss.energy=2", show_default=False
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Run again what is finished.")] = False,
    *,
    keys: "LabelKeys",
) -> None:
    """Transfer by every method and seed; table of errors on held-out materials, verdict and report.

    [bold]Examples:[/bold] xclimb study methods --sample dft_pairs --seeds 0,1,2 --epochs 50 --out studies/dft

    xclimb study methods pbe.extxyz r2scan.extxyz --out studies/mine
    """
    settings = run_settings(None, {}, overrides or [])
    chosen = _seeds(seeds)
    how = split_settings(by, group, no_cover, None)
    if sample is not None and (how or val_fraction is not None):
        raise ConfigError("--sample brings its own split: leave what says how to split out")
    low_frames, high_frames = _study_data(low, high, sample, functional_low, functional_high, split, keys)
    if sample is not None:
        from xclimb.data.samples import load_sample_split

        parts: Split | Sequence[Sequence[str]] = load_sample_split(sample)
    else:
        parts = study_split(split, high_frames, val_fraction, how)

    from xclimb.study.methods import study_methods

    screen = console()
    study = study_methods(
        low_frames,
        high_frames,
        parts,
        out,
        methods=None if names is None else [name.strip() for name in names.split(",")],
        seeds=chosen,
        source=source,
        epochs=epochs,
        sample=sample,
        workers=workers,
        overwrite=overwrite,
        say=screen.print,
        **settings,
    )
    by_frame = getattr(parts, "by", "material") == "frame"
    _show_study(study, f"Test set: {'frames' if by_frame else 'materials'} that no training saw", functional_low)


def _study_data(
    low: str | None,
    high: str | None,
    sample: str | None,
    functional_low: str,
    functional_high: str,
    split: Path | None,
    keys: "LabelKeys",
) -> "tuple[Frames, Frames]":
    """The frames of both functionals.

    Raises:
        ConfigError: if no data are named, or too many.
    """
    if sample is None and (low is None or high is None):
        raise ConfigError("a study needs data: give LOW and HIGH, or --sample dft_pairs")
    if sample is not None and (low is not None or split is not None):
        raise ConfigError("--sample brings its own data and split: leave LOW, HIGH and --split out")
    if sample is not None:
        from xclimb.data.samples import load_sample

        return load_sample(sample, functional_low), load_sample(sample, functional_high)
    return read_data(str(low), functional_low, keys), read_data(str(high), functional_high, keys)


def report(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Folder of xclimb transfer, xclimb study or xclimb shift.", show_default=False),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="HTML file to write.", show_default="FOLDER/report.html")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show a training in text while it runs, before the page is made.")
    ] = False,
) -> None:
    """Make the report page: one HTML file with all figures, numbers and settings, out of the folder alone.

    [bold]Examples:[/bold] xclimb report runs/residual-0

    xclimb report runs/residual-0 --watch

    xclimb report shift
    """
    if watch:
        from xclimb.cli.watch import watch as watch_run

        watch_run(folder)
    from xclimb.report import write_report

    console().print(f"report: {write_report(folder, out)}", soft_wrap=True)
