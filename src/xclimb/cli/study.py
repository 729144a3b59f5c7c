"""``study NAME``: the studies of the registry, each with its own options."""

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from xclimb.cli.options import METHODS, DataOptions, NamesMethods, read_data, run_settings, takes_data_options
from xclimb.cli.shell import console
from xclimb.cli.splitting import By, GroupBy, NoCover, ValFraction, split_settings, study_split
from xclimb.errors import ConfigError, TrainingError

if TYPE_CHECKING:
    from xclimb.data.frames import Frames
    from xclimb.study import Study
    from xclimb.study.base import Plan, Trial
    from xclimb.study.run import StudyResult


class Studies(TyperGroup):
    """Commands of the registry of studies, which is imported only when one of them is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of all studies, and of the commands beside them."""
        self._add()
        return super().list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Look up a command."""
        self._add()
        return super().get_command(ctx, cmd_name)

    def _add(self) -> None:
        from typer.main import get_group

        from xclimb.study import STUDIES

        listed = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode="rich")
        for name, study in STUDIES.items():
            if name not in self.commands:
                listed.command(name, cls=NamesMethods, help=_help(study))(_command(study))
        if listed.registered_commands:
            self.commands = {**get_group(listed).commands, **self.commands}


study_app = typer.Typer(
    cls=Studies,
    help="Many transfers on the same data, and one table of their errors.",
    no_args_is_help=False,
    pretty_exceptions_enable=False,
)


@study_app.callback()
def _study() -> None:
    """Many transfers on the same data, and one table of their errors."""


def _help(study: "Study") -> str:
    examples = "\n\n".join(study.examples)
    return f"{study.summary}\n\n[bold]Examples:[/bold] {examples}" if examples else study.summary


def takes_settings(study: "Study") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Append an option for each setting of a study to a command, which gets those given as the argument ``options``."""
    described = study.settings.describe()

    def append(command: Callable[..., None]) -> Callable[..., None]:
        parameters = [one for one in signature(command).parameters.values() if one.name != "options"]
        for name, default, text in described:
            shown: Any = False if default is None else str(default)
            option = typer.Option(
                f"--{name.replace('_', '-')}", metavar="VALUE", help=text, show_default=shown, rich_help_panel="This study"
            )
            parameters.append(Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, option]))

        @wraps(command)
        def run(**arguments: Any) -> None:
            from xclimb.settings import parse_overrides

            given = {name: arguments.pop(name, None) for name, _, _ in described}
            command(**arguments, options=parse_overrides(f"{name}={text}" for name, text in given.items() if text is not None))

        run.__signature__ = signature(command).replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return append


def _command(study: "Study") -> Callable[..., None]:
    """Build the command of a study."""
    names = "LOW HIGH" if study.needs_low else "[LOW] HIGH"

    @takes_settings(study)
    @takes_data_options
    def run(
        data: Annotated[
            list[str] | None,
            typer.Argument(
                metavar=names,
                help="Data of the source's functional and, paired with them by frame_id, of the target functional.",
                show_default=False,
            ),
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
        ] = Path("studies") / study.name,
        methods: Annotated[
            str | None,
            typer.Option(
                metavar="NAME,...", help=f"Methods to compare: {METHODS}.", show_default=",".join(study.methods) or "all"
            ),
        ] = None,
        seeds: Annotated[str, typer.Option(metavar="N,N,...", help="One transfer for each method and seed.")] = "0,1,2",
        epochs: Annotated[int, typer.Option(min=0, metavar="N", help="Epochs of each transfer.")] = 50,
        source: Annotated[
            str, typer.Option("--source", "-s", metavar="POTENTIAL", help="Potential to start from.")
        ] = "chgnet-0.3.0",
        split: Annotated[
            Path | None,
            typer.Option(
                metavar="FILE", help="JSON file of a split; by default 70/10/20 % of the materials.", show_default=False
            ),
        ] = None,
        by: By = None,
        group: GroupBy = None,
        val_fraction: ValFraction = None,
        no_cover: NoCover = False,
        workers: Annotated[int, typer.Option(min=1, metavar="N", help="Transfers at a time.")] = 1,
        overrides: Annotated[
            list[str] | None,
            typer.Option(
                "--set",
                metavar="NAME=VALUE",
                help="Any setting of a transfer, repeatable: --set loss.energy=2",
                show_default=False,
            ),
        ] = None,
        overwrite: Annotated[bool, typer.Option("--overwrite", help="Run again what is finished.")] = False,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Only list the trials, with a forecast of their cost by a measured speed.")
        ] = False,
        prepare: Annotated[
            bool,
            typer.Option("--prepare", help="Only write the folder whose trials 'xclimb study trial FOLDER K' runs."),
        ] = False,
        *,
        reading: DataOptions,
        options: dict[str, Any],
    ) -> None:
        settings = run_settings(None, {}, overrides or [])
        chosen = as_seeds(seeds)
        how = split_settings(by, group, no_cover, None)
        if sample is not None and (how or val_fraction is not None):
            raise ConfigError("--sample brings its own split: leave what says how to split out")
        low, high = _study_data(study, data or [], sample, functional_low, functional_high, split, reading)
        parts = _sample_split(sample) if sample is not None else study_split(split, high, val_fraction, how)

        from xclimb.study.run import make_plan, run_plan

        named = None if methods is None else [name.strip() for name in methods.split(",")]
        plan = make_plan(study, high, parts, low, named, chosen, source, epochs, options, None, sample, **settings)
        if dry_run:
            _show_forecast(study.trials(plan), plan, workers)
            return
        if prepare:
            _write_trials(study.trials(plan), plan, out, workers, overwrite)
            return
        result = run_plan(study, plan, out, None, workers, overwrite, say=console().print)
        what = "frames" if getattr(parts, "by", "material") == "frame" else "materials"
        show_study(result, f"Test set: {what} that no training saw", functional_low)
        if result.failed:
            failed = ", ".join(result.failed)
            raise TrainingError(f"of the trials, {failed} failed (see above): the same command runs them again")

    return run


def _show_forecast(trials: "list[Trial]", plan: "Plan", workers: int) -> None:
    """Print the trials of a study, and what they cost."""
    from xclimb.cli.tables import count, make_table
    from xclimb.study.batch import forecast

    table = make_table("trial", "frames", "epochs")
    for trial in trials:
        table.add_row(trial.name, count(len(plan.sets.of(trial).train)), str(trial.config.epochs))
    console().print(table)
    cost = forecast(trials, plan)
    speed = f"at {count(round(cost.rate))} atoms/s, measured here on a short training"
    console().print(
        f"{count(cost.trials)} trials, about {count(cost.steps)} steps: about {cost.hours:.2g} hours with one worker, "
        f"{cost.hours / workers:.2g} with {workers} if each has cores of its own ({speed})",
        soft_wrap=True,
    )


def _write_trials(trials: "list[Trial]", plan: "Plan", out: Path, workers: int, overwrite: bool) -> None:
    """Write the folder of a study whose trials are run one by one."""
    from xclimb.study.batch import write_trials
    from xclimb.study.run import make_folder

    write_trials(trials, plan, make_folder(out, overwrite), workers)
    last = len(trials) - 1
    text = f"run each:   xclimb study trial {out} K      for K from 0 to {last}, in any order and number at a time"
    console().print(f"{text}\nthen table: the same command without --prepare", soft_wrap=True)


@study_app.command("trial")
def run_one(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Study folder written with --prepare.", show_default=False)],
    number: Annotated[int, typer.Argument(metavar="K", help="Number of the trial, from 0.", show_default=False)],
    threads: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Threads of torch.", show_default="those of --prepare --workers")
    ] = None,
) -> None:
    """Run one trial of a study, or go on with it: one job of a batch system.

    [bold]Example:[/bold] xclimb study scaling r2scan.extxyz --prepare --out s; xclimb study trial s 0
    """
    from xclimb.study.batch import run_listed

    name, interrupted = run_listed(folder, number, threads)
    if interrupted:
        raise KeyboardInterrupt
    console().print(f"{name}: finished")


def _sample_split(name: str) -> Any:
    from xclimb.data.samples import load_sample_split

    return load_sample_split(name)


def _study_data(
    study: "Study",
    data: list[str],
    sample: str | None,
    functional_low: str,
    functional_high: str,
    split: Path | None,
    reading: DataOptions,
) -> "tuple[Frames | None, Frames]":
    """The frames of both functionals, the lower ones None where they are not named.

    Raises:
        ConfigError: if no data are named, or too many.
    """
    least = 2 if study.needs_low else 1
    if sample is None and not least <= len(data) <= 2:
        names = "LOW and HIGH" if study.needs_low else "HIGH, or LOW and HIGH"
        raise ConfigError(f"a study needs data: give {names}, or --sample dft_pairs")
    if sample is not None and (data or split is not None):
        raise ConfigError("--sample brings its own data and split: leave LOW, HIGH and --split out")
    if sample is not None:
        from xclimb.data.samples import load_sample

        return load_sample(sample, functional_low), load_sample(sample, functional_high)
    of_low, of_high = reading.of_both()
    low = read_data(data[0], functional_low, of_low) if len(data) > 1 else None
    return low, read_data(data[-1], functional_high, of_high)


def as_seeds(text: str) -> tuple[int, ...]:
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


def show_study(study: "StudyResult", title: str, low: str) -> None:
    """Table, verdict, report, and how to use what came out."""
    from xclimb.cli.show import show_results
    from xclimb.report import StudyFolder, read_folder, write_report
    from xclimb.study import verdict_of

    screen = console()
    show_results(screen, study.rows, title, low)
    folder = read_folder(study.path)
    if isinstance(folder, StudyFolder):
        for sentence in verdict_of(folder):
            screen.print(sentence)
    page = write_report(study.path)
    screen.print(f"\nreport: {page}", style="bold", soft_wrap=True)
    best = best_run(study.path)
    if best is not None:
        screen.print(f"use the best potential:  xclimb predict {best} POSCAR", soft_wrap=True)
        screen.print(f'  or from Python, in ASE:  atoms.calc = xclimb.Calculator("{best}")', soft_wrap=True)


def best_run(folder: Path) -> Path | None:
    """Run folder with the smallest validation error of the energy; None if no run has one.

    Chosen by validation, not by the test set: what the table shows must not choose itself.
    """
    from xclimb.runs.folder import read_evaluation

    errors = {}
    for file in sorted(folder.glob("runs/*/evaluation.json")):
        validated = read_evaluation(file.parent).root.get("val")
        if validated is not None and validated.after.energy_mae is not None:
            errors[file.parent] = validated.after.energy_mae
    return min(errors, key=lambda run: errors[run]) if errors else None
