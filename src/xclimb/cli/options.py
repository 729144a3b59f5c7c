"""Arguments and options that several commands share, and how their data are read."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from xclimb.data.label_keys import LabelKeys
from xclimb.errors import ConfigError

if TYPE_CHECKING:
    from xclimb.data.frames import Frames
    from xclimb.ingest.audit import Limits

SAMPLE = "sample:"

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="File (extxyz, Parquet, vasprun.xml, db, ...), folder, store, part of a store (STORE:train), or sample:dft_pairs.",
        show_default=False,
    ),
]
Functional = Annotated[
    str | None,
    typer.Option(
        "--functional", "-f", metavar="NAME", help="Functional of the labels: PBE, r2SCAN, HSE06, ...", show_default=False
    ),
]
Device = Annotated[str, typer.Option(metavar="DEVICE", help="cpu, cuda, cuda:<n> or mps.")]
Dtype = Annotated[str, typer.Option(metavar="DTYPE", help="float32, or float64 for finite differences and tight tolerances.")]
Json = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Also write all numbers as JSON.", show_default=False)
]
FunctionalLow = Annotated[
    str | None,
    typer.Option("--low", "--functional-low", metavar="NAME", help="Functional of LOW: PBE, ...", show_default=False),
]
FunctionalHigh = Annotated[
    str | None,
    typer.Option("--high", "--functional-high", metavar="NAME", help="Functional of HIGH: r2SCAN, ...", show_default=False),
]
PairBy = Annotated[
    str | None,
    typer.Option(
        "--pair-by",
        "--by",
        metavar="WHAT",
        help="frame (ids), material (ids; lowest energy of each) or structure (matched); by default the first that works.",
        show_default=False,
    ),
]
METHODS = "{methods}"  # in a help text: the names of the registry


class NamesMethods(TyperCommand):
    """A command whose help names the methods of transfer, which are imported only for that."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help."""
        from xclimb.transfer.methods import METHODS as registry

        for parameter in self.params:
            if METHODS in (text := getattr(parameter, "help", None) or ""):
                parameter.help = text.replace(METHODS, ", ".join(registry))  # type: ignore[attr-defined]
        super().format_help(ctx, formatter)


_ENDS = "Energies of the pure elements at the level of {}: data that hold them, or JSON of eV/atom by symbol."
EndsLow = Annotated[str | None, typer.Option(metavar="FILE", help=_ENDS.format("LOW"), show_default=False)]
EndsHigh = Annotated[str | None, typer.Option(metavar="FILE", help=_ENDS.format("HIGH"), show_default=False)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
# options of every command that reads data, by the arguments of xclimb.read -> placeholder, help
_DATA_OPTIONS = {
    "energy_key": ("KEY", "Name of the energy (eV) in the file, if it is not recognised."),
    "forces_key": ("KEY", "Name of the forces (eV/Å)."),
    "stress_key": ("KEY", "Name of the stress (eV/Å³, tension positive)."),
    "virial_key": ("KEY", "Name of the virial (eV; stress is -virial/V)."),
    "magmom_key": ("KEY", "Name of the magnetic moments (µB)."),
    "only": ("LEVEL", "Keep one level of theory, pass over the others: r2SCAN, 'PBE-D3(BJ)'; of LOW and HIGH: PBE,r2SCAN."),
}


class FormatsCommand(TyperCommand):
    """A command whose help lists the formats of files and their energies, read from the registry when it is shown."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        from xclimb.formats import energy_names, formats

        energies = ", ".join(f"{' or '.join(names)} ({program})" for program, names in energy_names().items())
        for option in self.params:
            if option.name == "energy":
                option.help = f"{energies}."  # type: ignore[attr-defined]
        kinds = "; ".join(what.replace("`", "") for one in formats() for what in one.reads)
        self.epilog = f"Formats: {kinds}."
        super().format_help(ctx, formatter)


@dataclass(frozen=True)
class DataOptions:
    """Options of every command that reads data.

    Args:
        keys: names of labels that the user gives.
        only: the one level of theory to read; two with a comma between where there are two sets of data.
    """

    keys: LabelKeys = field(default_factory=LabelKeys)
    only: str | None = None

    @classmethod
    def from_arguments(cls, named: Mapping[str, Any]) -> "DataOptions":
        """The options out of keyword arguments, among which may be others."""
        return cls(LabelKeys.from_arguments(named), named.get("only"))

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of :func:`xclimb.read`."""
        return self.keys.arguments() | {"only": self.only}

    def words(self) -> str:
        """The options that are given, as words of a command line that follow others."""
        given = {name: value for name, value in self.arguments().items() if value is not None}
        return "".join(f" --{name.replace('_', '-')} {shlex.quote(value)}" for name, value in given.items())

    def of_both(self) -> "tuple[DataOptions, DataOptions]":
        """Options for LOW and for HIGH."""
        low, _, high = (self.only or "").partition(",")
        return replace(self, only=low or None), replace(self, only=high or low or None)


def takes_data_options(command: Callable[..., None]) -> Callable[..., None]:
    """Append ``--energy-key``, ..., ``--only`` to a command, which gets them together as the argument ``reading``."""
    parameters = [one for one in signature(command).parameters.values() if one.name != "reading"]
    for name, (placeholder, text) in _DATA_OPTIONS.items():
        option = typer.Option(metavar=placeholder, help=text, show_default=False, rich_help_panel="Data in the files")
        parameters.append(Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, option]))

    @wraps(command)
    def run(**arguments: Any) -> None:
        given = {name: arguments.pop(name, None) for name in _DATA_OPTIONS}
        command(**arguments, reading=DataOptions.from_arguments(given))

    run.__signature__ = signature(command).replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def read_data(data: str, functional: str | None = None, reading: DataOptions | None = None, **settings: Any) -> "Frames":
    """Labelled frames from whatever the user named: file, folder, store (its checksums are compared) or embedded sample.

    A store has its labels under the names of xclimb, so keys do not concern it.

    Raises:
        DataError, TheoryError: from reading.
    """
    reading = reading or DataOptions()
    if data.startswith(SAMPLE):
        from xclimb.data.samples import load_sample

        sample, level = data.removeprefix(SAMPLE), reading.only or functional
        if level is None and settings.get("labels") == "ignored":
            return load_sample(sample)
        return load_sample(sample, level)
    from xclimb.data.store import is_store, iter_store, open_store
    from xclimb.data.stored_split import named_part
    from xclimb.ingest import read

    named = named_part(data)
    store = named[0] if named else data
    if is_store(store):
        for _ in iter_store(store, verify=True):
            pass
        from xclimb.ingest.levels import check_wanted, resolve_theory

        frames = open_store(data)  # memory-mapped: it was audited when it was made
        check_wanted(frames.theory, reading.only, functional, data)
        return frames.with_theory(resolve_theory(frames.theory, functional, None, data))
    return read(data, functional, **reading.arguments(), **settings)


def read_ends(
    source: str | None, functional: str | None, reading: DataOptions | None = None
) -> "Frames | dict[str, float] | None":
    """Elemental end points: data as in :func:`read_data`, or a JSON file of eV/atom by symbol.

    Raises:
        ConfigError: on a JSON file that cannot be read, or holds something else.
        DataError, TheoryError: from reading data.
    """
    if source is None or not source.endswith(".json"):
        return None if source is None else read_data(source, functional, reading)
    from xclimb.files import read_json

    try:
        energies = read_json(Path(source))
    except (OSError, ValueError) as problem:
        text = problem.strerror if isinstance(problem, OSError) else "no JSON"
        raise ConfigError(f'cannot read end points from {source} ({text}): write {{"Li": -1.9, ...}}, eV/atom') from None
    if not isinstance(energies, dict):
        raise ConfigError(f'{source} holds no end points: write {{"Li": -1.9, ...}}, eV/atom')
    return energies


def read_compared(
    low: str, high: str | None, functional_low: str | None, functional_high: str | None, reading: DataOptions | None = None
) -> "tuple[Any, Frames]":
    """Read what is compared: data or a potential, and data; one name for both if the second is left out.

    Of a folder that holds both, each is the level of theory of its functional.

    Raises:
        ConfigError: if it is not clear what is to be compared.
    """
    predicted = is_potential(low)
    if predicted and (high is None or functional_low is not None):
        raise ConfigError(f"{low} is a potential and knows its functional: give it a data set to predict, and no --low")
    if high is None and (functional_low is None or functional_high is None):
        raise ConfigError(
            f"which two functionals of {low} are to be compared? give --low PBE --high r2SCAN, or a second data set"
        )
    reading = reading or DataOptions()
    if high is None and reading.only is None and Path(low).is_dir():
        reading = replace(reading, only=f"{functional_low},{functional_high}")
    of_low, of_high = reading.of_both()
    if predicted:
        from xclimb.models.zoo import load

        return load(low), read_data(str(high), functional_high, of_high)
    return read_data(low, functional_low, of_low), read_data(high or low, functional_high, of_high)


def pairs(entries: list[str], option: str) -> dict[str, str]:
    """Entries such as ``force=warn`` as a dictionary.

    Raises:
        ConfigError: on an entry without ``=``.
    """
    wrong = [entry for entry in entries if "=" not in entry]
    if wrong:
        raise ConfigError(f"--{option} {wrong[0]} has no '=': write --{option} name=value")
    return {name: value for name, _, value in (entry.partition("=") for entry in entries)}


def named_limits(entries: list[str]) -> "Limits":
    """Limits of the audit, those named changed.

    Raises:
        ConfigError: on an unknown limit, or a value that is no number.
    """
    from dataclasses import fields

    from xclimb.ingest.audit import Limits

    known = [field.name for field in fields(Limits)]
    given = {}
    for name, value in pairs(entries, "limit").items():
        if name not in known:
            raise ConfigError(f"there is no limit {name!r}: known are {', '.join(known)}")
        try:
            given[name] = float(value)
        except ValueError:
            raise ConfigError(f"--limit {name}={value}: {value!r} is no number") from None
    return Limits(**given)


def is_potential(name: str) -> bool:
    """Whether the user named a potential and no data: a run folder, a saved potential, or what looks like a zoo name."""
    path = Path(name)
    if path.exists():
        return any((place / "potential.json").exists() for place in (path, path / "checkpoints" / "best"))
    if "-" not in name or "/" in name:
        return False
    from xclimb.models.zoo import model_names

    return name.partition("-")[0] in {known.partition("-")[0] for known in model_names()}


def run_settings(config: Path | None, named: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """Settings of a transfer: the file, over it the options given by name, over it ``--set`` entries; nested, not yet checked.

    Args:
        config: YAML file of settings.
        named: options by the name of their setting; None was not given.
        overrides: entries such as ``loss.energy=2``.

    Raises:
        ConfigError: on an unreadable file or an entry without ``=``.
    """
    from xclimb.config import TransferConfig
    from xclimb.settings import merge, parse_overrides

    given = {name: value for name, value in named.items() if value is not None}
    sets = parse_overrides(overrides)
    # a method by --method and its settings by --set go together
    twice = sorted(name for name in given.keys() & sets.keys() if not isinstance(sets[name], dict) or "name" in sets[name])
    if twice:
        raise ConfigError(f"{twice[0]} is given twice, by --{twice[0]} and by --set: leave one out")
    base = TransferConfig.read(config) if config else {}
    if config:
        TransferConfig.build(base, where=str(config))  # its errors name the file
    return merge(merge(base, given), sets)


def is_finished(folder: Path) -> bool:
    """Whether the run in a folder has come to its end."""
    from xclimb.runs.schema.run import read_record

    return (folder / "run.json").is_file() and read_record(folder).state == "finished"


def resumed(folder: Path, settings: dict[str, Any], inputs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings and data of the run in a folder, under those that were given again; whether these may differ is not checked.

    Args:
        folder: of an interrupted transfer.
        settings: as of :func:`run_settings`.
        inputs: what names the data; None was not given.

    Raises:
        ConfigError: if the folder holds no run.
    """
    from xclimb.runs.schema.run import read_record
    from xclimb.settings import merge
    from xclimb.transfer.resume import former_settings

    former = former_settings(folder).model_dump()
    known = read_record(folder).inputs
    given = {name: value for name, value in inputs.items() if value is not None}
    return merge(former, settings), inputs | known | given
