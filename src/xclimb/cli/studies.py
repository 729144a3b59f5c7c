"""``demo`` and ``report``: the whole way at once, and the page of a folder."""

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from xclimb.cli.shell import console
from xclimb.cli.study import as_seeds, show_study
from xclimb.errors import ConfigError

_MOST_WORKERS = 5


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
    chosen = as_seeds(seeds)
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
    show_study(study, f"Test set: materials that no training saw ({(time.perf_counter() - began) / 60:.1f} min)", LOW)


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
